package booking_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/bookingtest"
)

const histories, steps = 300, 40

// What a decision returns always follows, and what it refuses never does, however the booking came
// to be as it is.
func TestDecisionsAgreeWithReaders(t *testing.T) {
	for seed := range uint64(histories) {
		s := bookingtest.NewRandom(seed)
		var b booking.Booking
		for range steps {
			e := s.Event(b)
			if next, err := b.Apply(e); err == nil {
				b = next
			}
			now := e.At
			for _, k := range booking.Kinds() {
				if k == booking.Requested {
					continue
				}
				a := bookingtest.Pick(s, everybody...)
				decided, refusal := decide(b, k, a, now)
				candidate := decided
				if refusal != nil {
					candidate = step{Kind: k, Actor: a}.Event()
				}
				candidate.ID, candidate.At = booking.EventID(booking.NewID()), now
				_, err := b.Apply(candidate)
				if refusal == nil && err != nil {
					t.Fatalf("seed %d: %s by %s was decided and does not follow: %v", seed, k, a.ID, err)
				}
				if refusal != nil && err == nil &&
					!(k == booking.Accepted && errors.Is(refusal, booking.ErrExpired) && b.Overdue(now)) {
					t.Fatalf("seed %d: %s by %s was refused with %v and follows", seed, k, a.ID, refusal)
				}
			}
		}
	}
}

// A replay of any part of a history from its beginning is what applying it event by event made, and
// every step is one of the design's.
func TestReplayOfEveryPrefix(t *testing.T) {
	states, kinds := make(map[booking.State]int), make(map[booking.Kind]int)
	for seed := range uint64(histories) {
		s := bookingtest.NewRandom(seed)
		var b booking.Booking
		var events []booking.Event
		for range steps {
			e := s.Event(b)
			events = append(events, e)
			next, err := b.Apply(e)
			if err == nil {
				if to, ok := bookingtest.Transitions[e.Kind][b.State]; !ok || to != next.State {
					t.Fatalf("seed %d: %s led from %q to %q", seed, e.Kind, b.State, next.State)
				}
				b = next
				kinds[e.Kind]++
			} else if !errors.Is(err, booking.ErrDoesNotFollow) && !errors.Is(err, booking.ErrDuplicate) {
				t.Fatalf("seed %d: %v", seed, err)
			}
			states[b.State]++
			bookingtest.Sane(t, b)
			if got := bookingtest.Fold(events); !reflect.DeepEqual(got, b) {
				t.Fatalf("seed %d: the replay of %d events is\n %+v, want\n %+v", seed, len(events), got, b)
			}
		}
	}
	for _, state := range booking.States()[1:] {
		if states[state] == 0 {
			t.Errorf("no history came to %s", state)
		}
	}
	for _, k := range booking.Kinds() {
		if kinds[k] == 0 {
			t.Errorf("no history had %s", k)
		}
	}
}

// Bookings are values: whatever becomes of one, those that it was made from stay as they are, and
// so do its siblings.
func TestBookingsShareNothingThatChanges(t *testing.T) {
	for seed := range uint64(histories) {
		s := bookingtest.NewRandom(seed)
		var all []booking.Booking
		var pictures []string
		keep := func(b booking.Booking) {
			all = append(all, b)
			pictures = append(pictures, picture(b))
		}
		keep(booking.Booking{})
		for range steps * 2 { // grows a tree: every booking may have several successors
			from := all[max(0, len(all)-1-s.IntN(4))]
			e := s.Event(from)
			if next, err := from.Apply(e); err == nil {
				keep(next)
				if e.Pickup != nil {
					e.Pickup.Lat = 77 // nor does it change with the event that made it
				}
				if e.Quote != nil {
					e.Quote.Fare = 77
				}
				if _, err := next.Apply(e); !errors.Is(err, booking.ErrDuplicate) {
					t.Fatalf("seed %d: the same event once more: %v", seed, err)
				}
			}
		}
		for i, b := range all {
			if got := picture(b); got != pictures[i] {
				t.Fatalf("seed %d: booking %d was\n %s, and is now\n %s", seed, i, pictures[i], got)
			}
		}
	}
}

// Two bookings that come from one, at every length of the list of riders who have released it.
func TestSiblingsShareNoList(t *testing.T) {
	var s bookingtest.Story
	next := func(b booking.Booking, k booking.Kind, name string) booking.Booking {
		t.Helper()
		b, err := b.Apply(s.Store(step{Kind: k, Actor: booking.Actor{ID: name, Role: booking.Rider}}.Event()))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := replay(t, []booking.Event{s.Store(step{Kind: booking.Requested, Actor: owner}.Event())})
	for i := range 10 {
		one, two := fmt.Sprint("one-", i), fmt.Sprint("two-", i)
		b1 := next(next(b, booking.Accepted, one), booking.Released, one)
		b2 := next(next(b, booking.Accepted, two), booking.Released, two)
		if got := b1.ReleasedBy[i]; string(got) != one {
			t.Errorf("%s was replaced by %s", one, got)
		}
		b = b2
	}
}

// picture shows all of a booking, places and unexported fields included.
func picture(b booking.Booking) string {
	s := fmt.Sprintf("%+v", b)
	if b.Pickup != nil {
		s += fmt.Sprint(*b.Pickup, *b.Dropoff)
	}
	if b.Quote != nil {
		s += fmt.Sprint(*b.Quote)
	}
	return s
}

// An event whose id was applied is a duplicate in every booking that has it, and in no other.
func TestDuplicate(t *testing.T) {
	events := tell(given()...)
	b := replay(t, events)
	for _, e := range events {
		_, err := b.Apply(e)
		wants(t, err, booking.ErrDuplicate)
	}
	one, two := step{Kind: booking.Accepted, Actor: rider}.Event(), step{Kind: booking.Accepted, Actor: other}.Event()
	one.ID, two.ID = "one", "two"
	b1, err1 := b.Apply(one)
	b2, err2 := b.Apply(two)
	wants(t, errors.Join(err1, err2), nil)
	_, err := b1.Apply(one)
	wants(t, err, booking.ErrDuplicate)
	_, err = b2.Apply(two)
	wants(t, err, booking.ErrDuplicate)
	_, err = b1.Apply(two)
	wants(t, err, booking.ErrAlreadyAccepted)

	// A service's release, stored again after the next rider has accepted, with a token that is
	// still good.
	again := step{Kind: booking.Released, Actor: service}.Event()
	again.ID = "release"
	b1, err1 = b1.Apply(again)
	three := step{Kind: booking.Accepted, Actor: other}.Event()
	three.ID = "three"
	b1, err2 = b1.Apply(three)
	wants(t, errors.Join(err1, err2), nil)
	_, err = b1.Apply(again)
	wants(t, err, booking.ErrDuplicate)
}

// FuzzReplay feeds anything at all, 5 bytes an event.
func FuzzReplay(f *testing.F) {
	seed := func(steps ...byte) { f.Add(steps) }
	seed()
	seed(0, 0, 3, 0, 1, 1, 2, 0, 1, 2, 2, 2, 0, 2, 3, 3, 2, 0, 3, 4, 5, 2, 0, 4, 5, 9, 0, 4, 5, 6, 9, 2, 5, 6, 7)
	seed(0, 0, 3, 0, 1, 1, 4, 0, 1, 2, 7, 4, 3, 2, 3, 1, 4, 0, 3, 4, 1, 2, 0, 4, 5, 6, 0, 0, 5, 6)
	seed(0, 0, 1, 0, 1, 8, 5, 0, 200, 2)
	seed(
		0,
		0,
		3,
		0,
		1,
		1,
		2,
		0,
		1,
		2,
		2,
		2,
		0,
		2,
		3,
		4,
		2,
		0,
		3,
		4,
		4,
		2,
		0,
		4,
		5,
		4,
		2,
		0,
		5,
		6,
		4,
		2,
		0,
		6,
		7,
		4,
		2,
		0,
		7,
		8,
		4,
		2,
		0,
		8,
		9,
		7,
		5,
		3,
		9,
		10,
	)
	seed(0, 0, 3, 0, 1, 0, 0, 3, 0, 1, 1, 2, 0, 1, 1)
	f.Fuzz(func(t *testing.T, data []byte) {
		kinds := append(booking.Kinds(), "", "stolen")
		deadlines := []time.Time{{}, noon, noon.AddDate(9000, 0, 0), deadline}
		actors := append(everybody[:6:6], booking.Actor{}, booking.Actor{ID: "rider", Role: "rider"})
		var events []booking.Event
		for len(data) >= 5 && len(events) < 100 {
			e := booking.Event{Kind: kinds[int(data[0])%len(kinds)], Actor: actors[int(data[1])%len(actors)]}
			e.Deadline, e.Stars, e.Reason = deadlines[data[2]%4], int(data[2]>>2)-1, string(data[2:4])
			if data[2]&128 != 0 {
				e.Pickup, e.Dropoff = &booking.Place{Lat: float64(data[3]), Lng: -float64(data[4])}, &booking.Place{}
			}
			e.At = noon.Add(time.Duration(data[3]) * time.Second)
			e.ID, e.Seq, e.N = booking.EventID(data[4:5]), uint64(len(events)), len(events)-int(data[3]&1)
			events = append(events, e)
			data = data[5:]
		}
		var b booking.Booking
		for _, e := range events {
			next, err := b.Apply(e)
			if err != nil {
				continue
			}
			if to, ok := bookingtest.Transitions[e.Kind][b.State]; !ok || to != next.State {
				t.Fatalf("%s led from %q to %q", e.Kind, b.State, next.State)
			}
			if !e.Kind.MayBeCausedBy(e.Actor.Role) {
				t.Fatalf("%s was caused by %+v", e.Kind, e.Actor)
			}
			b = next
			bookingtest.Sane(t, b)
		}
		if got := bookingtest.Fold(events); !reflect.DeepEqual(got, b) {
			t.Fatalf("the replay is\n %+v, want\n %+v", got, b)
		}
		var sequencer booking.EventSequencer
		// anything in any order: no panic, and a next position ahead of the version
		for _, e := range events {
			if sequencer.Apply(e) != nil {
				sequencer.Refuse(e.N, e.Kind, 0)
			}
			if n := sequencer.Next(e.Kind); n <= sequencer.Booking.Version {
				t.Fatalf("next is %d after %d", n, sequencer.Booking.Version)
			}
			bookingtest.Sane(t, sequencer.Booking)
		}
	})
}
