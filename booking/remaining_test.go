package booking_test

import (
	"testing"

	"github.com/example/pillion/booking"
)

// Whatever may happen to a booking has room: every event takes some of what was kept for the
// booking, or asks for more as it is appended. The board adds up what is kept.
func TestEveryEventHasRoom(t *testing.T) {
	board := booking.NewBoard()
	for seed := range uint64(histories) {
		s := newSource(seed)
		s.id = booking.ID(booking.DeriveID("room", string(rune('a'+seed))))
		s.seq = board.Seq()
		var b booking.Booking
		for range steps {
			before := board.Remaining()
			e := s.event(b)
			next, err := b.Apply(e)
			if err != nil {
				continue
			}
			messages := 1
			if e.Kind == booking.Accepted {
				messages = 2 // and that the rider is engaged
			}
			if kept, takes := b.Remaining()+b.Growth(e.Kind), next.Remaining()+messages; takes > kept {
				t.Fatalf("seed %d: %s in state %q: %d messages are kept room for, and %d needed", seed, e.Kind, b.State, kept, takes)
			}
			if e.N = next.Version; board.Apply(e) == nil {
				board.Advance(e.Seq)
				if got, want := board.Remaining(), before-b.Remaining()+next.Remaining(); got != want {
					t.Fatalf("seed %d: after %s the board keeps room for %d messages, want %d", seed, e.Kind, got, want)
				}
			}
			b = next
		}
		if over := b.State == booking.StateCompleted || b.State == booking.StateCancelled || b.State == booking.StateExpired; over != (b.Remaining() == 0) && b.State != booking.StateNone {
			t.Errorf("seed %d: in state %q room is kept for %d messages", seed, b.State, b.Remaining())
		}
	}
	if board.Len() == 0 || board.Remaining() == 0 {
		t.Fatal("nothing was tried")
	}
	if board.Forget(board.Seq() + 1); board.Remaining() != 0 {
		t.Errorf("an empty board keeps room for %d messages", board.Remaining())
	}
}
