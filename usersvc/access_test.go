package usersvc_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pillion/token"
	"pillion/usersvc"
	"pillion/web/webtest"
)

// calls are all calls of the service, with the sentence for whoever has another role.
var calls = []struct{ method, target, sentence string }{
	{"POST", "/book", "Only users can book rides"},
	{"GET", "/quote", "Only users can ask for quotes"},
	{"GET", "/availability", "Only users can ask for raiders nearby"},
	{"GET", "/bookings", "Only users can list their bookings"},
	{"GET", "/bookings/" + wrong, "Only users can see their bookings"},
	{"POST", "/bookings/" + wrong + "/cancel", "Only users can cancel bookings"},
	{"POST", "/bookings/" + wrong + "/rate", "Only users can rate their rides here"},
}

func TestOnlyUsers(t *testing.T) {
	e := newEnv(t)
	for _, c := range calls {
		for role, sentence := range map[token.Role]string{token.Rider: c.sentence, token.Service: "Invalid token"} {
			w := e.call(c.method, c.target, e.auth.Token(role, rita, "rider@example.com"), "{}")
			refused(t, w, http.StatusForbidden, sentence)
		}
	}
	e.nothingStored()
}

func TestAuthorizationHeader(t *testing.T) {
	e := newEnv(t)
	good := e.user(ulla)
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
			t.Run(a.name+" "+c.method+" "+c.target, func(t *testing.T) {
				r := request(c.method, c.target+"?access_token="+good, "", `{"token":"`+good+`"}`)
				for _, v := range a.values {
					r.Header.Add("Authorization", v)
				}
				w := httptest.NewRecorder()
				e.handler.ServeHTTP(w, r)
				if w.Code != a.status || a.sentence != "" && w.Body.String() != a.sentence {
					t.Errorf("answer %d %q, want %d %q", w.Code, w.Body, a.status, a.sentence)
				}
				if got := w.Header().Get("WWW-Authenticate"); got != a.challenge {
					t.Errorf("WWW-Authenticate: %q, want %q", got, a.challenge)
				}
				webtest.ValidateAnswer(t, usersvc.OpenAPI, r, w)
			})
		}
	}
	e.nothingStored()
	for _, scheme := range []string{"bearer ", "BEARER ", "Bearer  "} {
		object(t, e.call("POST", "/book", "", "{}", "Authorization", scheme+good))
	}
}

func TestForgedTokens(t *testing.T) {
	e := newEnv(t)
	for _, forged := range e.auth.Forgeries() {
		if strings.Trim(forged.Token, " ") != forged.Token {
			continue // spaces around a token are not the token's, in a header
		}
		t.Run(forged.Name, func(t *testing.T) {
			for _, c := range calls {
				w := httptest.NewRecorder()
				e.handler.ServeHTTP(w, request(c.method, c.target, "", "{}", "Authorization", "Bearer "+forged.Token))
				if forged.Token == "" || strings.ContainsAny(forged.Token, " ,\t") { // not one token: the header is what is wrong
					if w.Code != http.StatusBadRequest && w.Code != http.StatusUnauthorized {
						t.Errorf("%s %s: answer %d %q", c.method, c.target, w.Code, w.Body)
					}
					continue
				}
				refused(t, w, http.StatusForbidden, "Invalid token")
			}
		})
	}
	e.nothingStored()
}

// nothingStored fails the test if anything was appended.
func (e *env) nothingStored() {
	e.t.Helper()
	if n := e.ledger.Appended(); n != 0 {
		e.t.Errorf("%d events were stored", n)
	}
}
