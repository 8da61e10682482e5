package snapshot

import (
	"context"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
)

// Told to stop without a connection, whoever makes a snapshot does not wait until what was begun
// can be cleared away.
func TestSnapshotsStopWhenTheyAreCutOff(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		c, err := bus.Connect(bus.Config{InProcess: bustest.Away(t)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.NATS().Close)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		sealed, err := newMAC(make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		s := &Store{conn: c, bucket: c.Bucket(bus.BoardsBucket), mac: sealed}
		board := booking.NewBoard()
		board.Advance(1)
		began := time.Now()
		capture := board.Capture()
		defer capture.End()
		if err := s.Save(ended, capture, &Snapshot{ID: booking.NewID()}, Snapshot{}); err == nil {
			t.Error("a snapshot is stored nowhere")
		}
		s.Release(ended, 1)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("stopping took %v", took)
		}
	})
}
