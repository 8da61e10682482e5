package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/token"
)

// A Timekeeper sees to it that no booking is forgotten: it arms a timer for each deadline, in NATS and not in this process, and says when
// one has passed; and it hands on the events after which the system has something to do. Two durable consumers do that for all
// instances together, so that what one of them leaves undone when it dies another one does.
//
// Deadlines within the same second share a timer, so that a busy system arms one a second and not one a booking. Call Run.
type Timekeeper struct {
	// Fit returns why this instance must leave everything to the others at the moment, or nil; nil: it never must. Set it before Run.
	Fit func(context.Context) error

	ledger *Ledger
	board  *board.Board
	duty   Duty
	armed  *lru.Cache[int64, struct{}] // seconds for which there is a timer
}

// A Duty is what somebody does when it is time. All methods may be called again for the same; an error means that they will be.
type Duty interface {
	// Expire ends what is overdue at a time by the server's clock.
	Expire(ctx context.Context, at time.Time) (ended int, err error)
	// Recall looks after riders who do not come, at a time by the server's clock, and says when to look again: zero is never.
	ReleaseNoShows(ctx context.Context, at time.Time) (again time.Time, err error)
	// Attend does what an event calls for, and says when that is to be looked at: zero is never.
	Attend(ctx context.Context, e booking.Event) (again time.Time, err error)
}

var _ Duty = (*booking.ProcessManager)(nil)

const (
	dutyWait    = 10 * time.Second // for an instance that is silent about something, before another one gets it
	dutyAtOnce  = 64               // messages that one instance takes at a time: it does them in a fraction of that
	timerSlack  = time.Second      // between a deadline and its timer: servers' clocks differ a little
	armedBefore = 4096             // seconds that are remembered

	headerSchedule = "Nats-Schedule"
	headerTarget   = "Nats-Schedule-Target"
)

// Timekeeper returns a timekeeper of the ledger. board is fed by somebody else; duty is what is done.
func (l *Ledger) Timekeeper(board *board.Board, duty Duty) (*Timekeeper, error) {
	armed, err := lru.New[int64, struct{}](armedBefore)
	if err != nil {
		return nil, fmt.Errorf("make the timekeeper: %w", err)
	}
	return &Timekeeper{ledger: l, board: board, duty: duty, armed: armed}, nil
}

// Run keeps the time until ctx ends, and then returns nil. It waits for NATS and for the streams.
func (t *Timekeeper) Run(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.ledger.consume(ctx, shared{TimersStream, TimersConsumer, dutyWait, t.Fit, t.due})
	}()
	t.ledger.consume(ctx, shared{LedgerStream, DeadlinesConsumer, dutyWait, t.Fit, t.event})
	<-done
	return nil
}

// event does what an event of the ledger calls for.
func (t *Timekeeper) event(ctx context.Context, m stored) error {
	e, err := t.ledger.verify.check(ctx, m)
	if errors.Is(err, token.ErrNoKeys) || errors.Is(err, token.ErrUndecided) {
		return err
	}
	if _, refused := refusalOf(err); refused {
		return nil // the board's reader has it recorded
	}
	if err != nil {
		return err
	}
	again, err := t.duty.Attend(ctx, e)
	if err != nil || again.IsZero() {
		return err
	}
	return t.arm(ctx, again, m.at)
}

// arm arms a timer for a time, unless there is one for that second: what called for it was stored at another one. One whose time has passed goes off
// at once.
func (t *Timekeeper) arm(ctx context.Context, when, storedAt time.Time) error {
	if storedAt.After(when) { // or the timer may have gone off before what called for it was there
		when = storedAt
	}
	second := when.Add(timerSlack + time.Second - 1).Unix()
	if t.armed.Contains(second) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, attemptPatience)
	defer cancel()
	name := strconv.FormatInt(second, 10)
	// The client's own option cuts to whole seconds, and then the timer may go off a second early.
	_, err := t.ledger.conn.publish(ctx, &nats.Msg{Subject: timerSet + name, Header: nats.Header{
		headerSchedule: {"@at " + time.Unix(second, 0).UTC().Format(time.RFC3339Nano)},
		headerTarget:   {timerDue + name},
	}}, jetstream.WithExpectStream(TimersStream))
	if err != nil {
		return unavailable("arm a timer", err)
	}
	t.armed.Add(second, struct{}{})
	return nil
}

// due does what is due when a timer has gone off, by the server's clock: the board must have everything that was stored until then.
func (t *Timekeeper) due(ctx context.Context, m stored) error {
	if second, err := strconv.ParseInt(strings.TrimPrefix(m.subject, timerDue), 10, 64); err != nil || time.Unix(second, 0).After(m.at.Add(timerSlack)) {
		return nil // no timer of ours: somebody says that it is later than it is
	}
	last, err := t.ledger.LastSequence(ctx)
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, dutyWait/4)
	defer cancel()
	if err := t.board.Await(wait, last); err != nil {
		return err
	}
	ended, err := t.duty.Expire(ctx, m.at)
	if ended > 0 {
		t.ledger.log.Info("bookings have expired", "count", ended)
	}
	if err != nil {
		return err
	}
	again, err := t.duty.ReleaseNoShows(ctx, m.at)
	if err != nil || again.IsZero() {
		return err
	}
	return t.arm(ctx, again, m.at)
}
