package bus_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
)

// While the client waits for the first bytes of a silent server, it holds its lock. Calls still end
// with their contexts.
func TestCallsDoNotWaitForDialling(t *testing.T) { bustest.Bubble(t, testCallsDoNotWaitForDialling) }

func testCallsDoNotWaitForDialling(t *testing.T) {
	server := bustest.Away(t)
	server.Start(t)
	dialled := make(chan net.Conn)
	to := &dialler{server: server}
	conn, err := bus.Connect(bus.Config{InProcess: to})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if err := bus.Provision(t.Context(), conn, bus.Plan{LedgerAge: time.Hour, LedgerSize: 1 << 20,
		Replicas: 1}); err != nil {
		t.Fatal(err)
	}
	write := func(patience time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := conn.Bucket(bus.LimitsBucket).Create(ctx, booking.NewID(), []byte("1"))
		return err
	}
	if err := write(wait.Patience); err != nil {
		t.Fatal(err)
	}

	to.silent.Store(&dialled)
	server.Stop(t)
	defer (<-dialled).Close()
	began := time.Now()
	if err := write(50 * time.Millisecond); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a write without a server: %v", err)
	}
	if took := time.Since(began); took > 100*time.Millisecond { // the client waits for two seconds
		t.Errorf("a call that had 50 ms took %v", took)
	}
	to.silent.Store(nil)
}

// A dialler reaches a server, or, while silent is set, a listener that accepts connections and says
// nothing.
type dialler struct {
	server *bustest.Restartable
	silent atomic.Pointer[chan net.Conn]
}

// InProcessConn implements nats.InProcessConnProvider.
func (d *dialler) InProcessConn() (net.Conn, error) {
	taken := d.silent.Load()
	if taken == nil {
		return d.server.InProcessConn()
	}
	client, server := net.Pipe()
	select {
	case *taken <- server:
	default: // one is enough to look at
	}
	return client, nil
}
