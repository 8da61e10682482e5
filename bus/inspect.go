package bus

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
	"github.com/example/pillion/token"
)

// InspectOptions are what an inspection of the ledger looks for besides what it always looks for. The zero value is good.
type InspectOptions struct {
	// Acknowledged is what somebody was told is recorded. What of it is not among the verified events is found as FoundMissing; what
	// has aged out of the ledger is missing too.
	Acknowledged []Acknowledged
	// Grace is how long after its deadline a booking may still wait to be expired; a minute by default.
	Grace time.Duration
	// Limit is how many findings are kept, the first ones; 1,000 by default. The rest is counted.
	Limit int
}

// An Acknowledged is an event that somebody was told of: what is known of it, which is its id, or its booking and more. A command that found
// done what it asks for has caused no event of its own, so for it Kind and Actor say what there must be.
type Acknowledged struct {
	Booking booking.ID
	Event   booking.EventID   // or "", and so on for the others
	Command booking.CommandID //
	Kind    booking.Kind      //
	Actor   string            // its id
	Seq     uint64            // where it was said to be, for the finding; 0: not known
}

// is reports whether e is what a says.
func (a *Acknowledged) is(e *booking.Event) bool {
	return (a.Booking == "" || a.Booking == e.Booking) && (a.Event == "" || a.Event == e.ID) && (a.Command == "" || a.Command == e.Command) &&
		(a.Kind == "" || a.Kind == e.Kind) && (a.Actor == "" || a.Actor == e.Actor.ID)
}

// An Inspection is what the ledger holds, and what is wrong with it.
type Inspection struct {
	First       uint64                // sequence of the first message; 0: there are none
	Last        uint64                // sequence of the last message that was looked at
	Events      map[booking.Kind]int  // that are verified and follow
	Bookings    map[booking.State]int // as those events leave them
	Engagements int                   // records that a rider is engaged, with a good token
	Refused     map[string]int        // messages that no reader acts on, by the reason
	Aged        int                   // events of bookings whose beginning has aged out

	Findings []Finding // in the order of their discovery: what is about the end of the ledger comes last
	More     int       // findings beyond the limit

	// Board is what a fresh replay makes of the ledger: what every other board must be.
	Board *board.Board
}

// Inspect reads the ledger from its beginning to the end that it has now, re-verifies every message as every reader does, and reports what
// is there and what should not be: see [Finding]. It changes nothing and may run beside everything else; it holds a board of all bookings.
//
// It is patient with a leader on its way and waits for keys that tokens are judged by, as long as ctx lets it. Errors are of kind
// fault.Unavailable. An inspection that finds something is no error.
func (l *Ledger) Inspect(ctx context.Context, o InspectOptions) (Inspection, error) {
	i := newInspector(l, o)
	failed := func(err error) (Inspection, error) { return Inspection{}, unavailable("inspect the ledger", err) }
	target, err := l.LastSequence(ctx)
	if err != nil {
		return failed(err)
	}
	pace, progress := newBackOff(), l.now()
	for target > 0 {
		before := i.Last
		err := i.readTo(ctx, target)
		switch {
		case ctx.Err() != nil:
			return failed(ctx.Err())
		case err == nil && i.engaged == nil:
			target = 0
			continue
		case err == nil: // what belongs to it may have been stored this moment
			last, err := l.LastSequence(ctx)
			if err != nil {
				return failed(err)
			}
			if last == target {
				i.engagedAlone()
			}
			target = last
			continue
		}
		if i.Last > before {
			progress = l.now()
			pace.Reset()
		}
		if l.now().Sub(progress) > readPatience {
			return failed(err)
		}
		select {
		case <-time.After(pace.NextBackOff()):
		case <-ctx.Done():
			return failed(ctx.Err())
		}
	}
	i.end()
	return i.Inspection, nil
}

// An inspector is an inspection under way.
type inspector struct {
	Inspection
	ledger *Ledger
	grace  time.Duration
	limit  int

	// Who is under way for what, told from the events alone: the state machine is inspected too.
	holder map[booking.ID]booking.RiderID
	rides  map[booking.RiderID][]booking.ID

	engaged *engagedBody // what the message before this one says, if it was such a record

	wanted  map[booking.ID][]*Acknowledged // by booking, or by "" where that is not known
	byEvent map[booking.EventID]*Acknowledged
	missing map[*Acknowledged]bool
	order   []*Acknowledged
}

func newInspector(l *Ledger, o InspectOptions) *inspector {
	i := &inspector{
		ledger: l, grace: o.Grace, limit: o.Limit,
		Inspection: Inspection{
			Events: make(map[booking.Kind]int), Bookings: make(map[booking.State]int), Refused: make(map[string]int), Board: board.New(),
		},
		holder: make(map[booking.ID]booking.RiderID), rides: make(map[booking.RiderID][]booking.ID),
		wanted: make(map[booking.ID][]*Acknowledged), byEvent: make(map[booking.EventID]*Acknowledged), missing: make(map[*Acknowledged]bool),
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

// readTo reads on from where the inspection is up to sequence target, which is that of a stored message.
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
	messages, err := i.ledger.conn.read(ctx, stream, i.Last+1)
	if err != nil {
		return err
	}
	defer messages.close()
	for i.Last < target {
		m, _, err := messages.next()
		if err != nil {
			return err
		}
		if m.seq != i.Last+1 {
			// What has aged meanwhile is no gap.
			if _, first, err = i.stream(ctx); err != nil {
				return err
			}
			if m.seq > first {
				i.found(Finding{What: FoundGap, Seq: i.Last + 1, Detail: fmt.Sprintf("messages %d to %d are gone", i.Last+1, m.seq-1)})
			}
		}
		if err := i.take(ctx, m); err != nil {
			return err
		}
		i.Last = m.seq
		i.Board.Advance(m.seq)
	}
	return nil
}

// stream returns the ledger's stream and its first sequence, from the leader.
func (i *inspector) stream(ctx context.Context) (jetstream.Stream, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptPatience)
	defer cancel()
	s, err := i.ledger.conn.stream(ctx, LedgerStream)
	if err != nil {
		return nil, 0, fmt.Errorf("look at ledger: %w", err)
	}
	return s, max(s.CachedInfo().State.FirstSeq, 1), nil
}

// take looks at one message. It returns only ctx's error.
func (i *inspector) take(ctx context.Context, m stored) error {
	if rider, id, ok := parseEngaged(m.subject); ok {
		i.engagedAlone()
		_, err := judged(ctx, func() (booking.ID, error) { return i.ledger.engaged(ctx, m) })
		if reason, refused := refusalOf(err); refused {
			i.Refused[reason]++
			return nil
		}
		if err != nil {
			return err
		}
		i.Engagements++
		var b engagedBody
		_ = json.Unmarshal(m.data, &b) // what cannot be read belongs to no acceptance
		i.engaged = &engagedBody{Rider: rider, Booking: id, Event: b.Event}
		return nil
	}
	e, err := judged(ctx, func() (booking.Event, error) { return i.ledger.verify.check(ctx, m) })
	if ctx.Err() != nil {
		return ctx.Err()
	}
	engaged := false
	if x := i.engaged; x != nil {
		engaged = err == nil && e.Kind == booking.Accepted && e.ID == x.Event && e.Booking == x.Booking && e.Actor.ID == string(x.Rider)
		if engaged {
			i.engaged = nil
		} else {
			i.engagedAlone()
		}
	}
	genuine := err == nil // its token is good, and its actor may do such a thing
	if genuine {
		err = i.Board.Apply(e)
	}
	if errors.Is(err, booking.ErrAged) {
		i.Aged++
		return nil
	}
	if reason, refused := refusalOf(err); refused {
		i.Refused[reason]++
		if p, ok := parseSubject(m.subject); ok {
			i.Board.Refuse(p.booking, p.n, p.kind, m.seq)
		}
		if genuine {
			i.unfollowed(e, reason)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("apply event %d: %w", m.seq, err)
	}
	i.event(e)
	if e.Kind == booking.Accepted && !engaged && (m.seq > i.First || i.First == 1) { // else the record has aged, a message earlier
		i.found(Finding{What: FoundNotEngaged, Seq: m.seq, Booking: e.Booking, Rider: booking.RiderID(e.Actor.ID),
			Detail: "the record that its rider is engaged is not beside the acceptance"})
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
			i.found(Finding{What: FoundTwoRiders, Seq: e.Seq, Booking: e.Booking, Rider: rider, Detail: "readers let it pass while it was with rider " + string(holder)})
		}
		if others := i.rides[rider]; len(others) > 0 {
			i.found(Finding{What: FoundTwoRides, Seq: e.Seq, Booking: e.Booking, Rider: rider, Detail: "the rider was under way for " + string(others[len(others)-1])})
		}
		i.holder[e.Booking] = rider
		i.rides[rider] = append(i.rides[rider], e.Booking)
		return
	}
	switch e.Kind {
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

// unfollowed is about an event with a good token that readers refuse: whoever wrote it did so past the guard, or the guard did not hold.
func (i *inspector) unfollowed(e booking.Event, reason string) {
	f := Finding{What: FoundUnfollowed, Seq: e.Seq, Booking: e.Booking, Detail: fmt.Sprintf("%s as event %d by %s %s: %s", e.Kind, e.N, e.Actor.Role, e.Actor.ID, reason)}
	if holder := i.holder[e.Booking]; e.Kind == booking.Accepted && holder != "" && string(holder) != e.Actor.ID {
		f.What, f.Rider, f.Detail = FoundTwoRiders, booking.RiderID(e.Actor.ID), "readers refuse it, for it was with rider "+string(holder)
	}
	i.found(f)
}

// engagedAlone is about a record that no acceptance came after.
func (i *inspector) engagedAlone() {
	if x := i.engaged; x != nil {
		i.found(Finding{What: FoundEngagedAlone, Seq: i.Last, Booking: x.Booking, Rider: x.Rider, Detail: "the acceptance is not beside the record that its rider is engaged"})
		i.engaged = nil
	}
}

// end looks at what all of it has come to.
func (i *inspector) end() {
	for _, b := range i.Board.Newest(i.Board.Len(), 0) {
		i.Bookings[b.State]++
	}
	for _, b := range i.Board.Overdue(i.ledger.now().Add(-i.grace)) {
		i.found(Finding{What: FoundOverdue, Seq: b.OpenedSeq, Booking: b.ID, Detail: "open since " + b.OpenedAt.Format(time.RFC3339) + ", and its deadline was " + b.Deadline.Format(time.RFC3339)})
	}
	for _, a := range i.order {
		if i.missing[a] {
			i.found(Finding{What: FoundMissing, Seq: a.Seq, Booking: a.Booking, Detail: fmt.Sprintf("acknowledged: event %q, command %q, %s by %q", a.Event, a.Command, a.Kind, a.Actor)})
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

// judged asks for a verdict until there is one, for what tokens are judged by may be on its way. It returns the verdict, or ctx's error.
func judged[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	pace := newBackOff()
	for {
		v, err := ask()
		if !errors.Is(err, token.ErrNoKeys) && !errors.Is(err, token.ErrUndecided) {
			return v, err
		}
		select {
		case <-time.After(pace.NextBackOff()):
		case <-ctx.Done():
			return v, ctx.Err()
		}
	}
}
