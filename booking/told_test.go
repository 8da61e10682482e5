package booking_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/bookingtest"
	"github.com/example/pillion/internal/fault"
)

// A hearer is somebody who was refused a command: what it wanted, and of which booking.
type hearer struct {
	booking.Actor
	want booking.Kind
	of   booking.History
}

// is reports whether the hearer is the booking's user, or its present or final rider.
func (h hearer) is(r booking.Role) bool {
	b := h.of.Booking
	return h.Role == r && (r == booking.User && string(b.User) == h.ID || r == booking.Rider && string(b.Rider) == h.ID)
}

// lost reports whether the hearer has lost the booking by an event of an actor in a role.
func (h hearer) lost(by booking.Role) bool {
	rider := ""
	for _, e := range h.of.Events {
		switch e.Kind {
		case booking.Accepted:
			rider = e.Actor.ID
		case booking.Released, booking.OperatorReleased:
			if rider == h.ID && e.Actor.Role == by {
				return true
			}
		}
	}
	return false
}

// claims are all phrases that name somebody, each with what must hold wherever it is said.
var claims = []struct {
	phrase string
	holds  func(hearer) bool
}{
	{"Another raider has already accepted this booking", func(h hearer) bool {
		return h.of.Booking.Rider != "" && !h.is(booking.Rider)
	}},
	{"You have given this booking back and cannot have it again", func(h hearer) bool { return h.lost(booking.Rider) }},
	{"The system has taken this booking back from you, so you cannot have it again", func(h hearer) bool {
		return h.lost(booking.Service)
	}},
	{"There is no such booking", func(h hearer) bool {
		return !h.is(booking.User) && !h.is(booking.Rider) && !h.lost(booking.Rider) && !h.lost(booking.Service)
	}},
	{"Nobody accepted this booking in time", func(h hearer) bool { return h.of.Booking.State == booking.StateExpired }},
	{"Its passenger and raider can only rate it", func(h hearer) bool {
		return h.of.Booking.State == booking.StateCompleted
	}},
	{"The ride has begun, so you cannot cancel it. Ask your raider to stop where you want to get off",
		func(h hearer) bool { return h.is(booking.User) && h.of.Booking.State == booking.StateStarted }},
	{"You can rate the ride once it is over", func(h hearer) bool {
		return h.is(booking.User) || h.is(booking.Rider)
	}},
	{"You have already rated this ride", func(h hearer) bool {
		return slices.ContainsFunc(h.of.Events, func(e booking.Event) bool {
			return e.Kind.IsRating() && e.Actor == h.Actor
		})
	}},
	{"Ask the passenger for the four digits", func(h hearer) bool { return h.is(booking.Rider) }},
	{"You have one try left", func(h hearer) bool { return h.is(booking.Rider) && h.of.Booking.WrongCodes == 4 }},
	{"You have N tries left", func(h hearer) bool { return h.is(booking.Rider) && h.of.Booking.WrongCodes < 4 }},
	{"The ride goes to another raider", func(h hearer) bool {
		return h.is(booking.Rider) && h.of.Booking.WrongCodes == booking.MaxWrongCodes
	}},
	{"You gave too many wrong start codes, so you cannot start this ride", func(h hearer) bool {
		return h.is(booking.Rider) && h.of.Booking.WrongCodes == booking.MaxWrongCodes
	}},
	{"Your role does not permit this", func(h hearer) bool { return !h.want.MayBeCausedBy(h.Role) }},
}

// somebody is a word for a person or the system.
var somebody = regexp.MustCompile(
	`(?i)\b(you|your|yours|we|our|i|raiders?|riders?|passengers?|users?|system|service|operator|\w+body|someone)\b`)

var tries = regexp.MustCompile(`\d tries`)

// counted returns a sentence with N in place of a number of tries.
func counted(sentence string) string { return tries.ReplaceAllString(sentence, "N tries") }

// judge returns what is untrue in a sentence for its hearer, or has no claim.
func judge(sentence string, h hearer) error {
	var wrong []error
	rest := counted(sentence)
	for _, c := range claims {
		if strings.Contains(rest, c.phrase) && !c.holds(h) {
			wrong = append(wrong, fmt.Errorf("it is not true that %q", c.phrase))
		}
		rest = strings.ReplaceAll(rest, c.phrase, "")
	}
	if who := somebody.FindString(rest); who != "" {
		wrong = append(wrong, fmt.Errorf("%q is in no claim", who))
	}
	return errors.Join(wrong...)
}

// all are the people of the stories of TestWhoIsToldWhat.
var all = []booking.Actor{owner, stranger, rider, other, service}

// lived is as much of a history as decides what may happen next, and who has ended what.
func lived(h booking.History) string {
	b := h.Booking
	s := fmt.Sprint(b.State, b.Rider, b.WrongCodes, b.UserStars, b.RiderStars)
	for _, e := range h.Events {
		if k := e.Kind.Public(); k == booking.Released || k == booking.Cancelled {
			s += fmt.Sprint(" ", k, e.Actor.Role)
		}
	}
	return s + fmt.Sprint(b.ReleasedBy)
}

// TestWhoIsToldWhat tells every story that the events of these people can make, as far as they
// differ. After each, everybody asks for every step. Each refusal that names somebody must be true
// for the one who hears it.
func TestWhoIsToldWhat(t *testing.T) {
	stories, seen, heard := [][]step{nil}, map[string]bool{}, map[string]bool{}
	for len(stories) > 0 {
		story := stories[0]
		stories = stories[1:]
		for _, kind := range booking.Kinds() {
			for _, a := range all {
				h := after(t, story)
				before := h.history(t)
				if kind == booking.Requested && before.Revision != 0 {
					continue // a key that was used before, and nothing about this booking
				}
				err := h.ask(t, step{Kind: kind, Actor: a})
				now := h.history(t)
				if now.Revision != before.Revision && !seen[lived(now)] {
					seen[lived(now)] = true
					stories = append(stories, with(story, step{Kind: kind, Actor: a}))
				}
				if err == nil {
					continue
				}
				f, ok := errors.AsType[*fault.Error](err)
				if !ok {
					t.Fatalf("%v: %s by %s: %v, want a refusal", story, kind, a.ID, err)
				}
				heard[f.Message] = true
				if kind == booking.Expired && a == service {
					continue // the process manager's own, which nobody hears
				}
				if wrong := judge(f.Message, hearer{a, kind, now}); wrong != nil {
					t.Errorf("%v: %s by %s hears %q: %v", story, kind, a.ID, f.Message, wrong)
				}
			}
		}
	}
	for _, c := range claims {
		var said bool
		for sentence := range heard {
			said = said || strings.Contains(counted(sentence), c.phrase)
		}
		if !said {
			t.Errorf("nobody has heard %q", c.phrase)
		}
	}
	t.Logf("%d situations, %d sentences", len(seen), len(heard))
}

// after returns a house in which a story has been told.
func after(t *testing.T, story []step) *house {
	t.Helper()
	h := newHouse(t)
	for _, st := range story {
		_ = h.ask(t, st) // a wrong code is a refusal that is stored
	}
	return h
}

// ask sends a command. A desk without start codes takes every code for a wrong one.
func (h *house) ask(t *testing.T, st step) error {
	t.Helper()
	if st.Kind == booking.Expired && h.history(t).Booking.State == booking.StateOpen {
		h.now = h.now.Add(bookingtest.Deadline.Sub(bookingtest.Noon))
	}
	if st.Kind == booking.StartRefused {
		_, err := h.StartWith(t.Context(), by(st.Actor), h.id, "none")
		return err
	}
	if st.Kind.IsRating() { // a second time otherwise than the first time
		_, err := h.Rate(t.Context(), by(st.Actor), h.id, h.history(t).Booking.Version%5+1)
		return err
	}
	_, err := h.do(t.Context(), st.Kind, by(st.Actor))
	return err
}

// The reason of what the system does for a deleted account names whose account that was. Each line
// is a booking as it was, and who has left.
func TestReasonsNameWhoHasLeft(t *testing.T) {
	asked := step{Kind: booking.Requested, Actor: owner}
	onTheWay := []step{asked, {Kind: booking.Accepted, Actor: rider}}
	there := with(onTheWay, step{Kind: booking.Arrived, Actor: rider})
	riding := with(there, step{Kind: booking.Started, Actor: rider})
	const raider, passenger = "the raider has deleted their account", "the passenger has deleted their account"
	for _, c := range []struct {
		story  []step
		who    booking.Actor
		state  booking.State
		reason string
	}{
		{[]step{asked}, owner, booking.StateCancelled, passenger},
		{onTheWay, owner, booking.StateCancelled, passenger},
		{onTheWay, rider, booking.StateOpen, raider},
		{there, owner, booking.StateCancelled, passenger},
		{there, rider, booking.StateOpen, raider},
		{riding, owner, booking.StateStarted, ""},
	} {
		ledger := bookingtest.NewLedger()
		desk, err := booking.NewDesk(ledger, booking.DeskOptions{Deadline: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		h := &house{Desk: desk, id: booking.ID(booking.NewID())}
		h.tell(t, c.story...)
		manager, err := booking.NewProcessManager(booking.ProcessManagerConfig{
			Desk: desk, Board: ledger.Board,
			Act: func(context.Context) (booking.Actor, string, error) { return service, "proof", nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := manager.EndRidesOf(t.Context(), c.who); err != nil {
			t.Fatal(err)
		}
		if b, _ := ledger.Board.Get(h.id); b.State != c.state || b.Reason != c.reason {
			t.Errorf("after %d steps, %s has left: %s, %q; want %s, %q", len(c.story), c.who.ID, b.State, b.Reason, c.state,
				c.reason)
		}
	}
}
