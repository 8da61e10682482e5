package booking_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/bookingtest"
)

// sequencer returns the sequencer of events, every one of which must be in its place.
func sequencer(t testing.TB, events []booking.Event) booking.EventSequencer {
	t.Helper()
	var th booking.EventSequencer
	for _, e := range events {
		if err := th.Apply(e); err != nil {
			t.Fatalf("%d %s: %v", e.N, e.Kind, err)
		}
	}
	return th
}

func TestPositions(t *testing.T) {
	type refusal struct {
		n int
		k booking.Kind
	}
	accepted := step{Kind: booking.Accepted, Actor: rider}
	for _, test := range []struct {
		name    string
		story   []step
		refused []refusal
		next    step
		n       int
		want    error
	}{
		{"the first", nil, nil, step{Kind: booking.Requested, Actor: owner}, 1, nil},
		{"the next", given(), nil, accepted, 4, nil},
		{"the last once more", given(), nil, accepted, 3, booking.ErrPosition},
		{"none at all", given(), nil, accepted, 0, booking.ErrPosition},
		{"before the first", nil, nil, step{Kind: booking.Requested, Actor: owner}, 0, booking.ErrPosition},
		{"negative", given(), nil, accepted, -1, booking.ErrPosition},
		{"one too far", given(), nil, accepted, 5, booking.ErrPosition},
		{"far ahead", given(), nil, accepted, 999, booking.ErrPosition},
		{"as far as can be", given(), nil, accepted, math.MaxInt, booking.ErrPosition},
		{"after a refused one", given(), []refusal{{4, booking.Accepted}}, accepted, 5, nil},
		{"where a refused one sits", given(), []refusal{{4, booking.Accepted}}, accepted, 4, booking.ErrPosition},
		{"after two refused ones", given(), []refusal{{5, booking.Accepted}, {4, booking.Accepted}}, accepted, 6, nil},
		{"refused one further on", given(), []refusal{{5, booking.Accepted}}, accepted, 4, nil},
		{"beside a refused one of another kind", given(), []refusal{{4, booking.Cancelled}}, accepted, 4, nil},
		{"not after a refused one of another kind", given(), []refusal{{4, booking.Cancelled}}, accepted, 5, booking.ErrPosition},
		{"refused on the past", given(), []refusal{{3, booking.Accepted}, {1, booking.Accepted}}, accepted, 4, nil},
		{"refused on what is no position", given(), []refusal{{0, booking.Accepted}, {-4, booking.Accepted}, {4, "stolen"}, {math.MaxInt, booking.Accepted}}, accepted, 4, nil},
		{"refused so far off that it might be mistaken for another kind", given(), []refusal{{3<<56 | 4, booking.Requested}, {1<<57 | 4, booking.Accepted}}, accepted, 4, nil},
		{"refused twice", given(), []refusal{{4, booking.Accepted}, {4, booking.Accepted}}, accepted, 5, nil},
		{"the first, after a refused one", nil, []refusal{{1, booking.Requested}}, step{Kind: booking.Requested, Actor: owner}, 2, nil},
		{"the first is another kind", nil, nil, accepted, 1, booking.ErrDoesNotFollow},
		{"the beginning is gone", nil, nil, accepted, 2, booking.ErrAged},
		{"the beginning is gone, and another one comes far behind", nil, nil, step{Kind: booking.Requested, Actor: owner}, 2, booking.ErrAged},
		{"the right place for what does not follow", given(), nil, step{Kind: booking.Completed, Actor: rider}, 4, booking.ErrDoesNotFollow},
		{"the right place for what nobody knows", given(), nil, step{Kind: "stolen", Actor: rider}, 4, booking.ErrDoesNotFollow},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := bookingtest.Story{}
			var th booking.EventSequencer
			for _, st := range test.story {
				if err := th.Apply(s.Store(st.Event())); err != nil {
					t.Fatal(err)
				}
			}
			for _, r := range test.refused {
				th.Refuse(r.n, r.k, 0)
			}
			had := th.Booking
			e := s.Store(test.next.Event())
			e.N = test.n
			err := th.Apply(e)
			wants(t, err, test.want)
			if test.want != nil && !reflect.DeepEqual(th.Booking, had) {
				t.Errorf("the booking has changed to %+v", th.Booking)
			}
			if test.want == nil && (th.Booking.Version != test.n || th.Next(booking.Cancelled) <= test.n) {
				t.Errorf("version %d, next %d", th.Booking.Version, th.Next(booking.Cancelled))
			}
		})
	}
}

// A whole event that is stored once more, anywhere, is told apart from one that is in the wrong
// place.
func TestThreadDuplicate(t *testing.T) {
	events := tell(given()...)
	th := sequencer(t, events)
	for _, n := range []int{1, 4, 9} {
		e := events[2]
		e.N = n
		wants(t, th.Apply(e), booking.ErrDuplicate)
	}
}

// A history that has lost its beginning does not get a new one, which would sit among what is left
// of the old one.
func TestAgedStaysAged(t *testing.T) {
	events := tell(taken()...)
	var th booking.EventSequencer
	for _, e := range events[1:] {
		wants(t, th.Apply(e), booking.ErrAged)
	}
	wants(t, th.Apply(events[0]), booking.ErrAged)
	c := th.Clone()
	wants(t, c.Apply(events[0]), booking.ErrAged)
	if !reflect.DeepEqual(th.Booking, booking.Booking{}) {
		t.Errorf("%+v", th.Booking)
	}
}

// However many forgeries sit in whatever order on a booking's next positions, the next one is
// found, and found fast: a search that counts would take minutes.
func TestManyForgeries(t *testing.T) {
	const forged = 100_000
	th := sequencer(t, tell(given()...))
	ns := make([]int, forged)
	for i := range ns {
		ns[i] = 4 + i
	}
	r := rand.New(rand.NewPCG(1, 1))
	r.Shuffle(forged/10, func(i, j int) { ns[i], ns[j] = ns[j], ns[i] })
	for _, n := range ns {
		th.Refuse(n, booking.Accepted, 0)
		if n := th.Next(booking.Accepted); n < 4 || n > 4+forged {
			t.Fatalf("next is %d", n)
		}
	}
	if n := th.Next(booking.Accepted); n != 4+forged {
		t.Errorf("next is %d, want %d", n, 4+forged)
	}
	if n := th.Next(booking.Cancelled); n != 4 {
		t.Errorf("the next of another kind is %d, want 4", n)
	}
	e := bookingtest.Story{N: 3 + forged, Seq: 3 + forged}
	if err := th.Apply(e.Store(step{Kind: booking.Accepted, Actor: rider}.Event())); err != nil {
		t.Errorf("the real event: %v", err)
	}
	if n := th.Next(booking.Arrived); n != 5+forged {
		t.Errorf("next is %d, want %d", n, 5+forged)
	}
}

// Next is by definition the least position behind the last event that is not taken.
func TestNextIsTheLeastFree(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		var s bookingtest.Story
		var th booking.EventSequencer
		taken := make(map[int]map[booking.Kind]bool)
		for range 60 {
			k := booking.Kinds()[r.IntN(3)]
			if r.IntN(8) == 0 {
				e := s.Store(step{Kind: k, Actor: []booking.Actor{owner, rider, other}[r.IntN(3)]}.Event())
				e.N = th.Next(k)
				if th.Apply(e) == nil {
					continue
				}
			}
			n := th.Booking.Version + r.IntN(6)
			th.Refuse(n, k, 0)
			if taken[n] == nil {
				taken[n] = make(map[booking.Kind]bool)
			}
			taken[n][k] = true
			for _, k := range booking.Kinds() {
				want := th.Booking.Version + 1
				for taken[want][k] {
					want++
				}
				if got := th.Next(k); got != want {
					t.Fatalf(
						"seed %d: the next %s after %d is %d, want %d of %v",
						seed,
						k,
						th.Booking.Version,
						got,
						want,
						taken,
					)
				}
			}
		}
	}
}

func TestCloneIsSeparate(t *testing.T) {
	th := sequencer(t, tell(given()...))
	for n := 4; n < 9; n++ {
		th.Refuse(n, booking.Completed, 0) // in memory that has room for more
	}
	th.Refuse(4, booking.Accepted, 0)
	h := booking.History{EventSequencer: th, Events: tell(given()...), Revision: 4}
	c := h.Clone()
	if !reflect.DeepEqual(c, h) {
		t.Fatalf("a clone is\n %+v, of\n %+v", c, h)
	}
	c.Refuse(5, booking.Accepted, 0)
	c.Refuse(4, booking.Cancelled, 0)
	c.Events[0].Kind = booking.Expired
	s := bookingtest.Story{N: 4, Seq: 4}
	e := s.Store(step{Kind: booking.Cancelled, Actor: owner}.Event())
	if err := c.Apply(e); err != nil {
		t.Fatal(err)
	}
	if h.Next(booking.Accepted) != 5 || h.Next(booking.Cancelled) != 4 || h.Booking.State != booking.StateOpen ||
		h.Events[0].Kind != booking.Requested {
		t.Errorf("the original has changed with its clone: %+v", h)
	}
	if empty := (booking.History{}).Clone(); !reflect.DeepEqual(empty, booking.History{}) {
		t.Errorf("the clone of nothing is %+v", empty)
	}
}

// Replay takes events as they are and does not look where they are: positions are a sequencer's.
func TestReplayDoesNotJudgePositions(t *testing.T) {
	events := tell(taken()...)
	for i := range events {
		events[i].N *= 10
	}
	b := bookingtest.Fold(events)
	if b.State != booking.StateAccepted || b.Version != 40 {
		t.Errorf("%+v", b)
	}
	var th booking.EventSequencer
	if err := th.Apply(events[0]); !errors.Is(err, booking.ErrAged) {
		t.Errorf("a sequencer: %v", err)
	}
}
