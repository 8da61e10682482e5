package booking_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/bookingtest"
	"github.com/example/pillion/internal/fault"
)

// A house is a desk over a log in memory, and a clock that goes when it is told to.
type house struct {
	*booking.Desk
	log *bookingtest.Log
	now time.Time
	id  booking.ID
}

func newHouse(t testing.TB, options ...bookingtest.Option) *house {
	t.Helper()
	h := &house{now: noon, id: booking.ID(booking.NewID())}
	clock := func() time.Time { return h.now }
	h.log = bookingtest.NewLog(append(options, bookingtest.WithClock(clock))...)
	d, err := booking.NewDesk(h.log, booking.DeskOptions{Deadline: 2 * time.Minute, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	h.Desk = d
	return h
}

// history returns the booking's history as it is.
func (h *house) history(t testing.TB) booking.History {
	t.Helper()
	got, err := h.log.Load(t.Context(), h.id, booking.Fresh)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// do sends a command that wants a kind of event.
func (h *house) do(ctx context.Context, k booking.Kind, c booking.Command) (booking.Booking, error) {
	switch k {
	case booking.Requested:
		return h.Book(ctx, c, h.id, booking.Trip{})
	case booking.Accepted:
		return h.Accept(ctx, c, h.id)
	case booking.Arrived:
		return h.Arrive(ctx, c, h.id)
	case booking.Started:
		return h.Start(ctx, c, h.id)
	case booking.StartRefused:
		return h.RefuseStart(ctx, c, h.id)
	case booking.Completed:
		return h.Complete(ctx, c, h.id)
	case booking.Cancelled:
		return h.Cancel(ctx, c, h.id, "rain")
	case booking.Released:
		return h.Release(ctx, c, h.id, "puncture")
	case booking.OperatorCancelled:
		return h.CancelAsOperator(ctx, c, h.id, "rain")
	case booking.OperatorReleased:
		return h.ReleaseAsOperator(ctx, c, h.id, "puncture")
	case booking.Expired:
		return h.Expire(ctx, c, h.id)
	case booking.Rated, booking.RiderRated:
		return h.Rate(ctx, c, h.id, 4)
	}
	panic("no command for " + k)
}

// tell sends the commands of a story, each of which must succeed.
func (h *house) tell(t testing.TB, steps ...step) {
	t.Helper()
	for _, st := range steps {
		if st.Kind == booking.Expired {
			h.now = h.now.Add(2 * time.Minute)
		}
		if _, err := h.do(t.Context(), st.Kind, by(st.Actor)); err != nil {
			t.Fatalf("%s by %s: %v", st.Kind, st.Actor.ID, err)
		}
	}
}

func TestNewDesk(t *testing.T) {
	if _, err := booking.NewDesk(
		nil,
		booking.DeskOptions{Deadline: -1},
	); err == nil ||
		len(err.(interface{ Unwrap() []error }).Unwrap()) != 2 {
		t.Errorf("two bad settings make: %v", err)
	}
	for _, d := range []time.Duration{0, -1, booking.LongestWait + 1} {
		if _, err := booking.NewDesk(bookingtest.NewLog(), booking.DeskOptions{Deadline: d}); err == nil {
			t.Errorf("a desk with a deadline of %v", d)
		}
	}
	if _, err := booking.NewDesk(bookingtest.NewLog(), booking.DeskOptions{Deadline: booking.LongestWait}); err != nil {
		t.Error(err)
	}
}

// Every command stores its event once, with what belongs to it, and returns the booking after it;
// its retry returns the same and stores nothing.
func TestCommands(t *testing.T) {
	for _, story := range [][]step{
		with(completed, step{Kind: booking.Rated, Actor: owner},
			step{Kind: booking.RiderRated, Actor: rider}),
		taken(step{Kind: booking.Arrived, Actor: rider}, refused, step{Kind: booking.Released, Actor: service},
			step{Kind: booking.Expired, Actor: service}),
		given(step{Kind: booking.Cancelled, Actor: owner}),
		taken(step{Kind: booking.OperatorReleased, Actor: service},
			step{Kind: booking.OperatorCancelled, Actor: service}),
	} {
		h := newHouse(t)
		var first booking.Booking
		for i, st := range story {
			h.now = h.now.Add(time.Second)
			if st.Kind == booking.Expired {
				h.now = h.now.Add(time.Hour)
			}
			c := by(st.Actor)
			b, err := h.do(t.Context(), st.Kind, c)
			if err != nil {
				t.Fatalf("%d %s: %v", i+1, st.Kind, err)
			}
			if i == 0 {
				first = b
			}
			hist := h.history(t)
			if len(hist.Events) != i+1 || !reflect.DeepEqual(b, hist.Booking) {
				t.Fatalf("%d %s: the desk says\n %+v, and the log\n %+v", i+1, st.Kind, b, hist)
			}
			e := hist.Events[i]
			if e.Kind != st.Kind || e.Actor != st.Actor || e.Command != c.ID || !e.At.Equal(h.now) {
				t.Errorf("%d %s: stored %+v", i+1, st.Kind, e)
			}
			if st.Kind == booking.Requested || st.Kind.Public() == booking.Released {
				if want := h.now.Add(2 * time.Minute); !b.Deadline.Equal(want) {
					t.Errorf("%s: the deadline is %v, want %v", st.Kind, b.Deadline, want)
				}
			}
			again, err := h.do(t.Context(), st.Kind, c)
			if err != nil || !reflect.DeepEqual(again, b) {
				t.Errorf("%d %s once more: %+v, %v", i+1, st.Kind, again, err)
			}
			if n := len(h.history(t).Events); n != i+1 {
				t.Fatalf("%d %s once more: %d events", i+1, st.Kind, n)
			}
			shown, err := h.Show(t.Context(), h.id)
			if err != nil || !reflect.DeepEqual(shown, b) {
				t.Errorf("show: %+v, %v", shown, err)
			}
		}
		if first.State != booking.StateOpen {
			t.Errorf("the first booking has changed: %+v", first)
		}
	}
}

// What the desk refuses, everywhere, in every situation, is what the state machine says, and is
// stored nowhere.
func TestRefusals(t *testing.T) {
	for _, s := range situations {
		h := newHouse(t, bookingtest.WithStaleReads(2))
		h.tell(t, s.story...)
		had := h.history(t)
		for _, k := range booking.Kinds()[1:] {
			for _, a := range everybody {
				_, want := decide(had.Booking, k, a, h.now)
				if want == nil || doneAlready(had, k, a) || othersRating(k, a) {
					continue
				}
				b, err := h.do(t.Context(), k, by(a))
				if !errors.Is(err, want) || err.Error() != want.Error() || !reflect.DeepEqual(b, booking.Booking{}) {
					t.Errorf("%s: %s by %s: %v, want %v", s.name, k, a.ID, err, want)
				}
			}
		}
		if now := h.history(t); !reflect.DeepEqual(now, had) {
			t.Errorf("%s: refusals have changed the history to %+v", s.name, now)
		}
	}
}

// doneAlready reports whether the actor is told success because it has done the same before.
func doneAlready(h booking.History, k booking.Kind, a booking.Actor) bool {
	did := slices.ContainsFunc(h.Events, func(e booking.Event) bool {
		return (e.Kind == k || e.Kind.IsRating() && k.IsRating()) && e.Actor == a
	})
	switch k {
	case booking.Accepted, booking.Arrived, booking.Started:
		return did && h.Booking.Rider == booking.RiderID(a.ID) &&
			slices.Contains(
				[]booking.State{booking.StateAccepted, booking.StateArrived, booking.StateStarted},
				h.Booking.State,
			)
	case booking.Released:
		return did && a.Role == booking.Rider
	case booking.Cancelled:
		return did && a.Role == booking.User
	case booking.Completed, booking.Rated, booking.RiderRated: // which nothing undoes
		return did
	}
	return false
}

func TestRefusesWhatNoReaderWouldTake(t *testing.T) {
	h := newHouse(t)
	for _, id := range []booking.ID{"", "ride", "abcdefghijklmnopqrstuvwxy.", "abcdefghijklmnopqrstuvwxyz.>"} {
		h.id = id
		for _, k := range booking.Kinds() {
			_, err := h.do(t.Context(), k, by(owner))
			wants(t, err, booking.ErrInvalidID)
		}
		_, err := h.Show(t.Context(), id)
		wants(t, err, booking.ErrInvalidID)
	}
	h.id = booking.ID(booking.NewID())
	for _, c := range []booking.Command{{}, {Actor: owner}, {ID: "short", Actor: owner}, {ID: by(owner).ID}} {
		for _, k := range booking.Kinds() {
			_, err := h.do(t.Context(), k, c)
			wants(t, err, booking.ErrInvalidCommand)
		}
	}
	_, err := h.Show(t.Context(), h.id)
	wants(t, err, booking.ErrNotFound)
	_, err = h.Book(t.Context(), by(owner), h.id, booking.Trip{Pickup: &booking.Place{}})
	wants(t, err, booking.ErrInvalidTrip)
	_, err = h.Book(t.Context(), by(rider), h.id, booking.Trip{})
	wants(t, err, booking.ErrWrongRole)
}

// Booking an id that is there already.
func TestBookAgain(t *testing.T) {
	trip := booking.Trip{Pickup: &booking.Place{Lat: 1, Lng: 2}, Dropoff: &booking.Place{Lat: 3, Lng: 4}}
	same := booking.Trip{Pickup: &booking.Place{Lat: 1, Lng: 2}, Dropoff: &booking.Place{Lat: 3, Lng: 4}}
	for _, test := range []struct {
		name  string
		actor booking.Actor
		trip  booking.Trip
		want  error
	}{
		{"its own, for the same trip", owner, same, nil},
		{"another pickup", owner, booking.Trip{Pickup: &booking.Place{Lat: 1, Lng: 2.5}, Dropoff: trip.Dropoff}, booking.ErrKeyReused},
		{"another dropoff", owner, booking.Trip{Pickup: trip.Pickup, Dropoff: &booking.Place{Lat: 3, Lng: 5}}, booking.ErrKeyReused},
		{"no trip", owner, booking.Trip{}, booking.ErrKeyReused},
		{"another user's", stranger, same, booking.ErrKeyReused},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHouse(t)
			if _, err := h.Book(t.Context(), by(owner), h.id, trip); err != nil {
				t.Fatal(err)
			}
			if _, err := h.Accept(t.Context(), by(rider), h.id); err != nil {
				t.Fatal(err)
			}
			b, err := h.Book(t.Context(), by(test.actor), h.id, test.trip)
			wants(t, err, test.want)
			if test.want == nil && b.State != booking.StateAccepted {
				t.Errorf("its own booking as it is now: %+v", b)
			}
			if n := len(h.history(t).Events); n != 2 {
				t.Errorf("%d events", n)
			}
		})
	}
}

// Forgeries are in nobody's way, wherever they sit.
func TestForgeriesAreSteppedOver(t *testing.T) {
	h := newHouse(t)
	forge := func(n int, k booking.Kind) {
		t.Helper()
		if err := h.log.Forge(t.Context(), h.id, n, k); err != nil {
			t.Fatal(err)
		}
	}
	forge(1, booking.Requested)
	forge(1, booking.Cancelled)
	forge(3, booking.Accepted)
	h.tell(t, step{Kind: booking.Requested, Actor: owner})
	for n := 4; n < 50; n++ {
		forge(n, booking.Accepted)
	}
	// An event with a good token that does not follow is one more forgery.
	if err := h.log.Publish(
		t.Context(),
		booking.Event{ID: "x", Booking: h.id, N: 50, Kind: booking.Accepted, Actor: stranger},
	); err != nil {
		t.Fatal(err)
	}
	b, err := h.Accept(t.Context(), by(rider), h.id)
	if err != nil || b.Version != 51 {
		t.Errorf("%+v, %v", b, err)
	}
	if got := len(h.history(t).Events); got != 2 {
		t.Errorf("%d events", got)
	}
}

// A booking whose beginning has aged is none, and its id is not used again while something of it is
// left.
func TestAgedBooking(t *testing.T) {
	h := newHouse(t)
	h.tell(t, taken()...)
	h.log.Age(h.id, 1)
	_, err := h.Show(t.Context(), h.id)
	wants(t, err, booking.ErrNotFound)
	_, err = h.Arrive(t.Context(), by(rider), h.id)
	wants(t, err, booking.ErrNotFound)
	_, err = h.Book(t.Context(), by(owner), h.id, booking.Trip{})
	wants(t, err, booking.ErrKeyReused)
	h.log.Age(h.id, 3)
	if _, err = h.Book(t.Context(), by(owner), h.id, booking.Trip{}); err != nil {
		t.Errorf("with nothing of it left: %v", err)
	}
}

// However stale what a desk reads first is, it is right about what it tells.
func TestStaleReads(t *testing.T) {
	for _, lag := range []uint64{1, 2, 4, 1000} {
		t.Run(fmt.Sprint(lag), func(t *testing.T) {
			h := newHouse(t, bookingtest.WithStaleReads(lag))
			// of a booking that a stale read does not know
			h.tell(t, step{Kind: booking.Requested, Actor: owner}, step{Kind: booking.Accepted, Actor: rider})
			_, err := h.Accept(t.Context(), by(other), h.id)
			wants(t, err, booking.ErrAlreadyAccepted)
			if _, err = h.Accept(t.Context(), by(rider), h.id); err != nil {
				t.Errorf("its rider was told %v", err)
			}
			h.tell(t, step{Kind: booking.Released, Actor: service})
			_, err = h.Accept(t.Context(), by(rider), h.id)
			// and not success, as a stale read would have it
			wants(t, err, booking.ErrReleasedByYou)
			h.tell(t, step{Kind: booking.Accepted, Actor: other}, step{Kind: booking.Cancelled, Actor: owner})
			_, err = h.Accept(t.Context(), by(former), h.id)
			wants(t, err, booking.ErrCancelled)
			if n := len(h.history(t).Events); n != 5 {
				t.Errorf("%d events", n)
			}
		})
	}
}

// A replica may have an event before the leader. A repeated command succeeds only when the leader
// has it too, or the next command, which asks the leader, could be refused.
func TestRepeatsAskTheLeader(t *testing.T) {
	h := newHouse(t)
	h.tell(t, step{Kind: booking.Requested, Actor: owner}, step{Kind: booking.Accepted, Actor: rider})
	log := &countingLog{Log: h.log}
	clock := func() time.Time { return h.now }
	desk, err := booking.NewDesk(log, booking.DeskOptions{Deadline: 2 * time.Minute, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	c := by(rider)
	if _, err := desk.Arrive(t.Context(), c, h.id); err != nil {
		t.Fatal(err)
	}
	log.fresh = 0
	if b, err := desk.Arrive(t.Context(), c, h.id); err != nil || b.State != booking.StateArrived || log.fresh == 0 {
		t.Errorf("repeated: %v, %v, and the leader was asked %d times", b.State, err, log.fresh)
	}
}

// A countingLog counts what is asked of the leader.
type countingLog struct {
	booking.Log
	fresh int
}

func (l *countingLog) Load(ctx context.Context, id booking.ID, r booking.Reading) (booking.History, error) {
	if r == booking.Fresh {
		l.fresh++
	}
	return l.Log.Load(ctx, id, r)
}

// The ack of an append is lost: the command is answered with unavailable, and its retry with
// success.
func TestLostAcks(t *testing.T) {
	lost := true
	h := newHouse(t, bookingtest.WithLostAcks(func() bool { return lost }), bookingtest.WithStaleReads(1))
	for i, st := range taken(step{Kind: booking.Arrived, Actor: rider}, refused, refused) {
		c := by(st.Actor)
		lost = true
		_, err := h.do(t.Context(), st.Kind, c)
		wants(t, err, bookingtest.ErrAckLost)
		if fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s: %v", st.Kind, err)
		}
		lost = false
		if b, err := h.do(t.Context(), st.Kind, c); err != nil || b.Version != i+1 {
			t.Errorf("%s once more: %+v, %v", st.Kind, b, err)
		}
	}
	if b := h.history(t).Booking; b.WrongCodes != 2 {
		t.Errorf("%d wrong codes were counted, want 2", b.WrongCodes)
	}
}

// A command id that was used for something else is not a success.
func TestCommandIDReused(t *testing.T) {
	h := newHouse(t)
	h.tell(t, step{Kind: booking.Requested, Actor: owner})
	c := by(rider)
	if _, err := h.Accept(t.Context(), c, h.id); err != nil {
		t.Fatal(err)
	}
	_, err := h.Arrive(t.Context(), c, h.id)
	wants(t, err, booking.ErrKeyReused)
	c.Actor = other
	_, err = h.Accept(t.Context(), c, h.id)
	wants(t, err, booking.ErrKeyReused)
}

// What is no reason any more by the time that it is decided does nothing.
func TestReleaseIf(t *testing.T) {
	h := newHouse(t, bookingtest.WithStaleReads(1))
	h.tell(t, taken()...)
	had := h.history(t).Booking
	for _, still := range []bool{false, true} {
		b, err := h.ReleaseIf(
			t.Context(),
			by(service),
			h.id,
			booking.ReasonNotComing,
			func(now booking.Booking) bool { return still && now.Seq == had.Seq },
		)
		if err != nil || (b.Version > had.Version) != still || (b.State == booking.StateOpen) != still {
			t.Errorf("still %v: it is %s, version %d after %d: %v", still, b.State, b.Version, had.Version, err)
		}
	}
}

// The ways for a rider to have accepted a booking already.
func TestAcceptedAlready(t *testing.T) {
	h := newHouse(t)
	h.tell(t, given()...)
	for _, st := range []step{{Kind: booking.Accepted, Actor: rider}, {Kind: booking.Arrived, Actor: rider},
		{Kind: booking.Started, Actor: rider}} {
		h.tell(t, st)
		b, err := h.Accept(t.Context(), by(rider), h.id)
		if err != nil || !reflect.DeepEqual(b, h.history(t).Booking) {
			t.Errorf("after %s: %+v, %v", st.Kind, b, err)
		}
		impostor := booking.Actor{ID: rider.ID, Role: booking.User}
		_, err = h.Accept(t.Context(), by(impostor), h.id)
		wants(t, err, booking.ErrWrongRole)
	}
	if n := len(h.history(t).Events); n != 6 {
		t.Errorf("%d events, want 6", n)
	}
	h.tell(t, step{Kind: booking.Completed, Actor: rider})
	_, err := h.Accept(t.Context(), by(rider), h.id)
	wants(t, err, booking.ErrCompleted)
}

// Who asks again for what they have done gets the booking as it is, and nothing is stored. It does
// not matter how stale the first read is.
func TestDoneAlready(t *testing.T) {
	for lag := range uint64(4) {
		h := newHouse(t, bookingtest.WithStaleReads(lag))
		again := func(st step, want error) {
			t.Helper()
			before := h.history(t)
			b, err := h.do(t.Context(), st.Kind, by(st.Actor))
			wants(t, err, want)
			if want == nil && !reflect.DeepEqual(b, before.Booking) {
				t.Errorf("%s again: %+v, want %+v", st.Kind, b, before.Booking)
			}
			if n := len(h.history(t).Events); n != len(before.Events) {
				t.Errorf("%s again makes %d events of %d", st.Kind, n, len(before.Events))
			}
		}
		h.tell(t, given()...)
		for _, st := range []step{
			{Kind: booking.Accepted, Actor: rider}, {Kind: booking.Arrived, Actor: rider}, {Kind: booking.Started, Actor: rider}, {Kind: booking.Completed, Actor: rider}, {Kind: booking.Rated, Actor: owner}, {Kind: booking.RiderRated, Actor: rider},
		} {
			h.tell(t, st)
			again(st, nil)
			if st.Kind == booking.Started {
				again(step{Kind: booking.Arrived, Actor: rider}, nil) // as an acceptance is
			}
		}
		again(step{Kind: booking.Arrived, Actor: rider}, booking.ErrCompleted)
		_, err := h.Rate(t.Context(), by(owner), h.id, 1)
		wants(t, err, booking.ErrAlreadyRated)

		h.id = booking.ID(booking.NewID())
		h.tell(t, taken(step{Kind: booking.Released, Actor: rider})...)
		again(step{Kind: booking.Released, Actor: rider}, nil)
		h.tell(t, step{Kind: booking.Accepted, Actor: other})
		again(step{Kind: booking.Released, Actor: rider}, nil)
		again(step{Kind: booking.Arrived, Actor: rider}, booking.ErrReleasedByYou)
		// which has taken it from one rider, and may take it from the next
		h.tell(t, step{Kind: booking.Released, Actor: service})
		again(step{Kind: booking.Released, Actor: other}, booking.ErrReleasedByYou)
		h.tell(t, step{Kind: booking.Cancelled, Actor: owner})
		again(step{Kind: booking.Cancelled, Actor: owner}, nil)
		again(step{Kind: booking.Cancelled, Actor: service}, booking.ErrCancelled)
	}
}

// A rider has one ride at a time, also where the read of that ride has not heard of it yet.
func TestOneRideARider(t *testing.T) {
	for stale := range uint64(5) {
		h := newHouse(t, bookingtest.WithStaleReads(stale))
		first := h.id
		next := booking.ID(booking.NewID())
		for _, id := range []booking.ID{first, next} {
			_, err := h.Book(t.Context(), by(owner), id, booking.Trip{})
			wants(t, err, nil)
		}
		steps := []step{
			{Kind: booking.Accepted, Actor: rider},
			{Kind: booking.Arrived, Actor: rider},
			{Kind: booking.Started, Actor: rider},
		}
		for _, st := range steps {
			h.tell(t, st)
			_, err := h.Accept(t.Context(), by(rider), next)
			wants(t, err, booking.ErrRiderBusy)
			call := "/release" // once the ride has started, it can only be completed
			if st.Kind == booking.Started {
				call = "/complete"
			}
			wantsToEnd(t, err, first, call)
		}
		h.tell(t, step{Kind: booking.Completed, Actor: rider})
		_, err := h.Accept(t.Context(), by(rider), next)
		wants(t, err, nil)
	}
}

// A meddler is a log where something happens just before somebody asks for a rider's engagement,
// once.
type meddler struct {
	booking.Log
	meddle func()
}

func (m *meddler) Engagement(
	ctx context.Context, rider booking.RiderID, r booking.Reading,
) (booking.Engagement, error) {
	if f := m.meddle; f != nil {
		m.meddle = nil
		f()
	}
	return m.Log.Engagement(ctx, rider, r)
}

// A rider who accepts a booking twice at once, on two phones or by a retry of what is still under
// way, is not told to be busy with another ride.
func TestAcceptTwiceAtOnce(t *testing.T) {
	for _, name := range []string{"two phones", "a retry"} {
		t.Run(name, func(t *testing.T) {
			// so that the desk has made its fresh read before
			h := newHouse(t, bookingtest.WithStaleReads(1))
			h.tell(t, step{Kind: booking.Requested, Actor: owner})
			c := by(rider)
			log := &meddler{Log: h.log}
			log.meddle = func() {
				first := c
				if name == "two phones" {
					first = by(rider)
				}
				_, err := h.Accept(t.Context(), first, h.id)
				wants(t, err, nil)
			}
			d, err := booking.NewDesk(
				log,
				booking.DeskOptions{Deadline: time.Minute, Now: func() time.Time { return noon }},
			)
			if err != nil {
				t.Fatal(err)
			}
			b, err := d.Accept(t.Context(), c, h.id)
			wants(t, err, nil)
			if string(b.Rider) != rider.ID || b.Version != 2 {
				t.Errorf("the booking is %+v", b)
			}
		})
	}
}

// A quick asker is a log that tells a rider's engagement from memory once. Then it fails.
type quickAsker struct {
	booking.Log
	asked int
}

func (q *quickAsker) Engagement(
	ctx context.Context, rider booking.RiderID, r booking.Reading,
) (booking.Engagement, error) {
	if r == booking.Quick {
		if q.asked++; q.asked > 1 {
			return booking.Engagement{}, errors.New("asked memory again, which has not moved")
		}
	}
	return q.Log.Engagement(ctx, rider, r)
}

// The second decision is made on what the log's leader says of the rider. Otherwise a stale memory
// would be asked for ever.
func TestStaleEngagement(t *testing.T) {
	h := newHouse(t, bookingtest.WithStaleReads(2)) // an acceptance and its record
	next := booking.ID(booking.NewID())
	for _, id := range []booking.ID{h.id, next} {
		_, err := h.Book(t.Context(), by(owner), id, booking.Trip{})
		wants(t, err, nil)
	}
	h.tell(t, step{Kind: booking.Accepted, Actor: rider})
	d, err := booking.NewDesk(&quickAsker{Log: h.log},
		booking.DeskOptions{Deadline: time.Minute, Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Accept(t.Context(), by(rider), next)
	wants(t, err, booking.ErrRiderBusy)
}

// A rider accepts in time or not at all, by the desk's clock.
func TestAcceptAfterTheDeadline(t *testing.T) {
	h := newHouse(t)
	h.tell(t, step{Kind: booking.Requested, Actor: owner})
	h.now = h.now.Add(2*time.Minute + 1)
	_, err := h.Accept(t.Context(), by(rider), h.id)
	wants(t, err, booking.ErrExpired)
	if s := h.history(t).Booking.State; s != booking.StateOpen {
		t.Errorf("it was %s by being asked for", s)
	}
}

// A context that ends ends every command, with an error that says to try again.
func TestDeskStopsWithItsContext(t *testing.T) {
	h := newHouse(t)
	h.tell(t, step{Kind: booking.Requested, Actor: owner})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, k := range booking.Kinds() {
		_, err := h.do(ctx, k, by(rider))
		if k == booking.Requested {
			_, err = h.do(ctx, k, by(owner))
		}
		if !errors.Is(err, context.Canceled) || fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s: %v", k, err)
		}
	}
	_, err := h.Show(ctx, h.id)
	wants(t, err, context.Canceled)
}

// A log that always says that the booking has moved is given up when the context ends.
func TestContention(t *testing.T) {
	h := newHouse(t)
	h.tell(t, step{Kind: booking.Requested, Actor: owner})
	ctx, cancel := context.WithCancel(t.Context())
	appends := 0
	d, err := booking.NewDesk(restless{h.log, func() {
		if appends++; appends == 50 {
			cancel()
		}
	}}, booking.DeskOptions{Deadline: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Cancel(ctx, by(owner), h.id, "")
	wants(t, err, booking.ErrContended)
	wants(t, err, context.Canceled)
	if appends != 50 {
		t.Errorf("%d appends were tried, want 50", appends)
	}
	appends = 49
	_, err = d.Book(ctx, by(owner), booking.ID(booking.NewID()), booking.Trip{})
	wants(t, err, booking.ErrContended)
}

// restless is a log on which somebody else is always faster.
type restless struct {
	booking.Log
	tried func()
}

func (r restless) Append(
	context.Context,
	booking.Command,
	booking.ID,
	booking.History,
	...booking.Event,
) (booking.History, error) {
	r.tried()
	return booking.History{}, booking.ErrMoved
}

// 32 riders race, with the user cancelling in between in half of the rounds: one outcome, told the
// same to everybody.
func TestRace(t *testing.T) {
	const rounds, riders = 100, 32
	for round := range rounds {
		h := newHouse(t, bookingtest.WithStaleReads(uint64(round%4)))
		h.tell(t, step{Kind: booking.Requested, Actor: owner})
		errs := make([]error, riders)
		var cancelErr error
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range riders {
			wg.Go(func() {
				<-start
				_, errs[i] = h.Accept(t.Context(), by(booking.Actor{ID: fmt.Sprint(i), Role: booking.Rider}), h.id)
			})
		}
		if round%2 == 1 {
			wg.Go(func() {
				<-start
				_, cancelErr = h.Cancel(t.Context(), by(owner), h.id, "")
			})
		}
		close(start)
		wg.Wait()
		if cancelErr != nil {
			t.Errorf("round %d: cancel: %v", round, cancelErr)
		}
		hist := h.history(t)
		for i, err := range errs {
			won := string(hist.Booking.Rider) == fmt.Sprint(i)
			switch {
			case won && err == nil:
			case !won && errors.Is(err, booking.ErrAlreadyAccepted) && hist.Booking.Rider != "":
			case !won && errors.Is(err, booking.ErrCancelled) && round%2 == 1:
			default:
				t.Errorf("round %d: rider %d won: %v, and was told %v", round, i, won, err)
			}
		}
		if round%2 == 0 && (hist.Booking.State != booking.StateAccepted || len(hist.Events) != 2) {
			t.Errorf("round %d: %+v", round, hist)
		}
	}
}

// What a ride costs is fixed when it is booked: a retry is told so, whatever rides cost by then.
func TestBookFixesTheFare(t *testing.T) {
	log := bookingtest.NewLog()
	at := func(base int64) *booking.Desk {
		tariff := plain()
		tariff.Base = base
		desk, err := booking.NewDesk(log, booking.DeskOptions{Deadline: time.Minute, Tariff: &tariff})
		if err != nil {
			t.Fatal(err)
		}
		tariff.Base = 0 // the desk's own stays
		return desk
	}
	desk, id, trip := at(100), booking.ID(booking.NewID()), north(6000)
	quote, err := desk.Quote(trip)
	if err != nil {
		t.Fatal(err)
	}
	for _, when := range []struct {
		name string
		desk *booking.Desk
	}{{"first", desk}, {"again", desk}, {"after a rise", at(999)}} {
		b, err := when.desk.Book(t.Context(), by(owner), id, trip)
		if err != nil || b.Quote == nil || *b.Quote != *quote || quote.Fare != 520 {
			t.Errorf("%s: booked for %+v (%v), and the quote was %+v", when.name, b.Quote, err, quote)
		}
	}
	if b, err := desk.Book(
		t.Context(),
		by(owner),
		booking.ID(booking.NewID()),
		booking.Trip{},
	); err != nil ||
		b.Quote != nil {
		t.Errorf("without places: %+v, %v, want no fare", b.Quote, err)
	}
	_, err = desk.Book(t.Context(), by(owner), booking.ID(booking.NewID()), north(200_000))
	wants(t, err, booking.ErrTooFar)
}

// wantsToEnd checks that a refusal because of a ride under way names the booking and the call that
// ends it.
func wantsToEnd(t *testing.T, err error, id booking.ID, call string) {
	t.Helper()
	said := fault.From(err).Message
	if !strings.Contains(said, "booking "+string(id)+". ") ||
		call != "" && !strings.Contains(said, "POST /bookings/"+string(id)+call) {
		t.Errorf("%q, want the booking %s and the call %s", said, id, call)
	}
}
