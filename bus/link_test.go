package bus_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"pillion/booking"
	"pillion/bus"
	"pillion/fault"
	"pillion/token/tokentest"
)

// While the client waits for the first word of a server that takes connections and says nothing, it holds its lock. Calls end with their contexts
// all the same.
func TestCallsDoNotWaitForDialling(t *testing.T) {
	addr := freeAddr(t)
	server := startAt(t, addr)
	conn, err := bus.Connect(bus.Config{URL: "nats://" + addr})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if err := bus.Provision(t.Context(), conn, bus.Plan{LedgerAge: time.Hour, LedgerSize: 1 << 20, Replicas: 1}); err != nil {
		t.Fatal(err)
	}
	ledger, err := bus.OpenLedger(conn, bus.LedgerOptions{Source: "/test", Tokens: tokentest.New(t).Verifier()})
	if err != nil {
		t.Fatal(err)
	}
	read := func(patience time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := ledger.Load(ctx, booking.ID(booking.NewID()), booking.Fresh)
		return err
	}
	if err := read(30 * time.Second); err != nil {
		t.Fatal(err)
	}

	server.stop(t)
	defer server.start(t) // who has started it stops it
	silent, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	dialled, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer dialled.Close()
	gaveUp, answered := make(chan struct{}), make(chan error, 1)
	go func() {
		_, _ = io.Copy(io.Discard, dialled)
		close(gaveUp)
	}()
	go func() { answered <- read(50 * time.Millisecond) }()
	select {
	case err := <-answered:
		if fault.KindOf(err) != fault.Unavailable {
			t.Errorf("a read without a server: %v", err)
		}
	case <-gaveUp:
		t.Error("a call that had 50 ms waited until the client gave up dialling")
	}
}
