package ledger

import (
	"testing"

	"github.com/example/pillion/bus"
	"github.com/nats-io/nats.go"
)

// A ledger limits its batches in flight.
func TestBatchesAreLimited(t *testing.T) {
	conn, err := bus.Connect(bus.Config{URL: "nats://127.0.0.1:1"}) // nobody is there, and need be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.NATS().Close)
	l := &Ledger{conn: conn, batches: make(chan struct{}, maxBatches)}
	for range maxBatches {
		if _, err := l.enter(t.Context(), &nats.Msg{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.enter(ended(t), &nats.Msg{}); err == nil {
		t.Error("the ledger begins one batch more")
	}
}
