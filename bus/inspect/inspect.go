// Package inspect audits the ledger: it re-verifies every message and reports what should not be
// there, or is missing.
//
// Call [Run]. It changes nothing, may run beside everything else, and holds a board of all bookings
// in memory.
package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/internal/retry"
)

// Options are the settings of an inspection. The zero value is good.
type Options struct {
	// Acknowledged lists events that clients were told are recorded. Those that are not among the
	// verified events are found as FoundMissing, even if they have aged.
	Acknowledged []Acknowledged
	// Grace is how long after its deadline a booking may stay open; a minute by default.
	Grace time.Duration
	// Limit is how many findings are kept; 1,000 by default. The rest is counted.
	Limit int
}

// An Acknowledged describes an event that a client was told is recorded: by its ID, or by its
// booking and more. A command that has found its wish fulfilled has caused no event of its own;
// then Kind and Actor describe the event that must be there.
type Acknowledged struct {
	Booking booking.ID
	Event   booking.EventID // or "", like the fields below
	Command booking.CommandID
	Kind    booking.Kind
	Actor   string // its id
	Seq     uint64 // where it was said to be; 0: unknown
}

// is reports whether e is what a describes.
func (a *Acknowledged) is(e *booking.Event) bool {
	return (a.Booking == "" || a.Booking == e.Booking) && (a.Event == "" || a.Event == e.ID) &&
		(a.Command == "" || a.Command == e.Command) &&
		(a.Kind == "" || a.Kind == e.Kind) && (a.Actor == "" || a.Actor == e.Actor.ID)
}

// A Report is what the ledger contains, and what is wrong with it.
type Report struct {
	First       uint64                // sequence of the first message; 0: none
	Last        uint64                // sequence of the last inspected message
	Events      map[booking.Kind]int  // verified events that follow
	Bookings    map[booking.State]int // by their last state
	Engagements int                   // engagement records with a valid token
	Refused     map[string]int        // rejected messages, by reason
	Aged        int                   // events of bookings whose beginning has aged

	Findings []Finding // in the order of discovery, the state at the end last
	More     int       // findings beyond the limit

	// Board is the result of a fresh replay, which every other board must equal.
	Board *board.Board
}

// Run reads the ledger from its beginning to its current end, re-verifies every message like every
// reader, and reports what should not be: see [Finding].
//
// It waits, as long as ctx lets it, for a new leader and for the keys that tokens are verified
// with. Errors are of kind fault.Unavailable. Findings are not errors.
func Run(ctx context.Context, l *ledger.Ledger, o Options) (Report, error) {
	i := newInspector(l, o)
	failed := func(err error) (Report, error) { return Report{}, bus.Unavailable("inspect the ledger", err) }
	target, err := l.LastSequence(ctx)
	if err != nil {
		return failed(err)
	}
	progress := time.Now()
	p := bus.Retries(0)
	p.When = func(error) bool { return time.Since(progress) <= bus.ReadPatience }
	err = p.Keep(ctx, func(reset func()) error {
		for target > 0 {
			before := i.Last
			if err := i.readTo(ctx, target); err != nil {
				if i.Last > before {
					progress = time.Now()
					reset()
				}
				return err
			}
			if i.engaged == nil {
				return nil
			}
			last, err := l.LastSequence(ctx) // its acceptance may have just been stored
			if err != nil {
				return retry.Permanent(err)
			}
			if last == target {
				i.engagedAlone()
			}
			target = last
		}
		return nil
	})
	if err != nil {
		return failed(err)
	}
	i.end()
	return i.Report, nil
}

// An inspector is an inspection in progress.
type inspector struct {
	Report
	ledger *ledger.Ledger
	grace  time.Duration
	limit  int

	// Who has which rides, by the events alone: the state machine is inspected too.
	holder map[booking.ID]booking.RiderID
	rides  map[booking.RiderID][]booking.ID

	engaged *ledger.EngagementRecord // the message before this one, if it was such a record

	wanted  map[booking.ID][]*Acknowledged // by booking, or "" where that is unknown
	byEvent map[booking.EventID]*Acknowledged
	missing map[*Acknowledged]bool
	order   []*Acknowledged
}

func newInspector(l *ledger.Ledger, o Options) *inspector {
	i := &inspector{
		ledger: l, grace: o.Grace, limit: o.Limit,
		Report: Report{
			Events: make(map[booking.Kind]int), Bookings: make(map[booking.State]int), Refused: make(map[string]int),
			Board: board.New(),
		},
		holder: make(map[booking.ID]booking.RiderID), rides: make(map[booking.RiderID][]booking.ID),
		wanted: make(map[booking.ID][]*Acknowledged), byEvent: make(map[booking.EventID]*Acknowledged),
		missing: make(map[*Acknowledged]bool),
	}
	if i.grace <= 0 {
		i.grace = time.Minute
	}
	if i.limit <= 0 {
		i.limit = 1000
	}
	for _, a := range o.Acknowledged {
		i.missing[&a] = true
		i.order = append(i.order, &a)
		if a.Event != "" {
			i.byEvent[a.Event] = &a
		} else {
			i.wanted[a.Booking] = append(i.wanted[a.Booking], &a)
		}
	}
	return i
}

// readTo reads on up to sequence target, which is that of a stored message.
func (i *inspector) readTo(ctx context.Context, target uint64) error {
	if i.Last >= target {
		return nil
	}
	stream, first, err := i.stream(ctx)
	if err != nil {
		return err
	}
	if i.First == 0 {
		i.First, i.Last = first, first-1
		i.Board.Advance(i.Last)
	}
	messages, err := i.ledger.Conn().Read(ctx, stream, i.Last+1)
	if err != nil {
		return err
	}
	defer messages.Close()
	var before bus.Message
	for i.Last < target {
		m, _, err := messages.Next()
		if err != nil {
			return err
		}
		if m.Seq != i.Last+1 {
			// Messages that have aged meanwhile are not a gap.
			if _, first, err = i.stream(ctx); err != nil {
				return err
			}
			if m.Seq > first {
				i.found(Finding{What: FoundGap, Seq: i.Last + 1,
					Detail: fmt.Sprintf("messages %d to %d are gone", i.Last+1, m.Seq-1)})
			}
		}
		if err := i.take(ctx, m, before); err != nil {
			return err
		}
		before = m
		i.Last = m.Seq
		i.Board.Advance(m.Seq)
	}
	return nil
}

// stream returns the ledger's stream and its first sequence, from the leader.
func (i *inspector) stream(ctx context.Context) (jetstream.Stream, uint64, error) {
	s, err := i.ledger.Conn().Stream(ctx, bus.LedgerStream)
	if err != nil {
		return nil, 0, err
	}
	return s, max(s.CachedInfo().State.FirstSeq, 1), nil
}

// take inspects one message, with the one that was read before it. It returns only ctx's error, or
// one of a broken board.
func (i *inspector) take(ctx context.Context, m, before bus.Message) error {
	if rider, id, ok := bus.ParseEngagedSubject(m.Subject); ok {
		i.engagedAlone()
		_, err := ledger.AwaitVerdict(ctx, func() (booking.ID, error) { return i.ledger.VerifyEngagement(ctx, m) }, nil)
		if reason, refused := ledger.RefusalReason(err); refused {
			i.Refused[reason]++
			return nil
		}
		if err != nil {
			return err
		}
		i.Engagements++
		var b ledger.EngagementRecord
		_ = json.Unmarshal(m.Data, &b) // an unreadable record belongs to no acceptance
		i.engaged = &ledger.EngagementRecord{Rider: rider, Booking: id, Event: b.Event}
		return nil
	}
	e, err := ledger.AwaitVerdict(ctx, func() (booking.Event, error) { return i.ledger.Verify(ctx, m, before) }, nil)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	engaged := false
	if x := i.engaged; x != nil {
		engaged = err == nil && e.Kind == booking.Accepted && e.ID == x.Event && e.Booking == x.Booking &&
			e.Actor.ID == string(x.Rider)
		if engaged {
			i.engaged = nil
		} else {
			i.engagedAlone()
		}
	}
	genuine := err == nil // its token is valid, and its role may cause such an event
	if genuine {
		err = i.Board.Apply(e)
	}
	if errors.Is(err, booking.ErrAged) {
		i.Aged++
		return nil
	}
	if reason, refused := ledger.RefusalReason(err); refused {
		i.Refused[reason]++
		p, ok := bus.ParseEventSubject(m.Subject)
		if ok {
			i.Board.Refuse(p.Booking, p.N, p.Kind, m.Seq)
		}
		if reason == booking.ErrNotEngaged.Code {
			i.found(Finding{What: FoundNotEngaged, Seq: m.Seq, Booking: p.Booking,
				Detail: "readers reject the acceptance, which has no record before it that its rider is engaged"})
		}
		if genuine {
			i.unfollowed(e, reason)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("apply event %d: %w", m.Seq, err)
	}
	i.event(e)
	// otherwise the record has aged, a message earlier
	if e.Kind == booking.Accepted && !engaged && (m.Seq > i.First || i.First == 1) {
		i.found(Finding{What: FoundNotEngaged, Seq: m.Seq, Booking: e.Booking, Rider: booking.RiderID(e.Actor.ID),
			Detail: "the acceptance has no record before it that its rider is engaged"})
	}
	return nil
}

// event follows a verified event.
func (i *inspector) event(e booking.Event) {
	i.Events[e.Kind]++
	i.acknowledged(&e)
	holder := i.holder[e.Booking]
	if e.Kind == booking.Accepted {
		rider := booking.RiderID(e.Actor.ID)
		if holder != "" {
			i.found(Finding{What: FoundTwoRiders, Seq: e.Seq, Booking: e.Booking, Rider: rider,
				Detail: "readers accept it although the booking was with rider " + string(holder)})
		}
		if others := i.rides[rider]; len(others) > 0 {
			i.found(Finding{What: FoundTwoRides, Seq: e.Seq, Booking: e.Booking, Rider: rider,
				Detail: "the rider already had " + string(others[len(others)-1])})
		}
		i.holder[e.Booking] = rider
		i.rides[rider] = append(i.rides[rider], e.Booking)
		return
	}
	switch e.Kind.Public() {
	case booking.Completed, booking.Cancelled, booking.Released, booking.Expired:
	default:
		return
	}
	if holder == "" {
		return
	}
	delete(i.holder, e.Booking)
	i.rides[holder] = slices.DeleteFunc(i.rides[holder], func(id booking.ID) bool { return id == e.Booking })
	if len(i.rides[holder]) == 0 {
		delete(i.rides, holder)
	}
}

// acknowledged notes that an event is there.
func (i *inspector) acknowledged(e *booking.Event) {
	if a, ok := i.byEvent[e.ID]; ok && a.is(e) {
		delete(i.missing, a)
	}
	for _, a := range i.wanted[e.Booking] {
		if a.is(e) {
			delete(i.missing, a)
		}
	}
}

// unfollowed reports an event with a valid token that readers reject: its writer has bypassed the
// guard, or the guard has failed.
func (i *inspector) unfollowed(e booking.Event, reason string) {
	f := Finding{What: FoundUnfollowed, Seq: e.Seq, Booking: e.Booking,
		Detail: fmt.Sprintf("%s as event %d by %s %s: %s", e.Kind, e.N, e.Actor.Role, e.Actor.ID, reason)}
	if holder := i.holder[e.Booking]; e.Kind == booking.Accepted && holder != "" && string(holder) != e.Actor.ID {
		f.What, f.Rider, f.Detail = FoundTwoRiders, booking.RiderID(e.Actor.ID),
			"readers reject it, because the booking was with rider "+string(holder)
	}
	i.found(f)
}

// engagedAlone reports an engagement record without its acceptance behind it.
func (i *inspector) engagedAlone() {
	if x := i.engaged; x != nil {
		i.found(Finding{What: FoundEngagedAlone, Seq: i.Last, Booking: x.Booking, Rider: x.Rider,
			Detail: "the record that its rider is engaged has no acceptance behind it"})
		i.engaged = nil
	}
}

// end reports what the whole ledger amounts to.
func (i *inspector) end() {
	for _, b := range i.Board.Newest(i.Board.Len(), 0) {
		i.Bookings[b.State]++
	}
	for _, b := range i.Board.Overdue(time.Now().Add(-i.grace)) {
		i.found(Finding{What: FoundOverdue, Seq: b.OpenedSeq, Booking: b.ID, Detail: "open since " +
			b.OpenedAt.Format(time.RFC3339) + ", and its deadline was " + b.Deadline.Format(time.RFC3339)})
	}
	for _, a := range i.order {
		if i.missing[a] {
			i.found(Finding{What: FoundMissing, Seq: a.Seq, Booking: a.Booking,
				Detail: fmt.Sprintf("acknowledged: event %q, command %q, %s by %q", a.Event, a.Command, a.Kind,
					a.Actor)})
		}
	}
}

func (i *inspector) found(f Finding) {
	if len(i.Findings) >= i.limit {
		i.More++
		return
	}
	i.Findings = append(i.Findings, f)
}
