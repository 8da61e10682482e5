package board_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
)

// A city makes events of many bookings, in the order of one ledger.
type city struct {
	seq      uint64
	versions map[booking.ID]int
}

func (c *city) event(id booking.ID, kind booking.Kind, actor booking.Actor) booking.Event {
	e := step{Kind: kind, Actor: actor}.Event()
	c.seq++
	c.versions[id]++
	e.ID = booking.EventID(fmt.Sprintf("event-%d", c.seq))
	e.Booking, e.N, e.Seq, e.At = id, c.versions[id], c.seq, noon
	return e
}

func newCity() *city { return &city{versions: make(map[booking.ID]int)} }

// An onlooker keeps the set of open bookings by what it is told.
type onlooker struct {
	w    *board.OpenWatch
	open map[booking.ID]uint64 // OpenedSeq
	seqs []uint64              // of what it was told by Take
}

func look(b *board.Board, rider booking.RiderID) *onlooker {
	return &onlooker{w: b.WatchOpenFor(rider), open: make(map[booking.ID]uint64)}
}

func (o *onlooker) pages(limit int) {
	for more := true; more; {
		var page []booking.Booking
		page, more = o.w.Page(noon, limit)
		for _, b := range page {
			o.open[b.ID] = b.OpenedSeq
		}
	}
}

func (o *onlooker) take(t testing.TB, limit int) {
	t.Helper()
	for more := true; more; {
		var found []board.OpenChange
		var err error
		if found, more, err = o.w.Take(noon, limit); err != nil {
			t.Fatal(err)
		}
		for _, c := range found {
			o.seqs = append(o.seqs, c.Seq)
			if !c.Opened() {
				delete(o.open, c.ID)
				continue
			}
			if o.open[c.ID] == c.Seq {
				t.Errorf("told twice that %s is open", c.ID)
			}
			o.open[c.ID] = c.Seq
		}
	}
}

func isOpen(b *board.Board, only ...board.Filter) map[booking.ID]uint64 {
	open := make(map[booking.ID]uint64)
	for _, x := range b.Open(noon, 1_000_000, 0, only...) {
		open[x.ID] = x.OpenedSeq
	}
	return open
}

func TestOpenWatch(t *testing.T) {
	all, c := board.New(), newCity()
	apply(
		t,
		all,
		c.event("a", booking.Requested, owner),
		c.event("b", booking.Requested, owner),
		c.event("c", booking.Requested, owner),
	)
	late := c.event("late", booking.Requested, owner)
	late.Deadline = noon.Add(-time.Second)
	apply(t, all, late)
	o := look(all, "")
	defer o.w.Stop()
	o.pages(2)
	o.take(t, 10)
	if !maps.Equal(o.open, map[booking.ID]uint64{"a": 1, "b": 2, "c": 3}) || len(o.seqs) > 0 || o.w.Seq() != 4 {
		t.Fatalf("told %v and then %v, up to %d", o.open, o.seqs, o.w.Seq())
	}
	select {
	case <-o.w.Changed():
		t.Error("nothing has changed")
	default:
	}
	apply(
		t,
		all,
		c.event(
			"a",
			booking.Accepted,
			rider,
		),
		c.event("a", booking.Arrived, rider),
		c.event("b", booking.OperatorCancelled, service),
		c.event(
			"d",
			booking.Requested,
			owner,
		),
		c.event("a", booking.OperatorReleased, service),
		c.event("late", booking.Expired, service),
	)
	<-o.w.Changed()
	found, more, err := o.w.Take(noon, 10)
	if err != nil || more {
		t.Fatal(more, err)
	}
	var got []string
	for _, x := range found {
		got = append(got, fmt.Sprint(x.Seq, " ", x.Kind, " ", x.ID, " ", x.Booking.ID))
	}
	if want := []string{
		"7 cancelled b ",
		"8 requested d d",
		"9 released a a",
		"10 expired late ",
	}; !slices.Equal(
		got,
		want,
	) {
		t.Errorf("told %q, want %q", got, want)
	}
	// Who was away goes on from any of these without a gap.
	for _, seq := range []uint64{4, 5, 6, 7} {
		again := look(all, "")
		maps.Copy(again.open, map[booking.ID]uint64{"a": 1, "b": 2, "c": 3})
		if !again.w.Resume(seq) {
			t.Fatalf("cannot go on from %d", seq)
		}
		if seq >= 7 {
			delete(again.open, "b")
		}
		again.take(t, 1)
		if want := isOpen(all); !maps.Equal(again.open, want) {
			t.Errorf("from %d: %v, want %v", seq, again.open, want)
		}
		again.w.Stop()
	}
	if o.w.Resume(11) {
		t.Error("goes on from what the board does not know yet")
	}
}

func TestOpenWatchDropsTheSlow(t *testing.T) {
	all, c := board.New(), newCity()
	o := look(all, "")
	defer o.w.Stop()
	o.pages(10)
	for i := range 5000 {
		apply(t, all, c.event(booking.ID(fmt.Sprint(i)), booking.Requested, owner))
	}
	if _, _, err := o.w.Take(noon, 10); !errors.Is(err, board.ErrSlow) {
		t.Errorf("Take = %v", err)
	}
	if o.w.Resume(100) {
		t.Error("goes on over a gap")
	}
	if !o.w.Resume(4000) {
		t.Error("cannot go on from what is kept")
	}
}

// Whatever happens while the pages are read and after that, all onlookers see the same in the end
// as the board: a rider sees what it has not given back.
func TestOpenWatchConverges(t *testing.T) {
	all, c := board.New(), newCity()
	random := rand.New(rand.NewPCG(1, 2))
	states := make(map[booking.ID]booking.State)
	riders := make(map[booking.ID]booking.Actor)
	ids := make([]booking.ID, 300)
	for i := range ids {
		ids[i] = booking.ID(fmt.Sprintf("booking-%d", i))
	}
	gone := make(map[string]bool) // which rider has given which booking back
	anyone := func(id booking.ID) booking.Actor {
		for {
			if name := fmt.Sprint("rider-", random.IntN(30)); !gone[string(id)+name] {
				return booking.Actor{ID: name, Role: booking.Rider}
			}
		}
	}
	next := func() booking.Event {
		for {
			id := ids[random.IntN(len(ids))]
			switch states[id] {
			case booking.StateNone:
				states[id] = booking.StateOpen
				return c.event(id, booking.Requested, owner)
			case booking.StateOpen:
				if random.IntN(20) == 0 {
					states[id] = booking.StateCancelled
					return c.event(id, booking.Cancelled, owner)
				}
				states[id] = booking.StateAccepted
				riders[id] = anyone(id)
				return c.event(id, booking.Accepted, riders[id])
			case booking.StateAccepted:
				states[id] = booking.StateOpen
				gone[string(id)+riders[id].ID] = true
				return c.event(id, booking.Released, riders[id])
			}
		}
	}
	for range 300 {
		apply(t, all, next())
	}
	events := make([]booking.Event, 1500)
	for i := range events {
		events[i] = next()
	}
	done := make(chan struct{})
	var work sync.WaitGroup
	onlookers := []booking.RiderID{"", "rider-1"}
	lookers := make([]*onlooker, 8)
	for i := range lookers {
		lookers[i] = look(all, onlookers[i%2])
		work.Go(func() {
			o := lookers[i]
			o.pages(1 + i*7)
			o.take(t, 3+i)
			for {
				select {
				case <-o.w.Changed():
					o.take(t, 3+i)
				case <-done:
					o.take(t, 3+i)
					return
				}
			}
		})
	}
	for _, e := range events {
		apply(t, all, e)
	}
	close(done)
	work.Wait()
	for i, o := range lookers {
		want := isOpen(all, board.NotReleasedBy(onlookers[i%2]))
		if !maps.Equal(o.open, want) {
			t.Errorf("onlooker %d sees %d open bookings, the board %d", i, len(o.open), len(want))
		}
		if !slices.IsSorted(o.seqs) {
			t.Errorf("onlooker %d was told out of order", i)
		}
		o.w.Stop()
	}
}

// What opens and closes while the pages are read is on a page or told after them, and not both.
func TestOpenWatchBetweenPages(t *testing.T) {
	all, c := board.New(), newCity()
	for _, id := range []booking.ID{"a", "b", "c"} {
		apply(t, all, c.event(id, booking.Requested, owner))
	}
	w := all.WatchOpen()
	defer w.Stop()
	var got []booking.ID
	page := func() (more bool) {
		found, more := w.Page(noon, 2)
		for _, b := range found {
			got = append(got, b.ID)
		}
		return more
	}
	if !page() {
		t.Fatal("one page has all")
	}
	apply(
		t,
		all,
		c.event("a", booking.Accepted, rider),
		c.event("d", booking.Requested, owner),
		c.event("c", booking.Accepted, rider),
		c.event("a", booking.Released, rider),
	) // a opens again, behind d
	for page() {
	}
	apply(t, all, c.event("e", booking.Requested, owner))
	if want := []booking.ID{"a", "b", "d", "a"}; !slices.Equal(got, want) {
		t.Errorf("the pages have %v, want %v", got, want)
	}
	found, _, err := w.Take(noon, 10)
	if err != nil || len(found) != 2 || found[0].ID != "c" || found[0].Opened() || found[1].ID != "e" ||
		!found[1].Opened() {
		t.Errorf("told %v, %v: want that c is gone and e is open", found, err)
	}
}
