package bus_test

import (
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"pillion/booking"
)

// What TestModel would say about small histories: it must not let pass what must never be, and not cry wolf.
func TestVerdicts(t *testing.T) {
	user := booking.Actor{ID: "user", Role: booking.User}
	one, two := booking.Actor{ID: "one", Role: booking.Rider}, booking.Actor{ID: "two", Role: booking.Rider}
	service := booking.Actor{ID: "service", Role: booking.Service}
	state := func(s booking.State, version int, rider booking.Actor, released ...booking.RiderID) booking.Booking {
		return booking.Booking{State: s, Version: version, User: "user", Rider: booking.RiderID(rider.ID), ReleasedBy: released}
	}
	nobody := booking.Actor{}
	open, accepted := state(booking.StateOpen, 1, nobody), state(booking.StateAccepted, 2, one)

	// at makes a call between two moments. Each has a command of its own, unless again says otherwise.
	n := 0
	at := func(begin, end int64, id booking.ID, o op, a booking.Actor, answer string, got booking.Booking) *call {
		n++
		return &call{client: n, op: o, id: id, actor: a, command: booking.CommandID(booking.DeriveID(string(rune(n)))), wait: time.Hour, right: true,
			first: begin, begin: begin, end: end, answer: answer, got: got}
	}
	again := func(first, second *call) *call {
		second.command, second.first = first.command, first.begin
		return second
	}
	booked := func(id booking.ID) *call { return at(0, 1, id, opBook, user, ok, open) }
	show := func(begin, end int64, id booking.ID, got booking.Booking) *call {
		c := at(begin, end, id, opShow, user, ok, got)
		c.command = ""
		return c
	}
	none := booking.Booking{}
	lost := at(2, 5, "a", opAccept, one, unknown, none)
	won := at(2, 5, "a", opAccept, one, ok, accepted)
	cancelled := state(booking.StateCancelled, 3, one)

	for _, test := range []struct {
		name  string
		legal bool
		calls []*call
	}{
		{"one wins, one loses", true, []*call{booked("a"), won, at(3, 6, "a", opAccept, two, "already_accepted", none)}},
		{"two winners", false, []*call{booked("a"), won, at(3, 6, "a", opAccept, two, ok, state(booking.StateAccepted, 2, two))}},
		{"lost before anybody had won", false, []*call{booked("a"), at(2, 3, "a", opAccept, two, "already_accepted", none), at(4, 5, "a", opAccept, one, ok, accepted)}},
		{"not there after it was booked", false, []*call{booked("a"), at(2, 3, "a", opAccept, one, "booking_not_found", none)}},
		{"not there while it is booked", true, []*call{booked("a"), at(1, 3, "a", opAccept, one, "booking_not_found", none)}},
		{"a read of the past", false, []*call{booked("a"), won, show(6, 7, "a", open)}},
		{"a read while it changes", true, []*call{booked("a"), won, show(4, 7, "a", open), show(3, 7, "a", accepted)}},
		{"reads that go back", false, []*call{booked("a"), won, show(2, 3, "a", accepted), show(4, 5, "a", open)}},

		{"an answer got lost and it happened", true, []*call{booked("a"), lost, show(9, 10, "a", accepted)}},
		{"an answer got lost and it did not happen", true, []*call{booked("a"), lost, show(9, 10, "a", open)}},
		{"an answer got lost and it happened later", true, []*call{booked("a"), at(2, forever, "a", opAccept, one, unknown, none), show(9, 10, "a", open), show(11, 12, "a", accepted)}},
		{"a retry that took effect twice", false, []*call{booked("a"), won, at(6, 7, "a", opRelease, one, ok, state(booking.StateOpen, 3, nobody, "one")),
			again(won, at(8, 9, "a", opAccept, one, ok, state(booking.StateAccepted, 4, one, "one"))), show(10, 11, "a", state(booking.StateAccepted, 4, one, "one"))}},
		{"a retry after it was given back", true, []*call{booked("a"), lost, at(6, 7, "a", opRelease, service, ok, state(booking.StateOpen, 3, nobody, "one")),
			again(lost, at(8, 9, "a", opAccept, one, ok, state(booking.StateOpen, 3, nobody, "one")))}},
		{"a retry that is told it lost", false, []*call{booked("a"), won, again(won, at(6, 7, "a", opAccept, one, "already_accepted", none))}},
		{"contended, and yet it happened", false, []*call{booked("a"), at(2, 5, "a", opAccept, one, contended, none), show(6, 7, "a", accepted)}},

		{"cancelled twice", false, []*call{booked("a"), won, at(6, 7, "a", opCancel, user, ok, cancelled), at(8, 9, "a", opCancel, service, ok, cancelled)}},
		{"accepted after it was given back", false, []*call{booked("a"), won, at(6, 7, "a", opRelease, one, ok, state(booking.StateOpen, 3, nobody, "one")),
			at(8, 9, "a", opAccept, one, ok, state(booking.StateAccepted, 4, one, "one"))}},
		{"expired before its deadline", false, []*call{booked("a"), at(6, 7, "a", opExpire, service, ok, state(booking.StateExpired, 2, nobody))}},

		{"two rides", false, []*call{booked("a"), booked("b"), won, at(6, 7, "b", opAccept, one, ok, accepted)}},
		{"two rides at once", false, []*call{booked("a"), booked("b"), won, at(2, 5, "b", opAccept, one, ok, accepted)}},
		{"a ride and a next", true, []*call{booked("a"), booked("b"), won, at(5, 7, "a", opCancel, user, ok, cancelled), at(6, 8, "b", opAccept, one, ok, accepted)}},
		{"busy with another", true, []*call{booked("a"), booked("b"), won, at(2, 5, "b", opAccept, one, "rider_busy", none)}},
		{"busy with nothing", false, []*call{booked("b"), at(2, 5, "b", opAccept, one, "rider_busy", none)}},
		{"busy with that very one", false, []*call{booked("a"), won, at(2, 5, "a", opAccept, one, "rider_busy", none)}},
		{"busy after it was cancelled", false, []*call{booked("a"), booked("b"), won, at(6, 7, "a", opCancel, user, ok, cancelled),
			at(8, 9, "b", opAccept, one, "rider_busy", none)}},
		{"busy with what may have been accepted", true, []*call{booked("a"), booked("b"), lost, at(6, 7, "b", opAccept, one, "rider_busy", none)}},
		{"shown to have two", false, []*call{booked("a"), booked("b"), lost, at(2, 5, "b", opAccept, one, unknown, none), show(6, 7, "a", accepted), show(8, 9, "b", accepted),
			show(10, 11, "a", accepted)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &crowd{t: t, riders: []*duo{{person: person{Actor: one}}, {person: person{Actor: two}}}}
			for _, x := range test.calls {
				copied := *x
				if copied.answer == unknown { // as TestModel leaves it where it cannot tell
					copied.end = forever
				}
				c.history = append(c.history, &copied)
			}
			c.track()
			legal := !slices.ContainsFunc(c.histories(), func(h history) bool {
				result, _ := h.verdict()
				return result != porcupine.Ok
			})
			if legal != test.legal {
				t.Errorf("legal: %v, want %v", legal, test.legal)
			}
		})
	}
}
