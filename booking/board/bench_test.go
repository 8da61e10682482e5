package board_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
)

// rides returns the events of n rides that overlap: all are requested, then all accepted, and so
// on.
func rides(n int, story []step) []booking.Event {
	events := make([]booking.Event, 0, n*len(story))
	ids := make([]booking.ID, n)
	for i := range ids {
		ids[i] = booking.ID(booking.DeriveID("booking", fmt.Sprint(i)))
	}
	for k, st := range story {
		for i := range n {
			e := st.Event()
			e.ID = booking.EventID(booking.DeriveID("event", fmt.Sprint(k), fmt.Sprint(i)))
			e.Actor.ID = booking.DeriveID(e.Actor.ID, fmt.Sprint(i/5))
			e.Booking, e.N, e.Seq, e.At = ids[i], k+1, uint64(len(events)+1), noon
			events = append(events, e)
		}
	}
	return events
}

// BenchmarkBoardApply applies verified events to a board of 100,000 bookings.
func BenchmarkBoardApply(b *testing.B) {
	events := rides(
		100_000,
		[]step{
			{Kind: booking.Requested, Actor: owner},
			{Kind: booking.Accepted, Actor: rider},
			{Kind: booking.Arrived, Actor: rider},
			{Kind: booking.Started, Actor: rider},
			{Kind: booking.Completed, Actor: rider},
		},
	)
	all := board.New()
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if i%len(events) == 0 {
			b.StopTimer()
			all = board.New()
			runtime.GC()
			b.StartTimer()
		}
		if err := all.Apply(events[i%len(events)]); err != nil {
			b.Fatal(err)
		}
		all.Advance(events[i%len(events)].Seq)
	}
	runtime.KeepAlive(all)
}

// BenchmarkBoardOpen lists the 50 longest waiting bookings of a board on which 100,000 are open.
func BenchmarkBoardOpen(b *testing.B) {
	for _, overdue := range []int{0, 50, 99} {
		b.Run(fmt.Sprintf("overdue=%d%%", overdue), func(b *testing.B) {
			all := board.New()
			for i, e := range rides(100_000, []step{{Kind: booking.Requested, Actor: owner}}) {
				e.Deadline = noon
				if i >= overdue*1000 {
					e.Deadline = deadline
				}
				if err := all.Apply(e); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				if n := len(all.Open(noon.Add(time.Second), 50, 0)); n != 50 {
					b.Fatalf("%d are open", n)
				}
			}
		})
	}
}

// BenchmarkBoardOfUser lists the second page of a user with 10,000 bookings.
func BenchmarkBoardOfUser(b *testing.B) {
	all := board.New()
	for _, e := range rides(10_000, []step{{Kind: booking.Requested, Actor: owner}}) {
		e.Actor = owner
		if err := all.Apply(e); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if n := len(all.OfUser("owner", 50, 5000)); n != 50 {
			b.Fatalf("%d bookings", n)
		}
	}
}

// BenchmarkBoardInState lists the few cancelled bookings, the oldest ones, of a user and a rider
// with as many completed ones as it says.
func BenchmarkBoardInState(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			all := board.New()
			for i, e := range rides(n, []step{{Kind: booking.Requested, Actor: owner},
				{Kind: booking.Accepted, Actor: rider}, {Kind: booking.Arrived, Actor: rider},
				{Kind: booking.Started, Actor: rider}, {Kind: booking.Completed, Actor: rider}}) {
				e.Actor.ID = map[booking.Role]string{booking.User: owner.ID, booking.Rider: rider.ID}[e.Actor.Role]
				switch i % n {
				case 0, 1, 2:
					if e.Kind == booking.Arrived {
						e.Kind, e.Actor, e.Reason = booking.Cancelled, service, "rain"
					} else if e.N > 3 {
						continue
					}
				}
				if err := all.Apply(e); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				u := all.OfUser("owner", 50, 0, board.InState(booking.StateCancelled))
				if r := all.OfRider("rider", 50, 0, board.InState(booking.StateCancelled)); len(u) != 3 || len(r) != 3 {
					b.Fatalf("%d and %d bookings", len(u), len(r))
				}
			}
		})
	}
}
