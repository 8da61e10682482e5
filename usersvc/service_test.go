package usersvc_test

import (
	"strings"
	"testing"

	"github.com/example/pillion/usersvc"
	"github.com/example/pillion/web/webtest"
)

func TestRoutesMatchOpenAPI(t *testing.T) {
	e := newEnv(t)
	webtest.RoutesMatchOpenAPI(t, e.routes, "openapi.yaml")
	webtest.QueriesMatchOpenAPI(t, e.handler, "openapi.yaml", e.user(ulla), "POST /book")
}

func TestNewNamesEverythingMissing(t *testing.T) {
	_, err := usersvc.New(usersvc.Config{})
	if err == nil {
		t.Fatal("a service without anything was made")
	}
	for _, name := range []string{"Desk", "Board", "Ready", "Ledger", "Verifier", "Fleet"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%q does not name %s", err, name)
		}
	}
}

func TestTokensAreNeverLoggedNorShown(t *testing.T) {
	e := newEnv(t)
	bearer := e.user(ulla)
	answers := e.call("POST", "/book", bearer, `{}`).Body.String() +
		e.call("GET", "/bookings", bearer, ``).Body.String() +
		e.call("POST", "/book", bearer, `{`).Body.String() +
		e.call("POST", "/book", "x"+bearer, `{}`).Body.String()
	secret := bearer[strings.LastIndex(bearer, ".")+1:]
	if strings.Contains(answers, secret) {
		t.Error("an answer has the token in it")
	}
	if strings.Contains(e.log.String(), secret) {
		t.Error("the log has the token in it")
	}
	if !strings.Contains(e.log.String(), ulla) {
		t.Error("the log does not say whose request it was")
	}
}
