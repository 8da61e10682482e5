package bookingtest

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/example/pillion/booking"
)

// Transitions is the state diagram: the state after an event of a kind in a state.
var Transitions = map[booking.Kind]map[booking.State]booking.State{
	booking.Requested:    {booking.StateNone: booking.StateOpen},
	booking.Accepted:     {booking.StateOpen: booking.StateAccepted},
	booking.Arrived:      {booking.StateAccepted: booking.StateArrived},
	booking.Started:      {booking.StateArrived: booking.StateStarted},
	booking.StartRefused: {booking.StateArrived: booking.StateArrived},
	booking.Completed:    {booking.StateStarted: booking.StateCompleted},
	booking.Cancelled: {booking.StateOpen: booking.StateCancelled, booking.StateAccepted: booking.StateCancelled,
		booking.StateArrived: booking.StateCancelled},
	booking.OperatorCancelled: {booking.StateOpen: booking.StateCancelled,
		booking.StateAccepted: booking.StateCancelled, booking.StateArrived: booking.StateCancelled,
		booking.StateStarted: booking.StateCancelled},
	booking.OperatorReleased: {booking.StateAccepted: booking.StateOpen, booking.StateArrived: booking.StateOpen},
	booking.Released:         {booking.StateAccepted: booking.StateOpen, booking.StateArrived: booking.StateOpen},
	booking.Expired:          {booking.StateOpen: booking.StateExpired},
	booking.Rated:            {booking.StateCompleted: booking.StateCompleted},
	booking.RiderRated:       {booking.StateCompleted: booking.StateCompleted},
}

// Sane fails the test unless events can produce b.
func Sane(t testing.TB, b booking.Booking) {
	t.Helper()
	fail := func(what string) {
		t.Helper()
		t.Fatalf("%s: %+v", what, b)
	}
	if b.State == booking.StateNone {
		if !reflect.DeepEqual(b, booking.Booking{}) {
			fail("nothing was requested, and yet there is something")
		}
		return
	}
	ridden := slices.Contains(
		[]booking.State{booking.StateAccepted, booking.StateArrived, booking.StateStarted, booking.StateCompleted},
		b.State,
	)
	waits := b.State == booking.StateOpen || b.State == booking.StateExpired
	sorted := slices.Sorted(slices.Values(b.ReleasedBy))
	switch {
	case !slices.Contains(booking.States(), b.State):
		fail("no such state")
	case b.User == "" || b.Deadline.IsZero() || b.Version < 1:
		fail("something is missing")
	case ridden && b.Rider == "" || waits && b.Rider != "":
		fail("rider and state disagree")
	case b.Rider != "" && slices.Contains(b.ReleasedBy, b.Rider):
		fail("a rider has it again")
	case len(slices.Compact(sorted)) != len(b.ReleasedBy):
		fail("a rider had it twice")
	case b.WrongCodes < 0 || b.WrongCodes > booking.MaxWrongCodes || b.WrongCodes > 0 &&
		(waits || b.State == booking.StateAccepted):
		fail("wrong codes")
	case (b.UserStars != 0 || b.RiderStars != 0) && b.State != booking.StateCompleted:
		fail("rated before it was over")
	case b.UserStars < 0 || b.UserStars > 5 || b.RiderStars < 0 || b.RiderStars > 5:
		fail("stars")
	case (booking.Trip{Pickup: b.Pickup, Dropoff: b.Dropoff}).Valid() != nil:
		fail("trip")
	case b.Quote != nil && (b.Pickup == nil || b.Quote.Fare < 0 || b.Quote.Metres < 0):
		fail("quote")
	}
}

// A Random generates events: many that follow, some that do not, some repeated, and some invalid.
type Random struct {
	*rand.Rand
	ID   booking.ID // of the next booking to request
	Seq  uint64     // of the last event
	told []booking.Event
}

// NewRandom returns a Random with a seed.
func NewRandom(seed uint64) *Random { return &Random{Rand: rand.New(rand.NewPCG(seed, 1)), ID: Ride} }

// Pick returns one of its arguments.
func Pick[T any](s *Random, of ...T) T { return of[s.IntN(len(of))] }

// Event returns an event that may or may not follow b.
func (s *Random) Event(b booking.Booking) booking.Event {
	s.Seq++
	if len(s.told) > 0 && s.IntN(20) == 0 { // repeats an event
		e := s.told[s.IntN(len(s.told))]
		e.Seq, e.At = s.Seq, s.stored() // the ledger sets these
		return e
	}
	e := s.wish(b)
	if s.IntN(8) == 0 {
		e.Actor = Pick(s, append(Everybody, booking.Actor{})...)
	}
	e.ID = booking.EventID(booking.DeriveID("event", fmt.Sprint(s.Uint64())))
	e.Booking, e.Seq, e.Command = s.ID, s.Seq, booking.CommandID(booking.DeriveID(fmt.Sprint(s.Seq)))
	e.Decided = Noon.Add(time.Duration(s.Seq) * time.Second)
	e.At = s.stored()
	s.told = append(s.told, e)
	return e
}

// stored returns the time at which the ledger stores the present event. It grows with the sequence,
// up to the difference of server clocks.
func (s *Random) stored() time.Time {
	return Noon.Add(time.Duration(s.Seq)*time.Second + time.Duration(s.IntN(2000))*time.Millisecond)
}

// Town is near many pickups.
var Town = booking.Place{Lat: -17, Lng: 180}

// ends are events that would end most bookings early.
var ends = []booking.Kind{booking.Cancelled, booking.OperatorCancelled, booking.Expired}

// wish returns a plausible event for b.
func (s *Random) wish(b booking.Booking) booking.Event {
	var ks []booking.Kind
	for _, k := range booking.Kinds() {
		if _, ok := Transitions[k][b.State]; ok && (!slices.Contains(ends, k) || s.IntN(6) == 0) {
			ks = append(ks, k)
		}
	}
	if len(ks) == 0 || s.IntN(8) == 0 {
		ks = append(booking.Kinds(), "stolen")
	}
	e := booking.Event{Kind: Pick(s, ks...), Actor: booking.Actor{ID: string(b.Rider), Role: booking.Rider}}
	switch e.Kind {
	case booking.Requested:
		e.Actor = Pick(s, Owner, Stranger)
		if s.IntN(2) == 0 {
			e.Pickup, e.Dropoff = &booking.Place{
				Lat: s.Float64()*200 - 100,
				Lng: 1,
			}, &booking.Place{
				Lat: 2,
				Lng: s.Float64()*400 - 200,
			}
			if s.IntN(3) > 0 { // near a town on the antimeridian
				*e.Pickup = booking.Place{
					Lat: Town.Lat + s.Float64()*0.1,
					Lng: Pick(s, 1.0, -1.0) * (180 - s.Float64()*0.1),
				}
			}
		}
		if s.IntN(2) == 0 {
			e.Quote = &booking.Quote{
				Metres:   s.Int64N(3_000_000) - 500_000,
				Fare:     s.Int64N(1 << 54),
				Currency: Pick(s, "INR", "EUR", "inr", ""),
			}
		}
	case booking.Accepted:
		e.Actor = Pick(s, TheRider, Other, Former)
	case booking.Cancelled:
		e.Actor = Pick(s, booking.Actor{ID: string(b.User), Role: booking.User}, Service)
	case booking.Expired, booking.OperatorCancelled, booking.OperatorReleased:
		e.Actor = Service
	case booking.Rated:
		e.Actor = Pick(s, e.Actor, booking.Actor{ID: string(b.User), Role: booking.User})
	}
	e.Stars = s.IntN(7)
	e.Reason = Pick(s, "", "rain", "rain", "a\nb")
	e.Deadline = Pick(s, time.Time{}, Noon, Noon.Add(time.Minute), Deadline, Deadline, Noon.Add(time.Hour))
	return e
}
