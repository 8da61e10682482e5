package ridersvc_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/example/pillion/ridersvc"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web/webtest"
)

func TestRoutesMatchOpenAPI(t *testing.T) {
	e := newEnv(t)
	webtest.RoutesMatchOpenAPI(t, e.routes, "openapi.yaml")
	webtest.QueriesMatchOpenAPI(t, e.handler, "openapi.yaml", e.rider(rita), "POST /accept-booking")
}

func TestNewNamesEverythingMissing(t *testing.T) {
	_, err := ridersvc.New(ridersvc.Config{})
	if err == nil {
		t.Fatal("a service without anything was made")
	}
	for _, name := range []string{"Desk", "Board", "Ready", "Ledger", "Verifier", "Fleet", "Announce", "Roster"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%q does not name %s", err, name)
		}
	}
}

// calls are all calls of the service, with the sentence for callers in another role.
var calls = []webtest.Call{
	{Method: "POST", Target: "/accept-booking", Sentence: "Only raiders can accept bookings"},
	{Method: "GET", Target: "/open-bookings", Sentence: "Only raiders can see open bookings"},
	{Method: "GET", Target: "/bookings", Sentence: "Only raiders can list their bookings"},
	{Method: "GET", Target: "/bookings/" + wrong, Sentence: "Only raiders can see their bookings"},
	{Method: "POST", Target: "/bookings/" + wrong + "/arrive", Sentence: "Only raiders can say that they have arrived"},
	{Method: "POST", Target: "/bookings/" + wrong + "/start", Sentence: "Only raiders can start rides"},
	{Method: "POST", Target: "/bookings/" + wrong + "/complete", Sentence: "Only raiders can complete rides"},
	{Method: "POST", Target: "/bookings/" + wrong + "/release", Sentence: "Only raiders can give bookings back"},
	{Method: "POST", Target: "/bookings/" + wrong + "/rate", Sentence: "Only raiders can rate their rides here"},
	{Method: "PUT", Target: "/position", Sentence: "Only raiders can report a position"},
	{Method: "POST", Target: "/online", Sentence: "Only raiders can go online"},
	{Method: "POST", Target: "/offline", Sentence: "Only raiders can go offline"},
}

func TestOnlyRiders(t *testing.T) {
	e := newEnv(t)
	e.book()
	for _, c := range calls {
		for role, sentence := range map[token.Role]string{token.User: c.Sentence, token.Service: "Invalid token"} {
			w := e.call(c.Method, c.Target, e.auth.Token(role, ulla, "john@example.com"), "{}")
			webtest.Refused(t, w, http.StatusForbidden, sentence)
		}
	}
	e.nothingTried()
}

func TestAuthorizationHeader(t *testing.T) {
	e := newEnv(t)
	id := e.book()
	good := e.rider(rita)
	webtest.WantsAToken(t, e.handler, good, calls...)
	e.nothingTried()
	// the second and third time it is the rider's already
	for _, scheme := range []string{"bearer ", "BEARER ", "Bearer  "} {
		won(t, e.call("POST", "/accept-booking", "", named(id), "Authorization", scheme+good), rita, id)
	}
}

func TestForgedTokens(t *testing.T) {
	e := newEnv(t)
	e.book()
	webtest.RefusesForgeries(t, e.handler, e.auth, calls...)
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
	if strings.Contains(e.log.String(), secret) {
		t.Error("the log has the token in it")
	}
	if !strings.Contains(e.log.String(), rita) {
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
		if w.Header().Get("Content-Type") != "application/problem+json" ||
			!strings.Contains(w.Body.String(), `"code":"`+c.code+`"`) {
			t.Errorf("%s %s: answer %s %s, want code %s", c.method, c.target, w.Header().Get("Content-Type"), w.Body,
				c.code)
		}
	}
}

// nothingTried fails the test if the service has tried to append anything.
func (e *env) nothingTried() {
	e.t.Helper()
	if n := e.ledger.Tried(); n != 0 {
		e.t.Errorf("%d events were appended or tried", n)
	}
}

func TestTokensOfOlderBuilds(t *testing.T) {
	e := newEnv(t)
	webtest.OldTokensOnlyRead(t, e.handler, e.auth, token.Rider, calls...)
	e.nothingTried()
}
