package latest_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/latest"
)

var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// A ride is the events of one booking, and the booking after each of them.
type ride struct {
	events []booking.Event
	after  []booking.Booking // after[0] is before the first one
}

// newRide returns a ride whose record has sequence first+1 and whose other messages have the
// sequences around it.
func newRide(t *testing.T, name string, first uint64) ride {
	t.Helper()
	user, rider := booking.Actor{ID: "user", Role: booking.User}, booking.Actor{ID: "rider", Role: booking.Rider}
	r := ride{after: make([]booking.Booking, 1)}
	for i, e := range []booking.Event{
		{Kind: booking.Requested, Actor: user, Seq: first, Details: booking.Details{Deadline: noon.Add(time.Hour)}},
		{Kind: booking.Accepted, Actor: rider, Seq: first + 2},
		{Kind: booking.Arrived, Actor: rider, Seq: first + 3},
	} {
		e.ID, e.Booking, e.N, e.At = booking.EventID(fmt.Sprint(name, i)), booking.ID(name), i+1, noon
		next, err := r.after[i].Apply(e)
		if err != nil {
			t.Fatal(err)
		}
		r.events, r.after = append(r.events, e), append(r.after, next)
	}
	return r
}

// add adds event i of a ride, as it was verified in an epoch.
func (r ride) add(h *latest.Histories, epoch uint64, i int) {
	h.Add(epoch, r.events[i], r.after[i], r.after[i+1])
}

// history returns the history with the first n events.
func (r ride) history(n int) booking.History {
	h := booking.History{Events: r.events[:n:n], Revision: r.events[n-1].Seq}
	h.Booking = r.after[n]
	return h
}

func newHistories(t *testing.T) (h *latest.Histories, epoch *uint64) {
	t.Helper()
	epoch = new(uint64)
	h, err := latest.New(func() uint64 { return *epoch })
	if err != nil {
		t.Fatal(err)
	}
	return h, epoch
}

// has fails the test unless the history of a ride is in memory up to event n. 0: it is not there.
func has(t *testing.T, h *latest.Histories, r ride, n int) {
	t.Helper()
	got, ok := h.Booking(r.events[0].Booking)
	if ok != (n > 0) {
		t.Fatalf("in memory: %v, want %d events", ok, n)
	}
	if ok && !reflect.DeepEqual(got, r.history(n)) {
		t.Errorf("in memory is\n %+v, want\n %+v", got, r.history(n))
	}
}

func TestHistoriesFollow(t *testing.T) {
	h, _ := newHistories(t)
	r := newRide(t, "a", 10)
	h.Keep(0, r.history(1))
	h.Wrote(0, r.events...)
	has(t, h, r, 0) // nobody follows yet
	for i := range r.events {
		r.add(h, 0, i)
		has(t, h, r, i+1)
	}
	if at, ok := h.Rider("rider"); !ok || at != (booking.Engagement{Booking: "a", Revision: 11}) {
		t.Errorf("the rider is engaged in %+v, %v", at, ok)
	}
	h.Drop("a")
	has(t, h, r, 0)
	h.Wrote(12, r.events[2])
	has(t, h, r, 0)
	h.Keep(0, r.history(2))
	has(t, h, r, 2)
	r.add(h, 0, 1) // it was read before it came
	has(t, h, r, 2)
	r.add(h, 0, 2)
	has(t, h, r, 3)
	h.Keep(0, r.history(2)) // from a replica that is behind
	has(t, h, r, 3)
}

// A booking whose beginning was not seen is not in memory, and neither is one with a gap.
func TestHistoriesHaveNoGaps(t *testing.T) {
	h, _ := newHistories(t)
	r := newRide(t, "a", 10)
	r.add(h, 0, 1)
	has(t, h, r, 0)
	h.Keep(0, r.history(1))
	has(t, h, r, 1)
	r.add(h, 0, 2)
	has(t, h, r, 0)
}

// What this process writes is in memory at once, but only behind what is there.
func TestHistoriesOfOwnWrites(t *testing.T) {
	h, _ := newHistories(t)
	r, other := newRide(t, "a", 10), newRide(t, "b", 20)
	r.add(h, 0, 0)
	before, _ := h.Booking("a")
	h.Wrote(10, r.events[1:]...)
	has(t, h, r, 3)
	if len(before.Events) != 1 || before.Booking.State != booking.StateOpen {
		t.Errorf("a history that was returned has changed: %+v", before)
	}
	h.Wrote(0, other.events[0]) // a new booking
	has(t, h, other, 1)
	h.Wrote(19, other.events[1]) // after a message that is not in memory
	has(t, h, other, 1)
	if at, _ := h.Rider("rider"); at != (booking.Engagement{Booking: "b", Revision: 21}) {
		t.Errorf("the rider is engaged in %+v", at)
	}
	r.add(h, 0, 1) // the follower is behind
	if at, _ := h.Rider("rider"); at.Booking != "b" {
		t.Errorf("an older acceptance has taken the place of a newer one: %+v", at)
	}
}

// What has aged out of the log is decided upon no more.
func TestHistoriesAge(t *testing.T) {
	h, _ := newHistories(t)
	old, young := newRide(t, "a", 10), newRide(t, "b", 20)
	for _, r := range []ride{old, young} {
		r.add(h, 0, 0)
		r.add(h, 0, 1)
	}
	h.Forget(10)
	has(t, h, old, 2)
	h.Forget(11)
	has(t, h, old, 0)
	has(t, h, young, 2)
}

// A history that gets too long is not in memory, whoever makes it longer.
func TestHistoriesAreShort(t *testing.T) {
	long := func(r ride, n int) booking.History {
		b := r.history(1)
		for len(b.Events) < n {
			b.Events = append(b.Events, booking.Event{})
		}
		return b
	}
	for name, grow := range map[string]func(*latest.Histories, ride){
		"followed": func(h *latest.Histories, r ride) { r.add(h, 0, 1) },
		"written":  func(h *latest.Histories, r ride) { h.Wrote(10, r.events[1]) },
		"read":     func(h *latest.Histories, r ride) { read := long(r, 65); read.Revision = 12; h.Keep(0, read) },
	} {
		h, _ := newHistories(t)
		newRide(t, "other", 1).add(h, 0, 0)
		r := newRide(t, "a", 10)
		h.Keep(0, long(r, 64))
		if got, ok := h.Booking("a"); !ok || len(got.Events) != 64 {
			t.Fatalf("in memory: %d events, %v", len(got.Events), ok)
		}
		grow(h, r)
		if got, ok := h.Booking("a"); ok {
			t.Errorf("%s: %d events are in memory", name, len(got.Events))
		}
	}
}

// When a key turns out to have been compromised, all verdicts are open again.
func TestHistoriesEndWithTheEpoch(t *testing.T) {
	h, epoch := newHistories(t)
	r := newRide(t, "a", 10)
	r.add(h, 0, 0)
	r.add(h, 0, 1)
	*epoch = 7
	has(t, h, r, 0)
	if at, ok := h.Rider("rider"); ok {
		t.Errorf("the rider is engaged in %+v", at)
	}
	h.Keep(0, r.history(1))
	r.add(h, 0, 0)
	h.Wrote(10, r.events[1])
	has(t, h, r, 0)
	h.Keep(7, r.history(1))
	has(t, h, r, 1)
}

// Memory is limited, however many bookings there are and however long one gets.
func TestHistoriesAreFew(t *testing.T) {
	h, _ := newHistories(t)
	for i := range 5000 {
		newRide(t, fmt.Sprint("ride", i), uint64(10*i+1)).add(h, 0, 0)
	}
	known := 0
	for i := range 5000 {
		if _, ok := h.Booking(booking.ID(fmt.Sprint("ride", i))); ok {
			known++
		}
	}
	if known != 4096 {
		t.Errorf("%d bookings are in memory, want 4096", known)
	}
}
