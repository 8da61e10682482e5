package ridersvc_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pillion/ridersvc"
	"pillion/token"
	"pillion/web/webtest"
)

func TestRoutesMatchOpenAPI(t *testing.T) {
	webtest.RoutesMatchOpenAPI(t, newEnv(t).handler, ridersvc.OpenAPI)
}

func TestNewNamesEverythingMissing(t *testing.T) {
	_, err := ridersvc.New(ridersvc.Config{})
	if err == nil {
		t.Fatal("a service without anything was made")
	}
	for _, name := range []string{"Desk", "Board", "Ready", "Ledger", "Verifier", "Fleet", "Announce"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%q does not name %s", err, name)
		}
	}
}

// calls are all calls of the service, with the sentence for whoever has another role.
var calls = []struct{ method, target, sentence string }{
	{"POST", "/accept-booking", "Only raiders can accept bookings"},
	{"GET", "/open-bookings", "Only raiders can see open bookings"},
	{"GET", "/bookings", "Only raiders can list their bookings"},
	{"GET", "/bookings/" + wrong, "Only raiders can see their bookings"},
	{"POST", "/bookings/" + wrong + "/arrive", "Only raiders can say that they have arrived"},
	{"POST", "/bookings/" + wrong + "/start", "Only raiders can start rides"},
	{"POST", "/bookings/" + wrong + "/complete", "Only raiders can complete rides"},
	{"POST", "/bookings/" + wrong + "/release", "Only raiders can give bookings back"},
	{"POST", "/bookings/" + wrong + "/rate", "Only raiders can rate their rides here"},
	{"PUT", "/position", "Only raiders can report a position"},
	{"POST", "/online", "Only raiders can go online"},
	{"POST", "/offline", "Only raiders can go offline"},
}

func TestOnlyRiders(t *testing.T) {
	e := newEnv(t)
	e.book()
	for _, c := range calls {
		for role, sentence := range map[token.Role]string{token.User: c.sentence, token.Service: "Invalid token"} {
			w := e.call(c.method, c.target, e.auth.Token(role, ulla, "john@example.com"), "{}")
			refused(t, w, http.StatusForbidden, sentence)
		}
	}
	e.nothingTried()
}

func TestAuthorizationHeader(t *testing.T) {
	e := newEnv(t)
	id := e.book()
	good := e.rider(rita)
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
				webtest.ValidateAnswer(t, ridersvc.OpenAPI, r, w)
			})
		}
	}
	e.nothingTried()
	for _, scheme := range []string{"bearer ", "BEARER ", "Bearer  "} { // the second and third time it is the rider's already
		won(t, e.call("POST", "/accept-booking", "", named(id), "Authorization", scheme+good), rita, id)
	}
}

func TestForgedTokens(t *testing.T) {
	e := newEnv(t)
	e.book()
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
	e.nothingTried()
}

func TestTokensAreNeverLoggedNorShown(t *testing.T) {
	e := newEnv(t)
	e.book()
	bearer := e.rider(rita)
	answers := e.call("POST", "/accept-booking", bearer, `{}`).Body.String() +
		e.call("GET", "/open-bookings", bearer, ``).Body.String() +
		e.call("POST", "/accept-booking", bearer, `{`).Body.String() +
		e.call("POST", "/accept-booking", "x"+bearer, `{}`).Body.String()
	secret := bearer[strings.LastIndex(bearer, ".")+1:]
	if strings.Contains(answers, secret) {
		t.Error("an answer has the token in it")
	}
	if strings.Contains(e.log.text(), secret) {
		t.Error("the log has the token in it")
	}
	if !strings.Contains(e.log.text(), rita) {
		t.Error("the log does not say whose request it was")
	}
}

func TestProblemsForPrograms(t *testing.T) {
	e := newEnv(t)
	for _, c := range []struct{ method, target, bearer, body, code string }{
		{"POST", "/accept-booking", "", "{}", "missing_authorization"},
		{"POST", "/accept-booking", "x", "{}", "invalid_token"},
		{"POST", "/accept-booking", e.auth.Token(token.User, ulla, "john@example.com"), "{}", "wrong_role"},
		{"POST", "/accept-booking", e.rider(rita), "{}", "no_open_bookings"},
		{"POST", "/accept-booking", e.rider(rita), named(wrong), "booking_not_found"},
		{"POST", "/accept-booking", e.rider(rita), named("x"), "invalid_booking_id"},
		{"GET", "/open-bookings?limit=0", e.rider(rita), "", "limit"},
	} {
		w := e.call(c.method, c.target, c.bearer, c.body, "Accept", "application/json")
		if w.Header().Get("Content-Type") != "application/problem+json" || !strings.Contains(w.Body.String(), `"code":"`+c.code+`"`) {
			t.Errorf("%s %s: answer %s %s, want code %s", c.method, c.target, w.Header().Get("Content-Type"), w.Body, c.code)
		}
	}
}

// nothingTried fails the test if the service has tried to append anything.
func (e *env) nothingTried() {
	e.t.Helper()
	if n := e.ledger.tried(); n != 0 {
		e.t.Errorf("%d events were appended or tried", n)
	}
}
