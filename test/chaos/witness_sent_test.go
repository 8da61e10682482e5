//go:build linux

package chaos

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/example/pillion/booking/bookingtest"
	"github.com/example/pillion/token/tokentest"
)

// TestWitnessKnowsWhatWasSent kills a server that has received a request. The outcome is unknown,
// even though net/http retries the request and then fails to connect.
func TestWitnessKnowsWhatWasSent(t *testing.T) {
	var taken atomic.Bool
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/accept-booking" {
			return
		}
		taken.Store(true)
		server.Listener.Close()
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if err := conn.(*net.TCPConn).SetLinger(0); err != nil { // a reset, as after a kill
			t.Error(err)
		}
		conn.Close()
	}))
	defer server.Close()
	w := newWitness()
	ask := func(method, path, body string) error {
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+tokentest.Claiming("rita", "raider"))
		req.Header.Set("Idempotency-Key", "one")
		resp, err := w.RoundTrip(req)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	if err := ask("GET", "/", ""); err != nil { // opens a connection
		t.Fatal(err)
	}
	if err := ask("POST", "/accept-booking", `{"booking_id":"nosuchbookingnosuchbooking"}`); err == nil ||
		!taken.Load() {
		t.Fatalf("the request was taken: %v, and its error is %v", taken.Load(), err)
	}
	x := w.all[len(w.all)-1]
	if x.fate != broken || x.call == nil || x.call.Answer != bookingtest.Unknown {
		t.Errorf("the request is %q, as a call %v", x.fate, x.call)
	}
	if err := ask("POST", "/accept-booking", `{}`); err == nil {
		t.Fatal("a server still runs")
	}
	if x := w.all[len(w.all)-1]; x.fate != nobody || x.call != nil {
		t.Errorf("a request that no server has received is %q, as a call %v", x.fate, x.call)
	}
}
