package bus_test

import (
	"context"
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
	began := time.Now()
	if err := write(50 * time.Millisecond); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a write without a server: %v", err)
	}
	if took := time.Since(began); took > 1500*time.Millisecond { // the client waits for two seconds
		t.Errorf("a call that had 50 ms took %v", took)
	}
}
