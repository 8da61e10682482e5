package booking_test

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/bookingtest"
)

// situations are all the situations that a booking can be in, each with what everybody may do in
// it: a line for each kind of event, and in it a letter for each of owner, stranger, rider, other,
// former, service, as verdicts spells them.
var situations = []struct {
	name  string
	story []step
	table string
}{
	{"none", nil, `
		requested     ++RRRR
		accepted      RRNNNR
		arrived       RRNNNR
		started       RRNNNR
		start_refused RRNNNR
		completed     RRNNNR
		cancelled     NNRRRN
		released      RRNNNN
		expired       RRRRRN
		rated         NNNNNR
		rider_rated   RRNNNR
		operator_cancelled RRRRRN
		operator_released  RRRRRN`},
	{"open", []step{{Kind: booking.Requested, Actor: owner}}, `
		requested     SSRRRR
		accepted      RR+++R
		arrived       RRYYYR
		started       RRYYYR
		start_refused RRYYYR
		completed     RRYYYR
		cancelled     +YRRR+
		released      RRYYYS
		expired       RRRRR+
		rated         SYYYYR
		rider_rated   RRYYYR
		operator_cancelled RRRRR+
		operator_released  RRRRRS`},
	{"open again", given(), `
		requested     SSRRRR
		accepted      RR++GR
		arrived       RRYYGR
		started       RRYYGR
		start_refused RRYYGR
		completed     RRYYGR
		cancelled     +YRRR+
		released      RRYYGS
		expired       RRRRR+
		rated         SYYYGR
		rider_rated   RRYYGR
		operator_cancelled RRRRR+
		operator_released  RRRRRS`},
	{"accepted", taken(), `
		requested     SSRRRR
		accepted      RRAAAR
		arrived       RR+YGR
		started       RRSYGR
		start_refused RRSYGR
		completed     RRSYGR
		cancelled     +YRRR+
		released      RR+YG+
		expired       RRRRRA
		rated         SYSYGR
		rider_rated   RRSYGR
		operator_cancelled RRRRR+
		operator_released  RRRRR+`},
	{"arrived", taken(step{Kind: booking.Arrived, Actor: rider}), `
		requested     SSRRRR
		accepted      RRAAAR
		arrived       RRSYGR
		started       RR+YGR
		start_refused RR+YGR
		completed     RRSYGR
		cancelled     +YRRR+
		released      RR+YG+
		expired       RRRRRA
		rated         SYSYGR
		rider_rated   RRSYGR
		operator_cancelled RRRRR+
		operator_released  RRRRR+`},
	{
		"arrived, four wrong codes",
		taken(step{Kind: booking.Arrived, Actor: rider}, refused, refused, refused, refused),
		`
		requested     SSRRRR
		accepted      RRAAAR
		arrived       RRSYGR
		started       RR+YGR
		start_refused RR+YGR
		completed     RRSYGR
		cancelled     +YRRR+
		released      RR+YG+
		expired       RRRRRA
		rated         SYSYGR
		rider_rated   RRSYGR
		operator_cancelled RRRRR+
		operator_released  RRRRR+`,
	},
	{
		"arrived, five wrong codes",
		taken(step{Kind: booking.Arrived, Actor: rider}, refused, refused, refused, refused, refused),
		`
		requested     SSRRRR
		accepted      RRAAAR
		arrived       RRSYGR
		started       RRKYGR
		start_refused RRKYGR
		completed     RRSYGR
		cancelled     +YRRR+
		released      RR+YG+
		expired       RRRRRA
		rated         SYSYGR
		rider_rated   RRSYGR
		operator_cancelled RRRRR+
		operator_released  RRRRR+`,
	},
	{"started", started, `
		requested     SSRRRR
		accepted      RRAAAR
		arrived       RRSYGR
		started       RRSYGR
		start_refused RRSYGR
		completed     RR+YGR
		cancelled     SYRRRS
		released      RRSYGS
		expired       RRRRRA
		rated         SYSYGR
		rider_rated   RRSYGR
		operator_cancelled RRRRR+
		operator_released  RRRRRS`},
	{"completed", completed, `
		requested     SSRRRR
		accepted      RRFFFR
		arrived       RRFYGR
		started       RRFYGR
		start_refused RRFYGR
		completed     RRFYGR
		cancelled     FYRRRF
		released      RRFYGF
		expired       RRRRRF
		rated         +Y+YGR
		rider_rated   RR+YGR
		operator_cancelled RRRRRF
		operator_released  RRRRRF`},
	{"completed and rated by the user", with(completed, step{Kind: booking.Rated, Actor: owner}), `
		requested     SSRRRR
		accepted      RRFFFR
		arrived       RRFYGR
		started       RRFYGR
		start_refused RRFYGR
		completed     RRFYGR
		cancelled     FYRRRF
		released      RRFYGF
		expired       RRRRRF
		rated         TY+YGR
		rider_rated   RR+YGR
		operator_cancelled RRRRRF
		operator_released  RRRRRF`},
	{
		"completed and rated by both",
		with(completed, step{Kind: booking.Rated, Actor: rider}, step{Kind: booking.Rated, Actor: owner}),
		`
		requested     SSRRRR
		accepted      RRFFFR
		arrived       RRFYGR
		started       RRFYGR
		start_refused RRFYGR
		completed     RRFYGR
		cancelled     FYRRRF
		released      RRFYGF
		expired       RRRRRF
		rated         TYTYGR
		rider_rated   RRTYGR
		operator_cancelled RRRRRF
		operator_released  RRRRRF`,
	},
	{"cancelled while open", given(step{Kind: booking.Cancelled, Actor: owner}), `
		requested     SSRRRR
		accepted      RRCCCR
		arrived       RRYYGR
		started       RRYYGR
		start_refused RRYYGR
		completed     RRYYGR
		cancelled     CYRRRC
		released      RRYYGC
		expired       RRRRRC
		rated         CYYYGR
		rider_rated   RRYYGR
		operator_cancelled RRRRRC
		operator_released  RRRRRC`},
	{"cancelled on the way", with(started, step{Kind: booking.OperatorCancelled, Actor: service}), `
		requested     SSRRRR
		accepted      RRCCCR
		arrived       RRCYGR
		started       RRCYGR
		start_refused RRCYGR
		completed     RRCYGR
		cancelled     CYRRRC
		released      RRCYGC
		expired       RRRRRC
		rated         CYCYGR
		rider_rated   RRCYGR
		operator_cancelled RRRRRC
		operator_released  RRRRRC`},
	{"expired", given(step{Kind: booking.Expired, Actor: service}), `
		requested     SSRRRR
		accepted      RRXXXR
		arrived       RRYYGR
		started       RRYYGR
		start_refused RRYYGR
		completed     RRYYGR
		cancelled     XYRRRX
		released      RRYYGX
		expired       RRRRRX
		rated         XYYYGR
		rider_rated   RRYYGR
		operator_cancelled RRRRRX
		operator_released  RRRRRX`},
}

var (
	refused   = step{Kind: booking.StartRefused, Actor: rider}
	started   = taken(step{Kind: booking.Arrived, Actor: rider}, step{Kind: booking.Started, Actor: rider})
	completed = with(started, step{Kind: booking.Completed, Actor: rider})
	verdicts  = map[rune]error{
		'+': nil,
		'R': booking.ErrWrongRole,
		'N': booking.ErrNotFound,
		'S': booking.ErrWrongState,
		'Y': booking.ErrNotFound,
		'G': booking.ErrReleasedByYou,
		'A': booking.ErrAlreadyAccepted,
		'F': booking.ErrCompleted,
		'C': booking.ErrCancelled,
		'X': booking.ErrExpired,
		'K': booking.ErrWrongCode,
		'T': booking.ErrAlreadyRated,
	}
	everybody = bookingtest.Everybody
)

func with(story []step, more ...step) []step { return append(story[:len(story):len(story)], more...) }

// late returns events as they would be after the deadline, so that a booking that waits can expire.
func late(e booking.Event) booking.Event {
	if e.Kind == booking.Expired {
		e.At = deadline
	}
	return e
}

// decide calls the decision that belongs to a kind.
func decide(b booking.Booking, k booking.Kind, a booking.Actor, now time.Time) (booking.Event, error) {
	d := step{Kind: k, Actor: a}.Event().Details
	switch k {
	case booking.Requested:
		return booking.Request(a, booking.Trip{Pickup: d.Pickup, Dropoff: d.Dropoff}, d.Quote, d.Deadline)
	case booking.Accepted:
		return b.Accept(a, now)
	case booking.Arrived:
		return b.Arrive(a)
	case booking.Started:
		return b.Start(a)
	case booking.StartRefused:
		return b.RefuseStart(a)
	case booking.Completed:
		return b.Complete(a)
	case booking.Cancelled:
		return b.Cancel(a, d.Reason)
	case booking.Released:
		return b.Release(a, d.Deadline, d.Reason)
	case booking.OperatorCancelled:
		return b.CancelAsOperator(a, d.Reason)
	case booking.OperatorReleased:
		return b.ReleaseAsOperator(a, d.Deadline, d.Reason)
	case booking.Expired:
		return b.Expire(a, now)
	case booking.Rated, booking.RiderRated:
		return b.Rate(a, d.Stars)
	}
	panic("no decision for " + k)
}

// othersRating reports whether k is a rating of the other side, which no command of a decides.
// Readers accept a rider's rated, which older builds have stored.
func othersRating(k booking.Kind, a booking.Actor) bool {
	return k == booking.Rated && a.Role == booking.Rider || k == booking.RiderRated && a.Role != booking.Rider
}

// Every situation, every kind of event, everybody: what may happen, and which answer each gets
// where it may not.
func TestWhoMayDoWhatWhen(t *testing.T) {
	var cells int
	for _, s := range situations {
		t.Run(s.name, func(t *testing.T) {
			var story bookingtest.Story
			var b booking.Booking
			for i, st := range s.story {
				next, err := b.Apply(late(story.Store(st.Event())))
				if err != nil {
					t.Fatalf("step %d of the story, %s: %v", i+1, st.Kind, err)
				}
				b = next
			}
			for line := range strings.Lines(strings.TrimSpace(s.table)) {
				fields := strings.Fields(line)
				kind := booking.Kind(fields[0])
				for i, letter := range fields[1] {
					want, ok := verdicts[letter]
					if !ok || len(fields[1]) != len(everybody) {
						t.Fatalf("%s: bad line %q", s.name, line)
					}
					cells++
					check(t, b, story, kind, everybody[i], want)
				}
			}
		})
	}
	if want := len(situations) * len(booking.Kinds()) * len(everybody); cells != want {
		t.Errorf("the tables have %d cells, want %d", cells, want)
	}
}

// check tries one cell: the stored event, and the decision.
func check(t *testing.T, b booking.Booking, s bookingtest.Story, k booking.Kind, a booking.Actor, want error) {
	t.Helper()
	what := string(k) + " by " + a.ID
	same := s // two tellers, so that the same event is told twice
	e := late(s.Store(step{Kind: k, Actor: a}.Event()))
	next, err := b.Apply(e)
	switch {
	case want == nil && err != nil:
		t.Errorf("apply %s: %v", what, err)
	case want != nil && !(errors.Is(err, booking.ErrDoesNotFollow) && errors.Is(err, want)):
		t.Errorf("apply %s: %v, want ErrDoesNotFollow because of %v", what, err, want)
	case want != nil && !reflect.DeepEqual(next, booking.Booking{}):
		t.Errorf("apply %s: a booking beside an error: %+v", what, next)
	case want == nil && (next.Version != e.N || next.Seq != e.Seq || !next.UpdatedAt.Equal(e.At)):
		t.Errorf("apply %s: version %d, sequence %d, updated %v", what, next.Version, next.Seq, next.UpdatedAt)
	}
	if k == booking.Requested && b.State != booking.StateNone || othersRating(k, a) {
		return // Request is no decision about a booking that is there
	}
	now := noon
	if k == booking.Expired {
		now = deadline
	}
	decided, err := decide(b, k, a, now)
	if want != nil {
		if !errors.Is(err, want) {
			t.Errorf("decide %s: %v, want %v", what, err, want)
		}
		if !reflect.DeepEqual(decided, booking.Event{}) {
			t.Errorf("decide %s: an event beside an error: %+v", what, decided)
		}
		return
	}
	if err != nil || decided.Kind != k || decided.Actor != a || decided.ID != "" || decided.N != 0 ||
		decided.Seq != 0 ||
		!decided.At.IsZero() {
		t.Errorf("decide %s: %+v, %v", what, decided, err)
	}
	if _, err := b.Apply(decided); err != nil {
		t.Errorf("what was decided does not follow: %s: %v", what, err)
	}
	if again, err := b.Apply(late(same.Store(decided))); err != nil || !reflect.DeepEqual(again, next) {
		t.Errorf("decide %s makes\n %+v, want\n %+v (%v)", what, again, next, err)
	}
}

// What each event changes, and nothing else.
func TestWhatEventsDo(t *testing.T) {
	pickup, dropoff := &booking.Place{Lat: 12.97, Lng: 77.59}, &booking.Place{Lat: 13.2, Lng: 77.7}
	at := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Second) }
	open := booking.Booking{
		ID:           ride,
		User:         "owner",
		State:        booking.StateOpen,
		Version:      1,
		Seq:          1,
		Pickup:       pickup,
		Dropoff:      dropoff,
		Deadline:     deadline,
		Quote:        &booking.Quote{Metres: 36_700, Minutes: 101, Fare: 36_345, Currency: "INR"},
		RequestedAt:  at(1),
		OpenedAt:     at(1),
		UpdatedAt:    at(1),
		RequestedSeq: 1,
		OpenedSeq:    1,
	}
	for _, test := range []struct {
		name  string
		story []step
		want  func(b *booking.Booking)
	}{
		{"requested", []step{{Kind: booking.Requested, Actor: owner}}, func(*booking.Booking) {}},
		{"accepted", []step{{Kind: booking.Requested, Actor: owner}, {Kind: booking.Accepted, Actor: rider}}, func(b *booking.Booking) {
			b.State, b.Rider = booking.StateAccepted, "rider"
		}},
		{"released", given(), func(b *booking.Booking) {
			b.OpenedAt, b.OpenedSeq, b.ReleasedBy, b.Reason = at(3), 3, []booking.RiderID{"former"}, "puncture"
		}},
		{"accepted again", taken(), func(b *booking.Booking) {
			b.State, b.Rider = booking.StateAccepted, "rider"
			b.OpenedAt, b.OpenedSeq, b.ReleasedBy = at(3), 3, []booking.RiderID{"former"}
		}},
		{"released by the service, after wrong codes", taken(step{Kind: booking.Arrived, Actor: rider}, refused, refused, step{Kind: booking.Released, Actor: service}), func(b *booking.Booking) {
			b.OpenedAt, b.OpenedSeq, b.ReleasedBy, b.Reason = at(8), 8, []booking.RiderID{"former", "rider"}, "puncture"
		}},
		{"start refused", taken(step{Kind: booking.Arrived, Actor: rider}, refused, refused), func(b *booking.Booking) {
			b.State, b.Rider, b.WrongCodes = booking.StateArrived, "rider", 2
			b.OpenedAt, b.OpenedSeq, b.ReleasedBy = at(3), 3, []booking.RiderID{"former"}
		}},
		{"cancelled", []step{{Kind: booking.Requested, Actor: owner}, {Kind: booking.Accepted, Actor: rider}, {Kind: booking.Cancelled, Actor: owner}}, func(b *booking.Booking) {
			b.State, b.Rider, b.Reason = booking.StateCancelled, "rider", "rain"
		}},
		{"rated", with(completed, step{Kind: booking.RiderRated, Actor: rider}), func(b *booking.Booking) {
			b.State, b.Rider, b.RiderStars = booking.StateCompleted, "rider", 4
			b.OpenedAt, b.OpenedSeq, b.ReleasedBy = at(3), 3, []booking.RiderID{"former"}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			events := tell(test.story...)
			got := replay(t, events)
			want := open
			test.want(&want)
			want.Version, want.Seq, want.UpdatedAt = len(events), uint64(len(events)), at(len(events))
			got.Applied = nil // TestDuplicate is about those
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got\n %+v, want\n %+v", got, want)
			}
		})
	}
}

// What an event says must be right too, for stored events and for commands alike.
func TestDetails(t *testing.T) {
	place := func(lat, lng float64) *booking.Place { return &booking.Place{Lat: lat, Lng: lng} }
	good := place(1, 2)
	long := strings.Repeat("\u00e9", booking.MaxReason)
	for _, test := range []struct {
		name  string
		story []step
		next  step
		edit  func(e *booking.Event)
		want  error
	}{
		{"no trip", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Pickup, e.Dropoff, e.Quote = nil, nil, nil }, nil},
		{"a fare for no trip", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Pickup, e.Dropoff = nil, nil }, booking.ErrInvalidQuote},
		{"a trip without a fare", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Quote = nil }, nil},
		{"a fare that is given out", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Quote.Fare = -1 }, booking.ErrInvalidQuote},
		{"a fare beyond JSON", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Quote.Fare = 1<<53 + 1 }, booking.ErrInvalidQuote},
		{"a trip backwards", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Quote.Metres = -1 }, booking.ErrInvalidQuote},
		{"a trip to the moon", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Quote.Metres = 384_400_000 }, booking.ErrInvalidQuote},
		{"a trip back in time", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Quote.Minutes = -1 }, booking.ErrInvalidQuote},
		{"a trip of a year", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Quote.Minutes = 525_600 }, booking.ErrInvalidQuote},
		{"a fare in nothing", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Quote.Currency = "" }, booking.ErrInvalidQuote},
		{"a fare in a word", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Quote.Currency = "rup" }, booking.ErrInvalidQuote},
		{"poles", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Pickup, e.Dropoff = place(90, 180), place(-90, -180) }, nil},
		{"no dropoff", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Dropoff = nil }, booking.ErrInvalidTrip},
		{"no pickup", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Pickup = nil }, booking.ErrInvalidTrip},
		{"beyond the pole", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Pickup, e.Dropoff = place(90.001, 0), good }, booking.ErrInvalidPlace},
		{"around the earth", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Pickup, e.Dropoff = good, place(0, -180.001) }, booking.ErrInvalidPlace},
		{"not a number", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Pickup, e.Dropoff = good, place(math.NaN(), 0) }, booking.ErrInvalidPlace},
		{"infinite", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Pickup, e.Dropoff = place(0, math.Inf(1)), good }, booking.ErrInvalidPlace},
		{"no deadline", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Deadline = time.Time{} }, booking.ErrInvalidDeadline},
		{"a deadline in the year 9999", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Deadline = noon.AddDate(8000, 0, 0) }, booking.ErrInvalidDeadline},
		{"a deadline before 1970", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Deadline = noon.AddDate(-100, 0, 0) }, booking.ErrInvalidDeadline},
		{"a deadline that has passed", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Deadline = noon.Add(-time.Hour) }, nil},
		{"no actor", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Actor.ID = "" }, booking.ErrWrongRole},
		{"no role", nil, step{Kind: booking.Requested, Actor: owner}, func(e *booking.Event) { e.Actor.Role = "" }, booking.ErrWrongRole},
		{"a role nobody has", taken(), step{Kind: booking.Arrived, Actor: rider}, func(e *booking.Event) { e.Actor.Role = "rider" }, booking.ErrWrongRole},
		{"a kind there is not", taken(), step{Kind: booking.Arrived, Actor: rider}, func(e *booking.Event) { e.Kind = "stolen" }, booking.ErrDoesNotFollow},
		{"another booking's", taken(), step{Kind: booking.Arrived, Actor: rider}, func(e *booking.Event) { e.Booking = "another" }, booking.ErrDoesNotFollow},
		{"stored in the year 9999", taken(), step{Kind: booking.Arrived, Actor: rider}, func(e *booking.Event) { e.At = noon.AddDate(8000, 0, 0) }, booking.ErrDoesNotFollow},
		{"released without a deadline", taken(), step{Kind: booking.Released, Actor: service}, func(e *booking.Event) { e.Deadline = time.Time{} }, booking.ErrInvalidDeadline},
		{"released without a reason", taken(), step{Kind: booking.Released, Actor: rider}, func(e *booking.Event) { e.Reason = "" }, nil},
		{"released with a bell", taken(), step{Kind: booking.Released, Actor: rider}, func(e *booking.Event) { e.Reason = "ding\a" }, booking.ErrInvalidReason},
		{"cancelled without a reason", given(), step{Kind: booking.Cancelled, Actor: owner}, func(e *booking.Event) { e.Reason = "" }, nil},
		{"280 characters", given(), step{Kind: booking.Cancelled, Actor: owner}, func(e *booking.Event) { e.Reason = long }, nil},
		{"281 characters", given(), step{Kind: booking.Cancelled, Actor: owner}, func(e *booking.Event) { e.Reason = long + "." }, booking.ErrInvalidReason},
		{"two lines", given(), step{Kind: booking.Cancelled, Actor: service}, func(e *booking.Event) { e.Reason = "a\nb" }, booking.ErrInvalidReason},
		{"C1 control characters", given(), step{Kind: booking.Cancelled, Actor: owner}, func(e *booking.Event) { e.Reason = "a\u0085b" }, booking.ErrInvalidReason},
		{"not UTF-8", given(), step{Kind: booking.Cancelled, Actor: owner}, func(e *booking.Event) { e.Reason = "\xff" }, booking.ErrInvalidReason},
		{"no stars", completed, step{Kind: booking.Rated, Actor: owner}, func(e *booking.Event) { e.Stars = 0 }, booking.ErrInvalidStars},
		{"six stars", completed, step{Kind: booking.Rated, Actor: rider}, func(e *booking.Event) { e.Stars = 6 }, booking.ErrInvalidStars},
		{"one star", completed, step{Kind: booking.Rated, Actor: rider}, func(e *booking.Event) { e.Stars = 1 }, nil},
		{"five stars", completed, step{Kind: booking.Rated, Actor: owner}, func(e *booking.Event) { e.Stars = 5 }, nil},
		{"a ride that has begun, cancelled by a service", started, step{Kind: booking.Cancelled, Actor: service}, func(*booking.Event) {}, booking.ErrWrongState},
		{"the same, as older builds did", started, step{Kind: booking.Cancelled, Actor: service}, func(e *booking.Event) { e.Former = true }, nil},
		{"the same, by its user", started, step{Kind: booking.Cancelled, Actor: owner}, func(e *booking.Event) { e.Former = true }, booking.ErrWrongState},
		{"expired too early by a nanosecond", given(), step{Kind: booking.Expired, Actor: service}, func(e *booking.Event) { e.At = deadline.Add(-1) }, booking.ErrNotOverdue},
		{"expired at its deadline", given(), step{Kind: booking.Expired, Actor: service}, func(e *booking.Event) { e.At = deadline }, nil},
		{"expired early, decided late", given(), step{Kind: booking.Expired, Actor: service}, func(e *booking.Event) { e.Decided = deadline }, booking.ErrNotOverdue},
		{"accepted after its deadline", given(), step{Kind: booking.Accepted, Actor: rider}, func(e *booking.Event) { e.At = deadline.Add(time.Hour) }, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s bookingtest.Story
			var b booking.Booking
			for _, st := range test.story {
				b, _ = b.Apply(s.Store(st.Event()))
			}
			e := s.Store(test.next.Event())
			test.edit(&e)
			_, err := b.Apply(e)
			wants(t, err, test.want)
			if test.want != nil {
				wants(t, err, booking.ErrDoesNotFollow)
			}
		})
	}
}

// Times of decisions: a booking may be accepted until its deadline, and expires from then on.
func TestDeadline(t *testing.T) {
	b := replay(t, tell(given()...))
	for _, test := range []struct {
		name         string
		now          time.Time
		accept, ends error
	}{
		{"before", deadline.Add(-1), nil, booking.ErrNotOverdue},
		{"at", deadline, nil, nil},
		{"after", deadline.Add(1), booking.ErrExpired, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := b.Accept(rider, test.now)
			wants(t, err, test.accept)
			_, err = b.Expire(service, test.now)
			wants(t, err, test.ends)
			if got, want := b.Overdue(test.now), test.accept != nil; got != want {
				t.Errorf("overdue: %v", got)
			}
		})
	}
	_, err := b.Accept(former, deadline.Add(1))
	wants(t, err, booking.ErrReleasedByYou)
}

// The role column of the design, once more, in words.
func TestMayBeCausedBy(t *testing.T) {
	may := map[booking.Kind]string{
		booking.Requested:    "user",
		booking.Accepted:     "raider",
		booking.Arrived:      "raider",
		booking.Started:      "raider",
		booking.StartRefused: "raider",
		booking.Completed:    "raider",
		booking.Cancelled:    "user service",
		booking.Released:     "raider service",
		booking.Expired:      "service",
		booking.Rated:        "user raider",
		booking.RiderRated:   "raider",

		booking.OperatorCancelled: "service",
		booking.OperatorReleased:  "service",
	}
	for _, k := range append(booking.Kinds(), "", "stolen", "Requested") {
		for _, r := range []booking.Role{booking.User, booking.Rider, booking.Service} {
			if got, want := k.MayBeCausedBy(r), strings.Contains(may[k], string(r)); got != want {
				t.Errorf("%s by %s: %v", k, r, got)
			}
		}
		if k.MayBeCausedBy("") || k.MayBeCausedBy("rider") {
			t.Errorf("%s by nobody", k)
		}
		if got, want := k.Valid(), may[k] != ""; got != want {
			t.Errorf("%q is valid: %v", k, got)
		}
	}
}
