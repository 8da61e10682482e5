package ledgertest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
)

// Booked books a ride that stays open until the deadline, and returns its booking.
func Booked(t *testing.T, l *ledger.Ledger, p Person, deadline time.Duration, trip ...booking.Trip) booking.ID {
	t.Helper()
	d, err := booking.NewDesk(l, booking.DeskOptions{Deadline: deadline})
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.Book(t.Context(), p.Command(), booking.ID(booking.NewID()), append(trip, booking.Trip{})[0])
	if err != nil {
		t.Fatal(err)
	}
	return b.ID
}

// State returns a booking's state in the ledger.
func State(t *testing.T, l *ledger.Ledger, id booking.ID) booking.State {
	t.Helper()
	h, err := l.Load(t.Context(), id, booking.Fresh)
	if err != nil {
		t.Fatal(err)
	}
	return h.Booking.State
}

// A Watched is a service's verifier, with a watch of revocations. Stop ends the watch.
type Watched struct {
	*trust.RevocationWatch
	*token.Verifier
	Conn  *bus.Conn
	Epoch *trust.Epoch // that the watch advances
	Stop  func()
}

// Watch runs a watch of revocations on c until the test ends.
func (k *Kit) Watch(t testing.TB, c *bus.Conn) *Watched {
	t.Helper()
	epoch := new(trust.Epoch)
	w := trust.NewRevocationWatch(c, bustest.Anchor(), epoch)
	v, err := token.NewVerifier(token.Config{Keys: k.Auth.Keys(), Revocations: w})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("revocation watch: %v", err)
		}
	})
	t.Cleanup(stop)
	return &Watched{RevocationWatch: w, Verifier: v, Conn: c, Epoch: epoch, Stop: stop}
}

// Loaded waits until the watch is complete.
func (w *Watched) Loaded(t testing.TB) *Watched {
	t.Helper()
	wait.Until(t, "the revocations are there", func() bool { return w.Ready(t.Context()) == nil })
	return w
}

// Ledger opens a ledger that verifies with the watch.
func (w *Watched) Ledger(t testing.TB) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(w.Conn, ledger.Options{Source: "/test", Tokens: w.Verifier, Epoch: w.Epoch})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Login returns a new person with a session, and the session.
func (k *Kit) Login(t testing.TB, role booking.Role) (Person, string) {
	t.Helper()
	id, sid := booking.NewID(), booking.NewID()
	raw, c, err := k.Auth.Issuer(15 * time.Minute).Issue(token.Grant{Subject: id, Email: "somebody@example.com",
		Session: sid, Role: token.Role(role)})
	if err != nil {
		t.Fatal(err)
	}
	return Person{booking.Actor{ID: id, Role: role}, raw, string(c.Event)}, sid
}

// Revoke revokes tokens.
func Revoke(t testing.TB, c *bus.Conn, r token.Revocation) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	if err := bustest.Authority(c).Revoke(ctx, r); err != nil {
		t.Fatalf("revoke: %v", err)
	}
}

// WatchKeys runs a watch of keys until the test ends.
func WatchKeys(t testing.TB, c *bus.Conn, interval time.Duration, epoch *trust.Epoch) *trust.KeyWatch {
	t.Helper()
	w := trust.NewKeyWatch(c, bustest.Anchor(), interval, epoch)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("key watch: %v", err)
		}
	})
	return w
}
