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
	write := func(patience time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := conn.Bucket(bus.LimitsBucket).Create(ctx, booking.NewID(), []byte("1"))
		return err
	}
	if err := write(30 * time.Second); err != nil {
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
	gaveUp := make(chan struct{}) // two seconds later
	go func() {
		_, _ = io.Copy(io.Discard, dialled)
		close(gaveUp)
	}()
	if err := write(50 * time.Millisecond); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a write without a server: %v", err)
	}
	select {
	case <-gaveUp:
		t.Error("a call that had 50 ms waited until the client gave up waiting for a word")
	case <-time.After(100 * time.Millisecond): // what the one has to do with the other would be seen by then
	}
}
