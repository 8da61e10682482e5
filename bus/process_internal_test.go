package bus

import (
	"testing"

	"github.com/nats-io/nats.go"
)

// What belongs to a process is one for all of its connections: how many batches it has under way, and whether what readers judge
// by has changed.
func TestConnectionsShareTheirProcess(t *testing.T) {
	connect := func(beside *Conn) *Conn {
		c, err := Connect(Config{URL: "nats://127.0.0.1:1", Beside: beside}) // nobody is there, and need be
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.nc.Close)
		return c
	}
	one := connect(nil)
	two, stranger := connect(one), connect(nil)

	first, second := &Ledger{conn: one}, &Ledger{conn: two}
	for range maxBatches {
		if _, err := first.enter(t.Context(), &nats.Msg{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := second.enter(ended(t), &nats.Msg{}); err == nil {
		t.Error("another ledger of the process begins one batch more")
	}
	if _, err := (&Ledger{conn: stranger}).enter(ended(t), &nats.Msg{}); err != nil {
		t.Errorf("a ledger of another process has to wait: %v", err)
	}

	one.past.change()
	if two.past.version() != 1 || stranger.past.version() != 0 {
		t.Errorf("changes known to the process: %d, to another one: %d", two.past.version(), stranger.past.version())
	}
}
