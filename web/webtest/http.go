package webtest

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// Request returns a request with a bearer token, unless it is empty, and with headers, given as
// names and values in turn; a name that is given twice is sent twice. Its body is one that can be
// read once, as that of a request from a network.
func Request(method, target, bearer, body string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, target, io.NopCloser(strings.NewReader(body)))
	r.ContentLength = int64(len(body))
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// Refused fails the test unless w is that refusal, to the letter.
func Refused(t testing.TB, w *httptest.ResponseRecorder, status int, sentence string) {
	t.Helper()
	if w.Code != status || w.Body.String() != sentence {
		t.Errorf("answer %d %q, want %d %q", w.Code, w.Body, status, sentence)
	}
	if got := w.Header().Get("Content-Type"); got != "text/plain; charset=utf-8" {
		t.Errorf("refused as %q", got)
	}
}

// Object returns the JSON of a successful answer.
func Object(t testing.TB, w *httptest.ResponseRecorder) map[string]any {
	t.Helper()
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("answer %d %s %q, want 200 and JSON", w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	var v map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("answer %q: %v", w.Body, err)
	}
	return v
}

// Names returns the field names of an object, sorted.
func Names(v map[string]any) []string { return slices.Sorted(maps.Keys(v)) }

// A Call is one request that a token is needed for, with the sentence for callers with a token of
// another role.
type Call struct{ Method, Target, Sentence string }

// WantsAToken fails the test unless calls without one bearer token in the Authorization header are
// refused as they must be, whatever stands elsewhere (RFC 6750, section 3.1). good is a token that
// would do.
func WantsAToken(t *testing.T, h http.Handler, good string, calls ...Call) {
	t.Helper()
	const none = "Missing Authorization header"
	for _, a := range []struct {
		name      string
		values    []string
		status    int
		sentence  string // empty: whatever
		challenge string
	}{
		{"none", nil, 401, none, "Bearer"},
		{"Basic", []string{"Basic " + good}, 401, "", "Bearer"},
		{"BearerX", []string{"BearerX " + good}, 401, "", "Bearer"},
		{"empty", []string{""}, 401, "", "Bearer"},
		{"Bearer and nothing", []string{"Bearer "}, 401, "", "Bearer"},
		{"two headers", []string{"Bearer " + good, "Bearer " + good}, 400, "", `Bearer error="invalid_request"`},
		{"two tokens", []string{"Bearer " + good + ", Bearer " + good}, 400, "", `Bearer error="invalid_request"`},
		{"tab", []string{"Bearer\t" + good}, 400, "", `Bearer error="invalid_request"`},
		{"not a token", []string{"Bearer invalid.token.here"}, 403, "Invalid token", `Bearer error="invalid_token"`},
	} {
		for _, c := range calls {
			t.Run(a.name+" "+c.Method+" "+c.Target, func(t *testing.T) {
				r := Request(c.Method, c.Target+"?access_token="+good, "", `{"token":"`+good+`"}`)
				for _, v := range a.values {
					r.Header.Add("Authorization", v)
				}
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if w.Code != a.status || a.sentence != "" && w.Body.String() != a.sentence {
					t.Errorf("answer %d %q, want %d %q", w.Code, w.Body, a.status, a.sentence)
				}
				if got := w.Header().Get("WWW-Authenticate"); got != a.challenge {
					t.Errorf("WWW-Authenticate: %q, want %q", got, a.challenge)
				}
			})
		}
	}
}

// RefusesForgeries fails the test unless calls with any of the forged tokens are refused.
func RefusesForgeries(t *testing.T, h http.Handler, auth *tokentest.Authority, calls ...Call) {
	t.Helper()
	for _, forged := range auth.Forgeries() {
		if strings.Trim(forged.Token, " ") != forged.Token {
			continue // spaces around a token are not the token's, in a header
		}
		t.Run(forged.Name, func(t *testing.T) {
			for _, c := range calls {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, Request(c.Method, c.Target, "", "{}", "Authorization", "Bearer "+forged.Token))
				// not one token: the header is what is wrong
				if forged.Token == "" || strings.ContainsAny(forged.Token, " ,\t") {
					if w.Code != http.StatusBadRequest && w.Code != http.StatusUnauthorized {
						t.Errorf("%s %s: answer %d %q", c.Method, c.Target, w.Code, w.Body)
					}
					continue
				}
				Refused(t, w, http.StatusForbidden, "Invalid token")
			}
		})
	}
}

// OldTokensOnlyRead fails the test unless a token without an event token, as older builds issued
// them, is answered like one that has run out where a call writes events, and is good elsewhere.
func OldTokensOnlyRead(t *testing.T, h http.Handler, auth *tokentest.Authority, role token.Role, calls ...Call) {
	t.Helper()
	now := time.Now()
	old := auth.Raw(auth.Private, auth.Header(),
		auth.Claims(string(role), tokentest.Ulla, "ulla@example.com", now, now.Add(time.Minute)))
	for _, c := range calls {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, Request(c.Method, c.Target, old, "{}", "Accept", "application/problem+json"))
		writes := c.Method == http.MethodPost && strings.Contains(c.Target, "book")
		refused := w.Code == http.StatusForbidden && strings.Contains(w.Body.String(), `"code":"token_expired"`)
		if refused != writes {
			t.Errorf("%s %s with an old token: %d %s", c.Method, c.Target, w.Code, w.Body)
		}
	}
}
