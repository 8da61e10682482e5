package usersvc_test

import (
	"net/http"
	"testing"

	"github.com/example/pillion/token"
	"github.com/example/pillion/web/webtest"
)

// calls are all calls of the service, with the sentence for callers in another role.
var calls = []webtest.Call{
	{Method: "POST", Target: "/book", Sentence: "Only users can book rides"},
	{Method: "GET", Target: "/quote", Sentence: "Only users can ask for quotes"},
	{Method: "GET", Target: "/availability", Sentence: "Only users can ask for raiders nearby"},
	{Method: "GET", Target: "/bookings", Sentence: "Only users can list their bookings"},
	{Method: "GET", Target: "/bookings/" + wrong, Sentence: "Only users can see their bookings"},
	{Method: "POST", Target: "/bookings/" + wrong + "/cancel", Sentence: "Only users can cancel bookings"},
	{Method: "POST", Target: "/bookings/" + wrong + "/rate", Sentence: "Only users can rate their rides here"},
}

func TestOnlyUsers(t *testing.T) {
	e := newEnv(t)
	for _, c := range calls {
		for role, sentence := range map[token.Role]string{token.Rider: c.Sentence, token.Service: "Invalid token"} {
			w := e.call(c.Method, c.Target, e.auth.Token(role, rita, "rider@example.com"), "{}")
			webtest.Refused(t, w, http.StatusForbidden, sentence)
		}
	}
	e.nothingStored()
}

func TestAuthorizationHeader(t *testing.T) {
	e := newEnv(t)
	good := e.user(ulla)
	webtest.WantsAToken(t, e.handler, good, calls...)
	e.nothingStored()
	for _, scheme := range []string{"bearer ", "BEARER ", "Bearer  "} {
		webtest.Object(t, e.call("POST", "/book", "", "{}", "Authorization", scheme+good))
	}
}

func TestForgedTokens(t *testing.T) {
	e := newEnv(t)
	webtest.RefusesForgeries(t, e.handler, e.auth, calls...)
	e.nothingStored()
}

// nothingStored fails the test if anything was appended.
func (e *env) nothingStored() {
	e.t.Helper()
	if n := e.ledger.Appended(); n != 0 {
		e.t.Errorf("%d events were stored", n)
	}
}

func TestTokensOfOlderBuilds(t *testing.T) {
	e := newEnv(t)
	webtest.OldTokensOnlyRead(t, e.handler, e.auth, token.User, calls...)
	e.nothingStored()
}
