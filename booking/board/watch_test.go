package board_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/booking/bookingtest"
)

// apply applies events to a board, which must take them.
func apply(t testing.TB, b *board.Board, events ...booking.Event) {
	t.Helper()
	for _, e := range events {
		if err := b.Apply(e); err != nil {
			t.Fatalf("%s: %v", e.Kind, err)
		}
		b.Advance(e.Seq)
	}
}

// told takes everything that waits in a watch.
func told(w *board.Watch) (seqs []uint64, open bool) {
	for {
		select {
		case c, ok := <-w.Changes():
			if !ok {
				return seqs, false
			}
			seqs = append(seqs, c.Event.Seq)
		default:
			return seqs, true
		}
	}
}

func TestWatchTellsWhatHappensToOneBooking(t *testing.T) {
	all := board.New()
	w, idle := all.Watch(ride), all.Watch("another")
	defer idle.Stop()
	events := tell(taken()...)
	apply(t, all, events...)
	want := replay(t, nil)
	for _, e := range events {
		c := <-w.Changes()
		next, err := want.Apply(e)
		if err != nil {
			t.Fatal(err)
		}
		want = next
		if c.Event.ID != e.ID || c.Booking.State != want.State || c.Booking.Seq != e.Seq ||
			c.Booking.Rider != want.Rider {
			t.Errorf("told %s and %s, want %s and %s", c.Event.ID, c.Booking.State, e.ID, want.State)
		}
	}
	if err := all.Apply(events[0]); err == nil {
		t.Fatal("the board took an event twice")
	}
	if seqs, open := told(w); len(seqs) > 0 || !open || w.Err() != nil {
		t.Errorf("told %v of what was refused; still open: %v, %v", seqs, open, w.Err())
	}
	if seqs, open := told(idle); len(seqs) > 0 || !open {
		t.Errorf("who watches another booking was told %v", seqs)
	}
	w.Stop()
	w.Stop()
	if _, open := told(w); open || w.Err() != nil {
		t.Errorf("a watch that was stopped: open %v, %v", open, w.Err())
	}
}

// released returns a story of n accepts and releases by different riders.
func released(n int) []booking.Event {
	steps := []step{{Kind: booking.Requested, Actor: owner}}
	for i := range n {
		who := booking.Actor{ID: fmt.Sprintf("rider-%d", i), Role: booking.Rider}
		steps = append(steps, step{Kind: booking.Accepted, Actor: who}, step{Kind: booking.Released, Actor: who})
	}
	return tell(steps...)
}

// Who does not take what it is told is dropped; the feeder and the others do not notice.
func TestWatchDropsTheSlow(t *testing.T) {
	all := board.New()
	slow, quick := all.Watch(ride), all.Watch(ride)
	defer quick.Stop()
	events := released(100)
	for i, e := range events {
		apply(t, all, e)
		if c := <-quick.Changes(); c.Event.Seq != uint64(i+1) {
			t.Fatalf("told %d, want %d", c.Event.Seq, i+1)
		}
	}
	seqs, open := told(slow)
	if open || !errors.Is(slow.Err(), board.ErrSlow) {
		t.Fatalf("the slow one: open %v, %v", open, slow.Err())
	}
	for i, seq := range seqs {
		if seq != uint64(i+1) {
			t.Fatalf("what the slow one was told has a gap: %v", seqs)
		}
	}
	if len(seqs) == 0 || len(seqs) > 100 {
		t.Errorf("the slow one was told %d changes before it was dropped", len(seqs))
	}
	slow.Stop()
}

func TestWatchEndsWhenTheBoardIsReplaced(t *testing.T) {
	live := board.New()
	events := tell(given()...)
	apply(t, live, events...)
	one, all := live.Watch(ride), live.WatchOpen()
	anew := board.New()
	apply(t, anew, events[0])
	anew.Advance(uint64(len(events)))
	live.Become(anew)
	if _, open := told(one); open || !errors.Is(one.Err(), board.ErrRestart) {
		t.Errorf("the watch of a booking: open %v, %v", open, one.Err())
	}
	if _, ok := <-all.Changed(); ok {
		t.Error("the watch of what is open has not ended")
	}
	if _, _, err := all.Take(noon, 10); !errors.Is(err, board.ErrRestart) {
		t.Errorf("Take = %v", err)
	}
	one.Stop()
	all.Stop()
	again := live.WatchOpen()
	defer again.Stop()
	if again.Resume(0) {
		t.Error("who was away goes on upon verdicts that have changed")
	}
	if !again.Resume(1) {
		t.Error("there is no going on from what the new board knows")
	}
	w := live.Watch(ride)
	defer w.Stop()
	e := step{Kind: booking.Accepted, Actor: rider}.Event()
	e.ID, e.Booking, e.N, e.Seq, e.At = "late", ride, 2, 9, noon
	apply(t, live, e)
	if c := <-w.Changes(); c.Event.Seq != 9 {
		t.Errorf("told %d", c.Event.Seq)
	}
}

func TestWatchEndsWithWhatHasAged(t *testing.T) {
	all := board.New()
	apply(t, all, tell(given()...)...)
	w := all.Watch(ride)
	defer w.Stop()
	all.Forget(2)
	if _, open := told(w); open || !errors.Is(w.Err(), board.ErrForgotten) {
		t.Errorf("open %v, %v", open, w.Err())
	}
}

// However history and board race, a follower is told every event once, in order.
func TestFollowLeavesNoGap(t *testing.T) {
	for round := range 200 {
		log, all := bookingtest.NewLog(), board.New()
		d, err := booking.NewDesk(log, booking.DeskOptions{Deadline: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		id := booking.ID(booking.NewID())
		if _, err := d.Book(t.Context(), by(owner), id, booking.Trip{}); err != nil {
			t.Fatal(err)
		}
		const rides = 5
		var work sync.WaitGroup
		work.Go(func() { // the writer
			for i := range rides {
				who := booking.Actor{ID: fmt.Sprintf("rider-%d", i), Role: booking.Rider}
				if _, err := d.Accept(t.Context(), by(who), id); err != nil {
					t.Error(err)
				}
				if _, err := d.Release(t.Context(), by(who), id, ""); err != nil {
					t.Error(err)
				}
			}
		})
		stop := make(chan struct{})
		var feeder sync.WaitGroup
		feeder.Go(func() { // the board lags behind as it likes
			for done, fed := false, 0; ; {
				h, err := log.Load(t.Context(), id, booking.Fresh)
				if err != nil {
					t.Error(err)
					return
				}
				for ; fed < len(h.Events); fed++ {
					apply(t, all, h.Events[fed])
				}
				if done {
					return
				}
				select {
				case <-stop:
					done = true
				default:
				}
			}
		})
		if round%2 == 0 {
			_ = all.Await(t.Context(), 2)
		}
		h, w, err := all.Follow(t.Context(), d, id)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, c := range h.Changes() {
			got++
			if c.Event.N != got || c.Booking.Version != got {
				t.Fatalf("the history has %d at %d", c.Event.N, got)
			}
		}
		for got < 1+2*rides {
			c, ok := <-w.Changes()
			if !ok {
				t.Fatal(w.Err())
			}
			if got++; c.Event.N != got {
				t.Fatalf("told event %d, want %d", c.Event.N, got)
			}
		}
		work.Wait()
		close(stop)
		feeder.Wait()
		if seqs, _ := told(w); len(seqs) > 0 {
			t.Fatalf("told %v once more", seqs)
		}
		w.Stop()
	}
}

func TestFollowRefuses(t *testing.T) {
	d, err := booking.NewDesk(bookingtest.NewLog(), booking.DeskOptions{Deadline: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = board.New().Follow(t.Context(), d, "no id")
	wants(t, err, booking.ErrInvalidID)
	_, _, err = board.New().Follow(t.Context(), d, booking.ID(booking.NewID()))
	wants(t, err, booking.ErrNotFound)
}
