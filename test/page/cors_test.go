package page

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/example/pillion/test/proctest"
)

// elsewhere serves an empty page at an origin of its own, and returns the origin.
func elsewhere(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!doctype html><title>An app</title><body>An app</body>")
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// app is what the page of an app does: it logs in, books, and follows the booking until it is
// cancelled. It returns what it has seen, or why it could not.
const app = `async (at) => {
  try {
    const send = async (path, body, headers = {}) => {
      const answer = await fetch(at + path, { method: 'POST', body: JSON.stringify(body),
        headers: { 'Content-Type': 'application/json', Accept: 'application/json', ...headers } });
      return answer.json();
    };
    const { token } = await send('/auth/login', { email: 'john@example.com', password: 'password123', role: 'user' });
    const bearer = { Authorization: 'Bearer ' + token };
    const booked = await send('/user/book', {}, { ...bearer, 'Idempotency-Key': 'one' });
    const stream = await fetch(at + '/user/bookings/' + booked.booking_id + '/events', { headers: { ...bearer, 'Last-Event-ID': '1' } });
    const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
    let seen = (await reader.read()).value;
    await send('/user/bookings/' + booked.booking_id + '/cancel', {}, { ...bearer, 'Idempotency-Key': 'two' });
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return seen;
      seen += value;
    }
  } catch (error) {
    return 'refused: ' + error;
  }
}`

// TestOtherOrigins runs an app in pages of two other origins. One of them may call the services.
func TestOtherOrigins(t *testing.T) {
	browser := newBrowser(t)
	allowed, stranger := elsewhere(t), elsewhere(t)
	p := proctest.Pillion(t, t.TempDir(), "--demo", "--addr=127.0.0.1:0", "--cors-origins="+allowed)
	run := func(origin string) (seen string) {
		t.Helper()
		ctx, closeTab := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
		t.Cleanup(closeTab)
		if err := chromedp.Do(ctx); err != nil { // without a time limit, which would be the tab's
			t.Fatalf("open a tab: %v", err)
		}
		b := &tab{TB: t, ctx: ctx, origin: origin}
		b.run(chromedp.Navigate(origin + "/"))
		b.js(&seen, app, p.At["all"])
		return seen
	}
	if seen := run(stranger); !strings.HasPrefix(seen, "refused: TypeError") {
		t.Errorf("the page of a stranger has seen %s", seen)
	}
	seen := run(allowed)
	for _, want := range []string{"event: cancelled", `"reason":"booking_over"`} {
		if !strings.Contains(seen, want) {
			t.Errorf("the page of an app that is allowed has seen %s", seen)
		}
	}
	// The login of the stranger's page has not even been sent: its preflight is refused.
	_, metrics := proctest.Get(t, p.At["ops"]+"/metrics")
	const want = `pillion_http_requests_total{method="POST",route="/login",service="authsvc",status="200"} 1`
	if !strings.Contains(metrics, want) {
		t.Errorf("the metrics have no %s", want)
	}
}
