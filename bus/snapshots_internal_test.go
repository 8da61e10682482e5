package bus

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
)

// Told to stop without a connection, whoever makes a snapshot does not wait until what was begun can be cleared away.
func TestSnapshotsStopWhenTheyAreCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connected().ledger.conn
		c.link.set(false)
		sealed, err := newSeal(make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		s := &snapshots{conn: c, bucket: c.Bucket(BoardsBucket), seal: sealed}
		board := board.New()
		board.Advance(1)
		began := time.Now()
		capture := board.Capture()
		defer capture.End()
		if err := s.store(ended(t), capture, &snapshot{ID: booking.NewID()}, snapshot{}); err == nil {
			t.Error("a snapshot is stored nowhere")
		}
		s.release(ended(t), 1)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("stopping took %v", took)
		}
	})
}
