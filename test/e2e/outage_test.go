package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

// authsvc and its siblings start one service against the NATS server at p.nats.
func (p ports) authsvc(t testing.TB, data string) *proctest.Program {
	t.Helper()
	return proctest.Begin(t, "authsvc", "--demo", "--data", data, "--auth-addr", p.auth, "--ops-addr", p.authOps,
		"--nats-url", "nats://"+p.nats, p.key("authsvc"), "--services", p.keys)
}

func (p ports) usersvc(t testing.TB) *proctest.Program {
	t.Helper()
	return proctest.Begin(t, "usersvc", "--user-addr", p.user, "--ops-addr", p.userOps, "--nats-url", "nats://"+p.nats,
		p.key("usersvc"))
}

func (p ports) ridersvc(t testing.TB) *proctest.Program {
	t.Helper()
	return proctest.Begin(t, "ridersvc", "--rider-addr", p.rider, "--ops-addr", p.riderOps, "--nats-url",
		"nats://"+p.nats, p.key("ridersvc"))
}

// server starts an empty NATS server at p.nats that knows the keys of Pillion's services.
func (p ports) server(t testing.TB) {
	t.Helper()
	public, err := access.LoadOrCreate(p.keys)
	if err != nil {
		t.Fatal(err)
	}
	s, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Addr: p.nats, Access: access.Conf(public, false)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stop NATS: %v", err)
		}
	})
}

// TestServicesStartInAnyOrder starts services before what they need. Until then they are not ready,
// say so, and never answer "Invalid token".
func TestServicesStartInAnyOrder(t *testing.T) {
	t.Parallel()
	p := newPorts(t)
	user := p.usersvc(t)
	wait.Until(t, "usersvc answers on its ops address", func() bool { return probe(p.userOps) != 0 })
	if got := probe(p.userOps); got != http.StatusServiceUnavailable {
		t.Errorf("usersvc without NATS says %d on /readyz", got)
	}
	// A well-formed token cannot be refused without any key.
	made := newPorts(t)
	pillion(t, made, t.TempDir())
	some := login(t, made, "john@example.com", "user")
	a := mustCall(t, "POST", "http://"+p.user+"/book", "{}", "Authorization", "Bearer "+some)
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" ||
		strings.Contains(a.body, "Invalid token") {
		t.Errorf("book without NATS and authsvc: %d %v %q", a.status, a.header, a.body)
	}

	provision := proctest.Begin(t, "pillion", "provision", "--nats-url", "nats://"+p.nats,
		p.key("operator")) // waits for NATS as well
	p.server(t)
	if status := provision.Wait(t); status != 0 {
		t.Fatalf("provision ended with status %d", status)
	}
	auth := p.authsvc(t, t.TempDir())
	auth.Ready(t)
	user.Ready(t)
	token := login(t, p, "john@example.com", "user")
	if a := mustCall(t, "POST", "http://"+p.user+"/book", "{}", "Authorization",
		"Bearer "+token); a.status != http.StatusOK {
		t.Errorf("book once all are there: %d %s", a.status, a.body)
	}
}

// TestWithoutAuthsvc stops authsvc. Booking and accepting continue with existing tokens. After a
// restart both services report that they are not ready, because they have no service token (ADR
// 22).
func TestWithoutAuthsvc(t *testing.T) {
	t.Parallel()
	p := newPorts(t)
	p.server(t)
	if status := proctest.Begin(t, "pillion", "provision", "--nats-url", "nats://"+p.nats,
		p.key("operator")).Wait(t); status != 0 {
		t.Fatalf("provision ended with status %d", status)
	}
	auth, user, rider := p.authsvc(t, t.TempDir()), p.usersvc(t), p.ridersvc(t)
	auth.Ready(t)
	user.Ready(t)
	rider.Ready(t)
	userToken, raiderToken := "Bearer "+login(t, p, "john@example.com", "user"),
		"Bearer "+login(t, p, "rider@example.com", "raider")
	auth.Stop(t)

	bookAndAccept := func(when string) {
		t.Helper()
		if a := mustCall(t, "POST", "http://"+p.user+"/book", "{}", "Authorization",
			userToken); a.status != http.StatusOK {
			t.Errorf("%s: book: %d %s", when, a.status, a.body)
		}
		a := mustCall(t, "POST", "http://"+p.rider+"/accept-booking", "{}", "Authorization", raiderToken)
		if a.status != http.StatusOK {
			t.Errorf("%s: accept: %d %s", when, a.status, a.body)
		}
		if a := mustCall(t, "POST", "http://"+p.user+"/bookings/"+a.field("booking_id")+"/cancel", "{}",
			"Authorization", userToken); a.status != http.StatusOK {
			t.Errorf("%s: cancel: %d %s", when, a.status, a.body)
		}
	}
	bookAndAccept("authsvc is away")
	user.Stop(t)
	rider.Stop(t)
	user, rider = p.usersvc(t), p.ridersvc(t)
	for service, prog := range map[string]*proctest.Program{"usersvc": user, "ridersvc": rider} {
		prog.Listening(t)
		wait.Until(t, service+" lacks nothing but a token of its own", func() bool {
			status, words := prog.Readiness(t)
			return status == http.StatusServiceUnavailable && strings.HasPrefix(words, "identity of "+service) &&
				!strings.Contains(strings.TrimSpace(words), "\n")
		})
	}
	bookAndAccept("authsvc is away and the others have restarted")
}
