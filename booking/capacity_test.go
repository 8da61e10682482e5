package booking_test

import (
	"testing"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/booking/bookingtest"
)

// Whatever may happen to a booking has room: every event takes some of what was kept for the
// booking, or asks for more as it is appended. The board adds up what is kept.
func TestEveryEventHasRoom(t *testing.T) {
	all := board.New()
	for seed := range uint64(histories) {
		s := bookingtest.NewRandom(seed)
		s.ID = booking.ID(booking.DeriveID("room", string(rune('a'+seed))))
		s.Seq = all.Seq()
		var b booking.Booking
		for range steps {
			before := all.Remaining()
			e := s.Event(b)
			next, err := b.Apply(e)
			if err != nil {
				continue
			}
			messages := 1
			if e.Kind == booking.Accepted {
				messages = 2 // and that the rider is engaged
			}
			if kept, takes := b.Remaining()+b.Growth(e.Kind), next.Remaining()+messages; takes > kept {
				t.Fatalf(
					"seed %d: %s in state %q: %d messages are kept room for, and %d needed",
					seed,
					e.Kind,
					b.State,
					kept,
					takes,
				)
			}
			if e.N = next.Version; all.Apply(e) == nil {
				all.Advance(e.Seq)
				if got, want := all.Remaining(), before-b.Remaining()+next.Remaining(); got != want {
					t.Fatalf("seed %d: after %s the board keeps room for %d messages, want %d", seed, e.Kind, got, want)
				}
			}
			b = next
		}
		if over := b.State == booking.StateCompleted || b.State == booking.StateCancelled ||
			b.State == booking.StateExpired; over != (b.Remaining() == 0) &&
			b.State != booking.StateNone {
			t.Errorf("seed %d: in state %q room is kept for %d messages", seed, b.State, b.Remaining())
		}
	}
	if all.Len() == 0 || all.Remaining() == 0 {
		t.Fatal("nothing was tried")
	}
	if all.Forget(all.Seq() + 1); all.Remaining() != 0 {
		t.Errorf("an empty board keeps room for %d messages", all.Remaining())
	}
}
