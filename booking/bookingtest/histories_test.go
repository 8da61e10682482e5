package bookingtest

import (
	"testing"
	"time"

	"github.com/example/pillion/booking"
)

// CheckCalls rejects small impossible histories, and accepts possible ones.
func TestVerdicts(t *testing.T) {
	user := booking.Actor{ID: "user", Role: booking.User}
	one, two := booking.Actor{ID: "one", Role: booking.Rider}, booking.Actor{ID: "two", Role: booking.Rider}
	service := booking.Actor{ID: "service", Role: booking.Service}
	state := func(s booking.State, version int, rider booking.Actor, released ...booking.RiderID) booking.Booking {
		return booking.Booking{
			State:      s,
			Version:    version,
			User:       "user",
			Rider:      booking.RiderID(rider.ID),
			ReleasedBy: released,
		}
	}
	nobody := booking.Actor{}
	open, accepted := state(booking.StateOpen, 1, nobody), state(booking.StateAccepted, 2, one)

	// at returns a call between two moments, with a command of its own.
	n := 0
	at := func(begin, end int64, id booking.ID, o Op, a booking.Actor, answer string, got booking.Booking) *Call {
		n++
		return &Call{
			Client:  n,
			Op:      o,
			ID:      id,
			Actor:   a,
			Command: booking.CommandID(booking.DeriveID(string(rune(n)))),
			Wait:    time.Hour,
			Right:   true,
			First:   begin,
			Begin:   begin,
			End:     end,
			Answer:  answer,
			Got:     got,
		}
	}
	again := func(first, second *Call) *Call {
		second.Command, second.First = first.Command, first.Begin
		return second
	}
	booked := func(id booking.ID) *Call { return at(0, 1, id, OpBook, user, OK, open) }
	show := func(begin, end int64, id booking.ID, got booking.Booking) *Call {
		c := at(begin, end, id, OpShow, user, OK, got)
		c.Command = ""
		return c
	}
	none := booking.Booking{}
	lost := at(2, 5, "a", OpAccept, one, Unknown, none)
	won := at(2, 5, "a", OpAccept, one, OK, accepted)
	cancelled := state(booking.StateCancelled, 3, one)

	for _, test := range []struct {
		name  string
		legal bool
		calls []*Call
	}{
		{"one wins, one loses", true, []*Call{booked("a"), won, at(3, 6, "a", OpAccept, two, "already_accepted", none)}},
		{"two winners", false, []*Call{booked("a"), won, at(3, 6, "a", OpAccept, two, OK, state(booking.StateAccepted, 2, two))}},
		{"lost before anybody had won", false, []*Call{booked("a"), at(2, 3, "a", OpAccept, two, "already_accepted", none), at(4, 5, "a", OpAccept, one, OK, accepted)}},
		{"not there after it was booked", false, []*Call{booked("a"), at(2, 3, "a", OpAccept, one, "booking_not_found", none)}},
		{"not there while it is booked", true, []*Call{booked("a"), at(1, 3, "a", OpAccept, one, "booking_not_found", none)}},
		{"a read of the past", false, []*Call{booked("a"), won, show(6, 7, "a", open)}},
		{"a read while it changes", true, []*Call{booked("a"), won, show(4, 7, "a", open), show(3, 7, "a", accepted)}},
		{"reads that go back", false, []*Call{booked("a"), won, show(2, 3, "a", accepted), show(4, 5, "a", open)}},

		{"an answer got lost and it happened", true, []*Call{booked("a"), lost, show(9, 10, "a", accepted)}},
		{"an answer got lost and it did not happen", true, []*Call{booked("a"), lost, show(9, 10, "a", open)}},
		{"an answer got lost and it happened later", true, []*Call{booked("a"), at(2, Forever, "a", OpAccept, one, Unknown, none), show(9, 10, "a", open), show(11, 12, "a", accepted)}},
		{"a retry that took effect twice", false, []*Call{booked("a"), won, at(6, 7, "a", OpRelease, one, OK, state(booking.StateOpen, 3, nobody, "one")),
			again(won, at(8, 9, "a", OpAccept, one, OK, state(booking.StateAccepted, 4, one, "one"))), show(10, 11, "a", state(booking.StateAccepted, 4, one, "one"))}},
		{"a retry after it was given back", true, []*Call{booked("a"), lost, at(6, 7, "a", OpRelease, service, OK, state(booking.StateOpen, 3, nobody, "one")),
			again(lost, at(8, 9, "a", OpAccept, one, OK, state(booking.StateOpen, 3, nobody, "one")))}},
		{"the service tries again and meets what it has booked", true, []*Call{at(0, 5, "a", OpBook, user, OK, accepted), at(1, 4, "a", OpAccept, one, OK, accepted)}},
		{"the service meets what cannot be yet", false, []*Call{at(0, 1, "a", OpBook, user, OK, accepted), at(2, 5, "a", OpAccept, one, OK, accepted)}},
		{"a retry that is told it lost", false, []*Call{booked("a"), won, again(won, at(6, 7, "a", OpAccept, one, "already_accepted", none))}},
		{"contended, and yet it happened", false, []*Call{booked("a"), at(2, 5, "a", OpAccept, one, Contended, none), show(6, 7, "a", accepted)}},

		{"arrived once the position was known", true, []*Call{booked("a"), won, at(6, 7, "a", OpArrive, one, "position_unknown", none),
			at(8, 9, "a", OpArrive, one, OK, state(booking.StateArrived, 3, one))}},
		{"not at the pickup, and yet it happened", false, []*Call{booked("a"), won, at(6, 7, "a", OpArrive, one, "not_at_pickup", none),
			show(8, 9, "a", state(booking.StateArrived, 3, one))}},
		{"asked for a position before anybody had accepted", false, []*Call{booked("a"), at(2, 3, "a", OpArrive, one, "position_unknown", none)}},
		{"cancelled twice", false, []*Call{booked("a"), won, at(6, 7, "a", OpCancel, user, OK, cancelled), at(8, 9, "a", OpCancel, service, OK, cancelled)}},
		{"cancelled once more by the same actor", true, []*Call{booked("a"), won, at(6, 7, "a", OpCancel, user, OK, cancelled), at(8, 9, "a", OpCancel, user, OK, cancelled)}},
		{"given back once more", true, []*Call{booked("a"), won, at(6, 7, "a", OpRelease, one, OK, state(booking.StateOpen, 3, nobody, "one")),
			at(8, 9, "a", OpRelease, one, OK, state(booking.StateOpen, 3, nobody, "one"))}},
		{"given back once more, and stored twice", false, []*Call{booked("a"), won, at(6, 7, "a", OpRelease, one, OK, state(booking.StateOpen, 3, nobody, "one")),
			at(8, 9, "a", OpRelease, one, OK, state(booking.StateOpen, 4, nobody, "one"))}},
		{"accepted after it was given back", false, []*Call{booked("a"), won, at(6, 7, "a", OpRelease, one, OK, state(booking.StateOpen, 3, nobody, "one")),
			at(8, 9, "a", OpAccept, one, OK, state(booking.StateAccepted, 4, one, "one"))}},
		{"expired before its deadline", false, []*Call{booked("a"), at(6, 7, "a", OpExpire, service, OK, state(booking.StateExpired, 2, nobody))}},

		{"two rides", false, []*Call{booked("a"), booked("b"), won, at(6, 7, "b", OpAccept, one, OK, accepted)}},
		{"two rides at once", false, []*Call{booked("a"), booked("b"), won, at(2, 5, "b", OpAccept, one, OK, accepted)}},
		{"a ride and a next", true, []*Call{booked("a"), booked("b"), won, at(5, 7, "a", OpCancel, user, OK, cancelled), at(6, 8, "b", OpAccept, one, OK, accepted)}},
		{"busy with another", true, []*Call{booked("a"), booked("b"), won, at(2, 5, "b", OpAccept, one, "rider_busy", none)}},
		{"busy with nothing", false, []*Call{booked("b"), at(2, 5, "b", OpAccept, one, "rider_busy", none)}},
		{"busy with that very one", false, []*Call{booked("a"), won, at(2, 5, "a", OpAccept, one, "rider_busy", none)}},
		{"busy after it was cancelled", false, []*Call{booked("a"), booked("b"), won, at(6, 7, "a", OpCancel, user, OK, cancelled),
			at(8, 9, "b", OpAccept, one, "rider_busy", none)}},
		{"busy with what may have been accepted", true, []*Call{booked("a"), booked("b"), lost, at(6, 7, "b", OpAccept, one, "rider_busy", none)}},
		{"shown to have two", false, []*Call{booked("a"), booked("b"), lost, at(2, 5, "b", OpAccept, one, Unknown, none), show(6, 7, "a", accepted), show(8, 9, "b", accepted),
			show(10, 11, "a", accepted)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var calls []*Call
			for _, x := range test.calls {
				copied := *x
				if copied.Answer == Unknown { // as a recorder leaves it
					copied.End = Forever
				}
				calls = append(calls, &copied)
			}
			legal := Linearizable(calls, []string{one.ID, two.ID})
			if legal != test.legal {
				t.Errorf("legal: %v, want %v", legal, test.legal)
			}
		})
	}
}
