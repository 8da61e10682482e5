package board_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/booking/bookingtest"
	"github.com/example/pillion/internal/wait"
)

// A shadow is what a board should be, made in the simplest way: a sequencer for each booking, and
// sorting at every question.
type shadow struct {
	sequencers map[booking.ID]*booking.EventSequencer
	applied    map[booking.ID][]booking.Event
}

func (s *shadow) sequencer(id booking.ID) *booking.EventSequencer {
	if s.sequencers[id] == nil {
		s.sequencers[id] = new(booking.EventSequencer)
	}
	return s.sequencers[id]
}

// bookings returns the bookings that ok wants, in the order of by.
func (s *shadow) bookings(ok func(booking.Booking) bool, by func(booking.Booking) uint64) []booking.Booking {
	var found []booking.Booking
	for _, t := range s.sequencers {
		if t.Booking.State != booking.StateNone && ok(t.Booking) {
			found = append(found, t.Booking)
		}
	}
	slices.SortFunc(found, func(a, b booking.Booking) int { return cmp.Compare(by(a), by(b)) })
	return found
}

func (s *shadow) open(now time.Time) []booking.Booking {
	return s.bookings(func(b booking.Booking) bool { return b.State == booking.StateOpen && !now.After(b.Deadline) },
		func(b booking.Booking) uint64 { return b.OpenedSeq })
}

// near returns the open bookings around a place, nearest first.
func (s *shadow) near(at booking.Place, radius float64, now time.Time) []board.Nearby {
	var found []board.Nearby
	for _, b := range s.open(now) {
		if b.Pickup != nil && b.Pickup.Rough().Distance(at) <= radius {
			found = append(found, board.Nearby{Booking: b, Metres: b.Pickup.Rough().Distance(at)})
		}
	}
	slices.SortStableFunc(found, func(a, b board.Nearby) int { return cmp.Compare(a.Metres, b.Metres) })
	return found
}

func (s *shadow) ofUser(u booking.UserID) []booking.Booking {
	found := s.bookings(
		func(b booking.Booking) bool { return b.User == u },
		func(b booking.Booking) uint64 { return b.RequestedSeq },
	)
	slices.Reverse(found)
	return found
}

func (s *shadow) ofRider(r booking.RiderID) []booking.Booking {
	found := s.bookings(
		func(b booking.Booking) bool { return b.Rider == r },
		func(b booking.Booking) uint64 { return b.RequestedSeq },
	)
	slices.Reverse(found)
	return found
}

// filters are some ways to narrow a list, and each in the simplest words.
func filters() map[string]filter {
	times := []time.Time{
		{},
		noon.Add(-time.Hour),
		noon.Add(100 * time.Second),
		noon.Add(10 * time.Minute),
		noon.Add(20*time.Minute + time.Nanosecond),
		noon.AddDate(1, 0, 0),
		noon.AddDate(9000, 0, 0),
	}
	all := map[string]filter{"all": {nil, func(booking.Booking) bool { return true }}}
	for i, s := range booking.States() {
		t := booking.States()[(i*3+1)%len(booking.States())]
		all["in "+string(s)] = filter{
			[]board.Filter{board.InState(s)},
			func(b booking.Booking) bool { return b.State == s },
		}
		all["in "+string(s)+" or "+string(t)] = filter{[]board.Filter{board.InState(s, t)},
			func(b booking.Booking) bool { return b.State == s || b.State == t }}
	}
	for i, from := range times {
		to := times[(i*3+5)%len(times)]
		since, until := func(b booking.Booking) bool { return !b.RequestedAt.Before(from) },
			func(b booking.Booking) bool { return b.RequestedAt.Before(to) }
		all[fmt.Sprint("since ", from)] = filter{[]board.Filter{board.Since(from)}, since}
		all[fmt.Sprint("until ", to)] = filter{[]board.Filter{board.Until(to)}, until}
		all[fmt.Sprint("between ", from, to)] = filter{
			[]board.Filter{board.Until(to), board.Since(from), board.InState(booking.States()...)},
			func(b booking.Booking) bool { return since(b) && until(b) },
		}
		all[fmt.Sprint("completed between ", from, to)] = filter{
			[]board.Filter{
				board.Until(to),
				board.InState(booking.StateCompleted, booking.StateAccepted),
				board.Since(from),
				board.InState(booking.StateCompleted),
			},
			func(b booking.Booking) bool { return since(b) && until(b) && b.State == booking.StateCompleted },
		}
	}
	return all
}

type filter struct {
	only   []board.Filter
	passes func(booking.Booking) bool
}

func (f filter) of(bs []booking.Booking) []booking.Booking {
	var found []booking.Booking
	for _, b := range bs {
		if f.passes(b) {
			found = append(found, b)
		}
	}
	return found
}

func underWay(b booking.Booking) bool {
	return b.State == booking.StateAccepted || b.State == booking.StateArrived || b.State == booking.StateStarted
}

// pages puts together what page returns, limit at a time.
func pages(
	limit int,
	next func(booking.Booking) uint64,
	page func(limit int, cursor uint64) []booking.Booking,
) []booking.Booking {
	var all []booking.Booking
	for cursor := uint64(0); ; {
		found := page(limit, cursor)
		all = append(all, found...)
		if len(found) < limit {
			return all
		}
		cursor = next(found[len(found)-1])
	}
}

// same fails the test unless a board says what its shadow says.
func same(t *testing.T, b *board.Board, s *shadow) {
	t.Helper()
	known := 0
	for id, th := range s.sequencers {
		got, ok := b.Get(id)
		if ok != (th.Booking.State != booking.StateNone) || !reflect.DeepEqual(got, th.Booking) {
			t.Fatalf("the board says of %s\n %+v, %v, want\n %+v", id, got, ok, th.Booking)
		}
		if replayed := bookingtest.Fold(s.applied[id]); !reflect.DeepEqual(got, replayed) {
			t.Fatalf("the board says\n %+v, a replay\n %+v", got, replayed)
		}
		if ok {
			known++
		}
	}
	if b.Len() != known {
		t.Fatalf("%d bookings, want %d", b.Len(), known)
	}
	for _, now := range []time.Time{noon, noon.Add(time.Minute), deadline, deadline.Add(1), noon.Add(time.Hour),
		noon.Add(2 * time.Hour)} {
		for _, limit := range []int{1, 7, 10_000} {
			got := pages(limit, func(x booking.Booking) uint64 { return x.OpenedSeq },
				func(limit int, after uint64) []booking.Booking { return b.Open(now, limit, after) })
			if want := s.open(now); !reflect.DeepEqual(got, want) {
				t.Fatalf("open at %v, %d at a time:\n %v, want\n %v", now, limit, ids(got), ids(want))
			}
		}
	}
	sameNearby(t, b, s)
	sameAcceptances(t, b, s.applied)
	for _, u := range []booking.UserID{"owner", "stranger", "nobody", ""} {
		sameLists(
			t,
			"of user "+string(u),
			s.ofUser(u),
			func(limit int, before uint64, only ...board.Filter) []booking.Booking {
				return b.OfUser(u, limit, before, only...)
			},
		)
	}
	for _, r := range []booking.RiderID{"rider", "other", "former", "nobody"} {
		sameLists(
			t,
			"of rider "+string(r),
			s.ofRider(r),
			func(limit int, before uint64, only ...board.Filter) []booking.Booking {
				return b.OfRider(r, limit, before, only...)
			},
		)
	}
	for _, r := range []booking.RiderID{"rider", "other", "former", "nobody", ""} {
		want := filter{passes: underWay}.of(s.ofRider(r))
		if r == "" {
			want = nil
		}
		if got := b.Active(r); !reflect.DeepEqual(got, want) || b.Busy(r) != (len(want) > 0) {
			t.Fatalf("%s is under way for\n %v, busy %v, want\n %v", r, ids(got), b.Busy(r), ids(want))
		}
	}
}

// sameLists fails the test unless a list is, whole and narrowed, what it should be. all is the
// whole of it.
func sameLists(
	t *testing.T,
	whose string,
	all []booking.Booking,
	list func(limit int, before uint64, only ...board.Filter) []booking.Booking,
) {
	t.Helper()
	for what, f := range filters() {
		want := f.of(all)
		for _, limit := range []int{3, 10_000} {
			got := pages(limit, func(x booking.Booking) uint64 { return x.RequestedSeq },
				func(limit int, before uint64) []booking.Booking { return list(limit, before, f.only...) })
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%s, %s, %d at a time:\n %v, want\n %v", whose, what, limit, ids(got), ids(want))
			}
		}
	}
}

// sameAcceptances fails the test unless a board knows by which command each rider accepted.
func sameAcceptances(t *testing.T, b *board.Board, applied map[booking.ID][]booking.Event) {
	t.Helper()
	for id, events := range applied {
		for _, e := range events {
			for _, who := range []booking.Actor{rider, other} {
				got, ok := b.AcceptedBy(booking.RiderID(who.ID), e.Command)
				if want := e.Kind == booking.Accepted && e.Actor == who; ok != want || want && got != id {
					t.Fatalf("event %d of %s, %s by %s: %s accepted %q by its command, %t", e.N, id, e.Kind, e.Actor.ID,
						who.ID, got, ok)
				}
			}
		}
	}
}

// sameNearby fails the test unless a board says what its shadow says of what is near.
func sameNearby(t *testing.T, b *board.Board, s *shadow) {
	t.Helper()
	for _, now := range []time.Time{noon, deadline, deadline.Add(1), noon.Add(time.Hour)} {
		for _, at := range []booking.Place{bookingtest.Town,
			{Lat: bookingtest.Town.Lat + 0.03, Lng: -bookingtest.Town.Lng}, {Lat: bookingtest.Town.Lat, Lng: 179.95},
			// At the poles all rough places of one latitude are equally far, but for rounding.
			{Lat: 89.9, Lng: 12}, {Lat: -89.9, Lng: 1}, {Lat: 0, Lng: 0}} {
			for _, radius := range []float64{10, 3000, 20_000, 9_000_000, 21_000_000} {
				near := s.near(at, radius, now)
				var reachable []booking.Booking
				for _, n := range near {
					reachable = append(reachable, n.Booking)
				}
				for _, b := range s.open(now) {
					if b.Pickup == nil {
						reachable = append(reachable, b)
					}
				}
				for _, limit := range []int{1, 5, 10_000} {
					want := near[:min(limit, len(near))]
					got := b.Near(at, radius, now, limit)
					if len(got) != len(want) {
						t.Fatalf("%d near %v within %g m, want %d", len(got), at, radius, len(want))
					}
					for i, n := range got {
						if !reflect.DeepEqual(n.Booking, want[i].Booking) || math.Abs(n.Metres-want[i].Metres) > 1e-3 {
							t.Fatalf("number %d near %v is\n %+v, want\n %+v", i, at, n, want[i])
						}
					}
					if got, want := b.Reachable(
						&at,
						radius,
						now,
						limit,
					), reachable[:min(limit, len(reachable))]; !slices.Equal(
						ids(got),
						ids(want),
					) {
						t.Fatalf("reachable from %v within %g m:\n %v, want\n %v", at, radius, ids(got), ids(want))
					}
					nowhere := reachable[len(near):]
					if got, want := b.Reachable(
						nil,
						radius,
						now,
						limit,
					), nowhere[:min(limit, len(nowhere))]; !slices.Equal(
						ids(got),
						ids(want),
					) {
						t.Fatalf("reachable from an unknown place:\n %v, want\n %v", ids(got), ids(want))
					}
				}
			}
		}
	}
}

func ids(bs []booking.Booking) []string {
	var names []string
	for _, b := range bs {
		names = append(names, fmt.Sprintf("%s@%d", b.ID, b.OpenedSeq))
	}
	return names
}

// A board is, booking by booking, what its events make, whatever is forged, misplaced or sent
// twice.
func TestBoardIsWhatItsEventsMake(t *testing.T) {
	outcomes := make(map[error]int)
	for seed := range uint64(30) {
		src := bookingtest.NewRandom(seed)
		all, want := board.New(), &shadow{
			make(map[booking.ID]*booking.EventSequencer),
			make(map[booking.ID][]booking.Event),
		}
		names := 1 + src.IntN(60)
		for range 1500 {
			src.ID = booking.ID(fmt.Sprintf("booking-%d", src.IntN(names)))
			if src.IntN(10) == 0 { // a message that is refused before anybody looks at what it says
				n, k := want.sequencer(src.ID).Booking.Version+src.IntN(4), bookingtest.Pick(src, booking.Kinds()...)
				want.sequencer(src.ID).Refuse(n, k, 0)
				all.Refuse(src.ID, n, k, src.Seq+1)
			}
			e := src.Event(want.sequencer(src.ID).Booking)
			th := want.sequencer(e.Booking)
			e.N = th.Next(e.Kind)
			if src.IntN(15) == 0 {
				e.N += src.IntN(5) - 2
			}
			err := th.Apply(e)
			got := all.Apply(e)
			outcome := error(nil)
			for _, possible := range []error{booking.ErrPosition, booking.ErrDuplicate, booking.ErrAged,
				booking.ErrDoesNotFollow} {
				if errors.Is(err, possible) {
					outcome = possible
				}
			}
			if !errors.Is(got, outcome) || (got == nil) != (err == nil) {
				t.Fatalf("seed %d: the board says %v, want %v", seed, got, err)
			}
			outcomes[outcome]++
			if err == nil {
				want.applied[e.Booking] = append(want.applied[e.Booking], e)
			} else {
				th.Refuse(e.N, e.Kind, 0)
				all.Refuse(e.Booking, e.N, e.Kind, e.Seq)
			}
		}
		same(t, all, want)
		if seed%10 == 0 {
			all.Advance(src.Seq)
			loaded := load(t, capture(t, all.Capture(), nil))
			sameAcceptances(t, loaded, want.applied)
			other := board.New()
			other.Become(all)
			same(t, other, want)
		}
	}
	for _, o := range []error{nil, booking.ErrPosition, booking.ErrDuplicate, booking.ErrAged,
		booking.ErrDoesNotFollow} {
		if outcomes[o] < 10 {
			t.Errorf("only %d times: %v", outcomes[o], o)
		}
	}
}

// feed applies the next event of a booking as a ledger would store it, and fails the test unless it
// follows.
func feed(
	t testing.TB,
	b *board.Board,
	seq uint64,
	id booking.ID,
	n int,
	k booking.Kind,
	a booking.Actor,
	until time.Time,
) {
	t.Helper()
	e := step{Kind: k, Actor: a}.Event()
	e.ID, e.Booking, e.N, e.Seq, e.At = booking.EventID(fmt.Sprint("event-", seq)), id, n, seq, noon
	if !until.IsZero() {
		e.Deadline = until
	}
	if err := b.Apply(e); err != nil {
		t.Fatalf("%d %s: %v", n, k, err)
	}
	b.Advance(seq)
}

// Many bookings open, are taken and are given back in any order, and the list stays right all the
// time.
func TestOpenStaysInOrder(t *testing.T) {
	const bookings = 3000
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 1))
		all := board.New()
		versions := make([]int, bookings)
		waiting := make(map[uint64]time.Time) // deadlines by the sequence of opening
		opened := make([]uint64, bookings)
		var seq uint64
		open := func(i int, k booking.Kind, a booking.Actor) {
			seq++
			versions[i]++
			until := noon.Add(time.Duration(r.IntN(400)) * time.Second)
			if seed == 2 { // most bookings have the same time to wait
				until = noon.Add(time.Duration(seq) * 100 * time.Millisecond)
			}
			feed(t, all, seq, booking.ID(fmt.Sprint(i)), versions[i], k, a, until)
			waiting[seq], opened[i] = until, seq
		}
		for i := range bookings {
			open(i, booking.Requested, owner)
		}
		riders := 0
		for range 3 * bookings {
			i := r.IntN(bookings)
			if seed == 1 { // from the longest waiting on, as most are
				i = min(r.IntN(bookings), r.IntN(bookings))
			}
			who := booking.Actor{ID: fmt.Sprint("rider-", riders), Role: booking.Rider}
			if _, is := waiting[opened[i]]; is {
				seq++
				versions[i]++
				riders++
				who.ID = fmt.Sprint("rider-", riders)
				feed(t, all, seq, booking.ID(fmt.Sprint(i)), versions[i], booking.Accepted, who, time.Time{})
				delete(waiting, opened[i])
			} else if r.IntN(int(1+seed*seed*3)) == 0 {
				// ever fewer come back, so that the list gets ever thinner
				open(i, booking.Released, service)
			}
			if r.IntN(50) > 0 {
				continue
			}
			now, after, limit := noon.Add(time.Duration(r.IntN(400))*time.Second), r.Uint64N(seq+2), r.IntN(200)
			if r.IntN(2) == 0 {
				after, limit = 0, bookings
			}
			var want []uint64
			for s, until := range waiting {
				if s > after && !now.After(until) {
					want = append(want, s)
				}
			}
			slices.Sort(want)
			want = want[:min(limit, len(want))]
			var got []uint64
			for _, b := range all.Open(now, limit, after) {
				got = append(got, b.OpenedSeq)
			}
			if !slices.Equal(got, want) {
				t.Fatalf(
					"seed %d, at %d: open at %v after %d, %d of them:\n %v, want\n %v",
					seed,
					seq,
					now,
					after,
					limit,
					got,
					want,
				)
			}
		}
	}
}

func TestBoardLimits(t *testing.T) {
	all := board.New()
	for i := range uint64(5) {
		feed(t, all, i+1, booking.ID(fmt.Sprint(i)), 1, booking.Requested, owner, time.Time{})
	}
	for limit, want := range map[int]int{-1: 0, 0: 0, 1: 1, 5: 5, 6: 5} {
		if got := len(all.Open(noon, limit, 0)); got != want {
			t.Errorf("open, at most %d: %d", limit, got)
		}
		if got := len(all.OfUser("owner", limit, 0)); got != want {
			t.Errorf("of the user, at most %d: %d", limit, got)
		}
		if got := len(all.OfRider("rider", limit, 0)); got != 0 {
			t.Errorf("of a rider who has none, at most %d: %d", limit, got)
		}
	}
	at := *step{Kind: booking.Requested, Actor: owner}.Event().Pickup
	for limit, want := range map[int]int{-1: 0, 0: 0, 1: 1, 5: 5, 6: 5} {
		if near, reachable := len(
			all.Near(at, 1, noon, limit),
		), len(
			all.Reachable(&at, 1, noon, limit),
		); near != want ||
			reachable != want {
			t.Errorf("near, at most %d: %d, and reachable %d", limit, near, reachable)
		}
	}
	nan := math.NaN()
	for _, c := range []struct {
		at     booking.Place
		radius float64
	}{{at, 0}, {at, -1}, {at, nan}, {booking.Place{Lat: nan, Lng: at.Lng}, 1},
		{booking.Place{Lat: at.Lat, Lng: math.Inf(1)}, 1}, {booking.Place{Lat: 91}, 1e9}} {
		if near, reachable := all.Near(
			c.at,
			c.radius,
			noon,
			5,
		), all.Reachable(
			&c.at,
			c.radius,
			noon,
			5,
		); len(
			near,
		)+len(
			reachable,
		) != 0 {
			t.Errorf("around %v within %v m: %d near, %d reachable", c.at, c.radius, len(near), len(reachable))
		}
	}
	if got := all.OfUser("owner", 10, 1); len(got) != 0 {
		t.Errorf("before the first: %v", ids(got))
	}
	if got := all.Open(noon, 10, math.MaxUint64); len(got) != 0 {
		t.Errorf("nothing opened after the last sequence there can be: %v", got)
	}
	if got := all.Open(noon, 10, 5); len(got) != 0 {
		t.Errorf("after the last: %v", ids(got))
	}
	if _, ok := all.Get("nothing"); ok || all.Seq() != 5 {
		t.Errorf("knows what there is not, or is at %d", all.Seq())
	}
}

// The clocks of the servers that write the ledger one after another may differ: a list by time is
// right all the same.
func TestListsByTimeAreRightWhenClocksDiffer(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	shown := board.New()
	var all []booking.Booking
	for i := range 400 {
		e := step{Kind: booking.Requested, Actor: owner}.Event()
		e.ID, e.Booking, e.N, e.Seq = booking.EventID(
			fmt.Sprint("event-", i),
		), booking.ID(
			fmt.Sprint(i),
		), 1, uint64(
			i+1,
		)
		e.At = noon.Add(time.Duration(i+r.IntN(60)) * time.Second)
		if err := shown.Apply(e); err != nil {
			t.Fatal(err)
		}
		b, _ := shown.Get(e.Booking)
		all = append(all, b)
	}
	slices.Reverse(all)
	step := 7
	if wait.Long() {
		step = 1
	}
	for s := 0; s < 500; s += step {
		at := noon.Add(time.Duration(s) * time.Second)
		for what, f := range map[string]filter{
			"since": {[]board.Filter{board.Since(at)}, func(b booking.Booking) bool { return !b.RequestedAt.Before(at) }},
			"until": {[]board.Filter{board.Until(at)}, func(b booking.Booking) bool { return b.RequestedAt.Before(at) }},
		} {
			if got, want := shown.OfUser("owner", 1000, 0, f.only...), f.of(all); !reflect.DeepEqual(got, want) {
				t.Fatalf("%s %v:\n %v, want\n %v", what, at, ids(got), ids(want))
			}
		}
	}
}

// Forgetting makes a board what it would be, had it begun to read where the ledger begins now.
func TestForget(t *testing.T) {
	src := bookingtest.NewRandom(7)
	old, want := board.New(), &shadow{
		make(map[booking.ID]*booking.EventSequencer),
		make(map[booking.ID][]booking.Event),
	}
	var events []booking.Event
	length := uint64(1000)
	if wait.Long() {
		length = 3000
	}
	for src.Seq < length {
		src.ID = booking.ID(fmt.Sprint("booking-", len(events)/20*7+src.IntN(30)))
		th := want.sequencer(src.ID)
		e := src.Event(th.Booking)
		if e.Booking != src.ID {
			continue
		}
		e.N = th.Next(e.Kind)
		if th.Apply(e) == nil {
			events = append(events, e)
			if err := old.Apply(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, first := range []uint64{0, 1, 2, length / 6, length / 6, length / 2, length + 1} {
		young, rest := board.New(), &shadow{
			make(map[booking.ID]*booking.EventSequencer),
			make(map[booking.ID][]booking.Event),
		}
		for _, e := range events {
			if e.Seq >= first && young.Apply(e) == nil {
				_ = rest.sequencer(e.Booking).Apply(e)
				rest.applied[e.Booking] = append(rest.applied[e.Booking], e)
			}
		}
		had := old.Len()
		if n := old.Forget(first); n != had-young.Len() {
			t.Errorf("forgetting what was before %d dropped %d of %d, want %d left", first, n, had, young.Len())
		}
		same(t, young, rest)
		same(t, old, rest)
	}
	if old.Len() != 0 {
		t.Errorf("%d bookings are left", old.Len())
	}
	feed(t, old, 4000, "booking-0", 1, booking.Requested, owner, time.Time{})
	old.Refuse("booking-0", 2, booking.Accepted, 4000)
	old.Forget(4001)
	feed(t, old, 4001, "booking-0", 1, booking.Requested, owner, time.Time{})
	// nor is anything known of its forgeries
	feed(t, old, 4002, "booking-0", 2, booking.Accepted, rider, time.Time{})
	if b, ok := old.Get("booking-0"); !ok || b.RequestedSeq != 4001 {
		t.Errorf("a forgotten id is not new: %+v", b)
	}
}

// A waiter for a sequence wakes when the board has reached it, and not before.
func TestAwait(t *testing.T) {
	const waiters = 200
	all := board.New()
	woken := make(chan uint64, waiters)
	var waiting sync.WaitGroup
	for i := range waiters {
		waiting.Go(func() {
			seq := uint64(i%20 + 1)
			if err := all.Await(t.Context(), seq); err != nil {
				t.Errorf("await %d: %v", seq, err)
			}
			if now := all.Seq(); now < seq {
				t.Errorf("woken for %d at %d", seq, now)
			}
			woken <- seq
		})
	}
	for seq := uint64(2); seq <= 20; seq += 2 {
		all.Advance(seq)
		all.Advance(seq - 1) // does not go back
		if now := all.Seq(); now != seq {
			t.Errorf("at %d, want %d", now, seq)
		}
		// exactly those of seq-1 and seq; a late waiter finds it reached
		for range 2 * waiters / 20 {
			if got := <-woken; got > seq {
				t.Errorf("%d was woken at %d", got, seq)
			}
		}
	}
	waiting.Wait()
	if err := all.Await(t.Context(), 20); err != nil {
		t.Errorf("what is reached already: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- all.Await(ctx, 21) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("await with a context that ends: %v", err)
	}
	all.Advance(30)
	if err := all.Await(ctx, 30); err != nil {
		t.Errorf("what is reached already, with a context that has ended: %v", err)
	}
}

// One writer and many readers, who may do with what they get what they like.
func TestBoardIsSafeForReaders(t *testing.T) {
	const bookings = 400
	all := board.New()
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for seq := uint64(1); seq <= 4*bookings; seq += 1 + seq%13 {
				if err := all.Await(t.Context(), seq); err != nil {
					t.Error(err)
					return
				}
				found := append(all.Open(noon, 5, 0), all.OfUser("owner", 5, 0)...)
				found = append(append(found, all.OfRider("other", 5, 0)...), all.Active("former")...)
				found = append(found, all.Reachable(&booking.Place{Lat: 12.97, Lng: 77.59}, 5, noon, 5)...)
				if b, ok := all.Get(booking.ID(fmt.Sprint(seq % bookings))); ok {
					found = append(found, b)
				}
				for _, b := range found {
					bookingtest.Sane(t, b)
					b.Pickup.Lat, b.Dropoff.Lng, b.Quote.Fare = 99, 999, 0
					for i := range b.ReleasedBy {
						b.ReleasedBy[i] = "me"
					}
				}
				if all.Len() == 0 || all.Seq() < seq {
					t.Errorf("%d bookings at %d", all.Len(), all.Seq())
				}
			}
		})
	}
	var seq uint64
	for n, st := range given(step{Kind: booking.Accepted, Actor: other}) {
		for i := range bookings {
			seq++
			feed(t, all, seq, booking.ID(fmt.Sprint(i)), n+1, st.Kind, st.Actor, time.Time{})
		}
	}
	readers.Wait()
	for i := range bookings {
		b, _ := all.Get(booking.ID(fmt.Sprint(i)))
		if bookingtest.Sane(t, b); b.ReleasedBy[0] != "former" || b.Rider != "other" {
			t.Fatalf("a reader has changed the board: %+v", b)
		}
	}
}

// heap returns how many bytes are in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A waiter that gives up leaves nothing behind.
func TestAwaitLeavesNothing(t *testing.T) {
	all := board.New()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := heap()
	for range 20_000 {
		if err := all.Await(ctx, 1); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if grown := int64(heap()) - int64(before); grown > 500_000 {
		t.Errorf("those who gave up left %d bytes", grown)
	}
	runtime.KeepAlive(all)
}

// A booking costs a few hundred bytes, and does not keep the messages in memory that its ids were
// cut from.
func TestBoardIsLean(t *testing.T) {
	const bookings, most = 10_000, 520 // 494, and a few more if something else is at work
	cut := func(id string) string { return (strings.Repeat("x", 1000) + id)[1000:] }
	before := heap()
	all := board.New()
	for i := range bookings {
		for n, st := range []step{{Kind: booking.Requested, Actor: owner}, {Kind: booking.Accepted, Actor: rider},
			{Kind: booking.Arrived, Actor: rider}, {Kind: booking.Started, Actor: rider},
			{Kind: booking.Completed, Actor: rider}} {
			e := st.Event()
			e.ID, e.Booking = booking.EventID(
				cut(fmt.Sprintf("event-%020d", 5*i+n)),
			), booking.ID(
				cut(fmt.Sprintf("booking-%018d", i)),
			)
			e.Actor.ID = cut(fmt.Sprintf("%s-%020d", e.Actor.ID[:5], i/5))
			e.N, e.Seq, e.At = n+1, uint64(5*i+n+1), noon
			if err := all.Apply(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	each := (heap() - before) / bookings
	t.Logf("%d bytes a booking", each)
	if each > most {
		t.Errorf("a booking takes %d bytes, want at most %d", each, most)
	}
	runtime.KeepAlive(all)
}
