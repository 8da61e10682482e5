package access_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

func TestMain(m *testing.M) { os.Exit(wait.Main(m)) }

// crowd returns a connection for each client.
func crowd(t *testing.T, e *bustest.Env) map[string]*nats.Conn {
	t.Helper()
	auth := tokentest.New(t)
	e.RunCallout(t, auth)
	at := map[string]*nats.Conn{}
	for _, who := range everybody {
		var nc *nats.Conn
		var err error
		switch who {
		case access.Watcher:
			nc, err = nats.Connect(e.URL())
		case user:
			nc, err = e.ConnectWithToken(auth.Token(token.User, tokentest.Ulla, "ulla@example.com"))
		case rider:
			nc, err = e.ConnectWithToken(auth.Token(token.Rider, tokentest.Rita, "rita@example.com"))
		default:
			nc = e.ConnectAs(t, who).NATS()
		}
		if err != nil {
			t.Fatalf("%s: %v", who, err)
		}
		if who == access.Watcher || who == user || who == rider {
			t.Cleanup(nc.Close)
		}
		at[who] = nc
	}
	return at
}

// allowed tries an operation, and reports whether the server allows it. The server reports a
// permissions violation asynchronously, not as the result of the operation.
func allowed(t *testing.T, nc *nats.Conn, verb, subject string) bool {
	t.Helper()
	violation := `publish to "` + subject + `"`
	if verb == sub {
		violation = `subscription to "` + subject + `"`
		s, err := nc.SubscribeSync(subject)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Unsubscribe() }() // it may have been rejected
	} else if err := nc.Publish(subject, nil); err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(wait.Patience); err != nil {
		t.Fatal(err)
	}
	last := nc.LastError()
	return last == nil || !strings.Contains(strings.ToLower(last.Error()), strings.ToLower(violation))
}

// Every client tries every cell with a real connection. Those that may do it succeed, and no
// others.
func TestEveryCell(t *testing.T) {
	bustest.Setup{Closed: true, Watch: true}.Sizes(t, func(t *testing.T, e *bustest.Env) {
		at := crowd(t, e)
		tried := 0
		// Messages are empty, so most operations have no effect. Those that have are not tried by
		// clients that may do them.
		for _, c := range cells() {
			for _, who := range everybody {
				if slices.Contains(c.may, who) && harmful(c) {
					continue
				}
				tried++
				if got, want := allowed(t, at[who], c.verb, c.subject), slices.Contains(c.may, who); got != want {
					t.Errorf("%s may %s %s: %v, want %v", who, c.verb, c.subject, got, want)
				}
			}
		}
		t.Logf("%d cells", tried)
	})
}

// harmful reports whether a permitted operation would break the checks after it. TestOperator shows
// that the operator may do them.
func harmful(c cell) bool {
	for _, call := range []string{"DELETE", "PURGE"} {
		if c.verb == pub && strings.HasPrefix(c.subject, "$JS.API.") && strings.Contains(c.subject, "."+call+".") {
			return true
		}
	}
	// it would take requests away from the callout
	return c.subject == "$SYS.REQ.USER.AUTH" && c.verb == sub
}

// A cell covers each permission of the table, so the table cannot grow without a cell.
func TestTableIsTried(t *testing.T) {
	table := access.Table()
	for role, id := range map[booking.Role]string{booking.User: tokentest.Ulla, booking.Rider: tokentest.Rita} {
		g, ok := access.Of(role, id)
		if !ok {
			t.Fatalf("a %s has no permissions", role)
		}
		g.Who = map[booking.Role]string{booking.User: user, booking.Rider: rider}[role]
		table = append(table, g)
	}
	for _, g := range table {
		for verb, patterns := range map[string][]string{pub: g.Publish, sub: g.Subscribe} {
			for _, p := range patterns {
				if !slices.ContainsFunc(cells(), func(c cell) bool {
					return c.verb == verb && slices.Contains(c.may, g.Who) && covers(p, c.subject)
				}) {
					t.Errorf("no cell covers that %s may %s %s", g.Who, verb, p)
				}
			}
		}
	}
	if _, ok := access.Of(booking.Service, b); ok {
		t.Error("a service has permissions by its token")
	}
}

// covers reports whether a NATS pattern covers a subject, which may be a pattern itself.
func covers(pattern, subject string) bool {
	p, s := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i := range p {
		if p[i] == ">" {
			return i < len(s)
		}
		if i >= len(s) || p[i] != "*" && p[i] != s[i] || s[i] == ">" {
			return false
		}
	}
	return len(p) == len(s)
}

// The operator administers streams.
func TestOperator(t *testing.T) {
	e := bustest.RunClosed(t, false)
	js := e.ConnectAs(t, access.Operator).JetStream()
	s, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "MORE",
		Subjects: []string{"audit.auth.more.>"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Error(err)
	}
	if err := js.DeleteStream(t.Context(), "MORE"); err != nil {
		t.Error(err)
	}
	if err := bus.Provision(t.Context(), e.ConnectAs(t, access.Operator), e.Plan()); err != nil {
		t.Errorf("provision again: %v", err)
	}
}

// Watchers receive the demo feed as booking.>, and never the republished messages of the ledger,
// which have the same subjects.
func TestWatcher(t *testing.T) {
	e := bustest.RunClosed(t, true)
	nc, err := nats.Connect(e.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	watched, err := nc.SubscribeSync("booking.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	// The server republishes this as booking.> in the account of the ledger, with the token.
	secret := &nats.Msg{Subject: "ledger.booking." + b + ".1.requested",
		Header: nats.Header{"Authorization": {"Bearer eyJ"}}}
	publisher := e.ConnectAs(t, access.Usersvc)
	if _, err := publisher.JetStream().PublishMsg(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if err := publisher.NATS().Publish("feed.booking."+b+".1.requested", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	m, err := watched.NextMsg(wait.Patience)
	if err != nil || m.Subject != "booking."+b+".1.requested" || string(m.Data) != "{}" || len(m.Header) != 0 {
		t.Errorf("the watcher received %+v, %v", m, err)
	}
	if m, err := watched.NextMsg(100 * time.Millisecond); err == nil {
		t.Errorf("the watcher also received %+v", m)
	}
	// Without the option, watchers are rejected.
	closed := bustest.RunClosed(t, false)
	closed.RunCallout(t, tokentest.New(t))
	if nc, err := nats.Connect(closed.URL()); err == nil {
		nc.Close()
		t.Error("accepted a client without credentials")
	}
}

// Each event has one service that may write it, so that the stolen key of another one does not. Two
// are left that both services write, because both act when a deadline passes.
func TestOneWriterAnEvent(t *testing.T) {
	both := []booking.Kind{booking.Expired, booking.Released}
	for _, k := range booking.Kinds() {
		var writers []string
		for _, g := range access.Table() {
			if g.Who != access.Operator && slices.Contains(g.Publish, bus.EventPattern(k)) {
				writers = append(writers, g.Who)
			}
		}
		if want := 1 + map[bool]int{true: 1}[slices.Contains(both, k)]; len(writers) != want {
			t.Errorf("%s is written by %v", k, writers)
		}
	}
}
