package trust_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
)

// A watch that has lost its bucket says so within about two seconds, while requests go on with the
// known revocations. When the bucket is back, so is the watch, with the earlier revocations.
func TestWatchLostAndFound(t *testing.T) { bustest.Bubble(t, testWatchLostAndFound) }

func testWatchLostAndFound(t *testing.T) {
	k, server := ledgertest.New(t, nil), bustest.Away(t)
	conn, err := bus.Connect(bus.Config{InProcess: server, Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bustest.CloseConn(t, conn) })
	w := k.Watch(t, conn)
	if err := w.Ready(t.Context()); !errors.Is(err, token.ErrNoRevocations) {
		t.Errorf("ready without a server: %v", err)
	}
	server.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	wait.Until(t, "connected", func() bool { return conn.Ready(ctx) == nil })
	if err := w.Ready(ctx); !errors.Is(err, token.ErrNoRevocations) {
		t.Errorf("ready without a bucket: %v", err)
	}
	plan := bus.Plan{LedgerSize: 64 << 20}
	if err := bus.Provision(ctx, conn, plan); err != nil {
		t.Fatal(err)
	}
	w.Loaded(t)
	p, sid := k.Login(t, booking.User)
	other, _ := k.Login(t, booking.User)
	ledgertest.Revoke(t, conn, token.Revocation{Session: sid, At: time.Now()})
	refused(t, p.Token, w)
	requests := func(what string) {
		t.Helper()
		if _, err := w.Verify(ctx, p.Token); token.Reason(err) != "revoked" {
			t.Errorf("%s: the revoked token: %v", what, err)
		}
		if _, err := w.Verify(ctx, other.Token); err != nil {
			t.Errorf("%s: a good token: %v", what, err)
		}
	}
	lost := func(what string) {
		t.Helper()
		began := time.Now()
		wait.Until(t, what, func() bool { return errors.Is(w.Ready(ctx), trust.ErrRevocationsLost) })
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%s: said after %v, want about 2 s", what, took)
		}
		if err := w.Ready(ctx); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s: %v", what, err)
		}
		requests(what)
		if _, err := w.VerifyAt(ctx, other.Proof, time.Now().Add(time.Minute)); !errors.Is(err, token.ErrUndecided) {
			t.Errorf("%s: an event that is newer than what is known: %v", what, err)
		}
	}

	server.Stop(t)
	lost("the server is gone")
	server.Start(t)
	w.Loaded(t)
	requests("the server is back")
	if at, ok := k.Watch(t, conn).Loaded(t).Revoked(p.ID, sid, time.Now()); !ok {
		t.Errorf("the revocation did not outlive the server: %v", at)
	}

	if err := conn.JetStream().DeleteKeyValue(ctx, bus.RevocationsBucket); err != nil {
		t.Fatal(err)
	}
	lost("the bucket is gone")
	if err := bus.Provision(ctx, conn, plan); err != nil {
		t.Fatal(err)
	}
	w.Loaded(t)
	requests("another bucket is there")
	late, sid := k.Login(t, booking.User)
	ledgertest.Revoke(t, conn, token.Revocation{Session: sid, At: time.Now()})
	refused(t, late.Token, w)
}
