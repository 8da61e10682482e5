package booking_test

import (
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/bookingtest"
)

// BenchmarkReplay folds the history of one completed ride.
func BenchmarkReplay(b *testing.B) {
	events := tell(completed...)
	b.ReportAllocs()
	for b.Loop() {
		if s := bookingtest.Fold(events).State; s != booking.StateCompleted {
			b.Fatal(s)
		}
	}
}

// BenchmarkDeskAccept is a desk's share of an accept: the log is in memory.
func BenchmarkDeskAccept(b *testing.B) {
	d, err := booking.NewDesk(bookingtest.NewLog(), booking.DeskOptions{Deadline: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		id := booking.ID(booking.NewID())
		if _, err := d.Book(b.Context(), by(owner), id, booking.Trip{}); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := d.Accept(b.Context(), by(rider), id); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		// free for the next one
		if _, err := d.Release(b.Context(), by(rider), id, ""); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
