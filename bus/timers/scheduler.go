// Package timers calls a handler when deadlines pass and when bookings call for action.
//
// Begin with [NewScheduler], and call Run. Timers live in NATS, not in this process, and all
// instances of a service share a consumer of them: what one instance leaves undone, another one
// does. A handler may be called again for the same timer or booking.
package timers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/internal/tracing"
)

// A Scheduler sets a timer for each deadline, calls its handler when a timer fires, and hands it
// the bookings that may call for action. Deadlines within the same second share a timer, so a busy
// system sets one a second, not one a booking.
//
// Every instance sets the timers of all bookings that its board has under way: a timer that is set
// twice is one timer. So an instance needs to know nothing of the others, a start makes up for
// whatever was left undone before, and timers that are lost are set again.
type Scheduler struct {
	// Fit returns why this instance must leave the work to the others at the moment, or nil. A nil
	// Fit never does. Set it before Run.
	Fit func(context.Context) error

	ledger   *ledger.Ledger
	follower *ledger.Follower
	board    *board.Board
	consumer string
	handler  Handler
	armed    *lru.Cache[int64, struct{}] // seconds that have a timer
	causes   *lru.Cache[int64, string]   // the spans that have set timers first, by second
}

// A Handler does what is due. All methods may be called again for the same, and an error means that
// they will be.
type Handler interface {
	// Due does what is due at a time by the server's clock, and says when to look again: zero is
	// never.
	Due(ctx context.Context, at time.Time) (again time.Time, err error)
	// Attend does what a booking calls for, and says when to look at that again: zero is never.
	Attend(ctx context.Context, b booking.Booking) (again time.Time, err error)
}

var (
	_ Handler = booking.Expiries{}
	_ Handler = booking.Releases{}
)

const (
	timerSlack  = time.Second // between a deadline and its timer, because servers' clocks differ
	armedBefore = 4096        // seconds that are remembered
	longestWait = 2 * time.Second
	// lookAgain is how often all timers are set again. A service that may set one can also empty
	// the stream: a message schedule needs roll-ups to be allowed.
	lookAgain = 30 * time.Second
	// attendPage is how many bookings are taken from the board at a time, and attendPause is the
	// time between two pages when all are looked at again: a city with many open bookings must not
	// wait for that.
	attendPage  = 128
	attendPause = 10 * time.Millisecond

	headerSchedule = "Nats-Schedule"
	headerTarget   = "Nats-Schedule-Target"
)

// NewScheduler returns a scheduler of the ledger. The owner of the follower runs it; handler does
// what is due when a timer comes from the consumer, which all instances with this handler share.
func NewScheduler(l *ledger.Ledger, f *ledger.Follower, consumer string, handler Handler) (*Scheduler, error) {
	armed, err := lru.New[int64, struct{}](armedBefore)
	causes, causesErr := lru.New[int64, string](armedBefore)
	if err := errors.Join(err, causesErr); err != nil {
		return nil, fmt.Errorf("make the scheduler: %w", err)
	}
	return &Scheduler{ledger: l, follower: f, board: f.Board(), consumer: consumer, handler: handler, armed: armed,
		causes: causes}, nil
}

// Run schedules until ctx ends, and then returns nil. It waits for NATS and for the streams.
func (s *Scheduler) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() {
		s.ledger.Conn().Consume(ctx, bus.SharedConsumer{
			Stream: bus.TimersStream, Name: s.consumer, Wait: bus.TaskWait, Fit: s.Fit, Do: s.due,
		})
	})
	p, warned := bus.Retries(0), time.Now()
	p.Longest = longestWait
	p.Notify = func(err error, wait time.Duration) {
		level := s.ledger.Conn().Log().Debug
		if time.Since(warned) > bus.TaskWait {
			level, warned = s.ledger.Conn().Log().Warn, time.Now()
		}
		level("this instance does not attend to bookings", "error", err, "retry_in", wait)
	}
	_ = p.Keep(ctx, func(progress func()) error {
		return s.watch(ctx, func() {
			progress()
			warned = time.Now()
		})
	})
	return nil
}

// watch attends to every booking that is under way, and then to each change, until something fails.
// Every now and then it attends to all again, so that timers that are lost are set again.
func (s *Scheduler) watch(ctx context.Context, progress func()) error {
	if err := s.follower.Ready(ctx); err != nil {
		return err
	}
	changes := s.follower.Subscribe(s.board.Seq())
	if err := s.attendToAll(ctx); err != nil {
		return err
	}
	var before uint64 // where the next page of the look at all of them begins
	again := time.NewTimer(lookAgain)
	defer again.Stop()
	for {
		progress()
		found, err := changes.Take(ctx)
		if err != nil {
			return err
		}
		for _, c := range found {
			ctx, span := c.Process(ctx, s.ledger.Conn().Tracer(), s.consumer, time.Time{})
			err := s.attend(ctx, c.After)
			span.End(err)
			if err != nil {
				return err
			}
		}
		select {
		case <-changes.More():
		case <-again.C:
			if before == 0 {
				s.armed.Purge()
			}
			if before, err = s.attendToPage(ctx, before); err != nil {
				return err
			}
			pause := lookAgain
			if before > 0 {
				pause = attendPause
			}
			again.Reset(pause)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// attendToAll attends to every booking that is under way. One that fails does not keep the others
// waiting.
func (s *Scheduler) attendToAll(ctx context.Context) error {
	var failed []error
	for before := uint64(0); ; {
		next, err := s.attendToPage(ctx, before)
		if err != nil {
			failed = append(failed, err)
		}
		if err := cmp.Or(ctx.Err(), s.unfit(ctx)); err != nil {
			return err
		}
		if before = next; before == 0 {
			return errors.Join(failed...)
		}
	}
}

// attendToPage attends to a page of the bookings that are under way, newest first. before is 0, or
// where the page begins. next is where the next one does, or 0 if this was the last.
func (s *Scheduler) attendToPage(ctx context.Context, before uint64) (next uint64, err error) {
	var failed []error
	underWay := board.InState(booking.StateOpen, booking.StateAccepted, booking.StateArrived)
	page := s.board.Newest(attendPage, before, underWay)
	for _, b := range page {
		if err := s.attend(ctx, b); err != nil {
			failed = append(failed, err)
		}
	}
	if len(page) == attendPage {
		next = page[len(page)-1].RequestedSeq
	}
	return next, errors.Join(failed...)
}

// attend has the handler look at a booking, unless this instance is unfit.
func (s *Scheduler) attend(ctx context.Context, b booking.Booking) error {
	if err := s.unfit(ctx); err != nil {
		return err
	}
	again, err := s.handler.Attend(ctx, b)
	if err != nil || again.IsZero() {
		return err
	}
	return s.arm(ctx, again, b.UpdatedAt)
}

func (s *Scheduler) unfit(ctx context.Context) error {
	if s.Fit == nil {
		return nil
	}
	return s.Fit(ctx)
}

// arm sets a timer, unless there is one for that second. A timer whose time has passed fires at
// once.
func (s *Scheduler) arm(ctx context.Context, when, storedAt time.Time) error {
	if storedAt.After(when) { // the timer must not fire before its cause is stored
		when = storedAt
	}
	second := when.Add(timerSlack + time.Second - 1).Unix()
	if s.armed.Contains(second) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, bus.AttemptPatience)
	defer cancel()
	name := strconv.FormatInt(second, 10)
	// The client's own option truncates to seconds, and could fire the timer a second early.
	m := &nats.Msg{Subject: bus.TimerSetPrefix + name, Header: nats.Header{
		headerSchedule: {"@at " + time.Unix(second, 0).UTC().Format(time.RFC3339Nano)},
		headerTarget:   {bus.TimerDuePrefix + name},
	}}
	ctx, span := s.send(ctx, m, second)
	_, err := s.ledger.Conn().Publish(ctx, m, jetstream.WithExpectStream(bus.TimersStream))
	span.End(err)
	if err != nil {
		return bus.Unavailable("set a timer", err)
	}
	s.armed.Add(second, struct{}{})
	return nil
}

// send begins the span of setting a timer, if ctx has one, and names it in the headers, with which
// NATS fires the timer. A timer that is set again keeps the span that has set it first.
func (s *Scheduler) send(ctx context.Context, m *nats.Msg, second int64) (context.Context, tracing.Span) {
	if first, known := s.causes.Get(second); known {
		m.Header[tracing.Header] = []string{first}
		return ctx, tracing.Span{}
	}
	if tracing.TraceID(ctx) == "" {
		return ctx, tracing.Span{}
	}
	ctx, span := s.ledger.Conn().Tracer().Send(ctx, tracing.Message{Subject: m.Subject}, "")
	if first := tracing.Inject(ctx, m.Header); first != "" {
		s.causes.Add(second, first)
	}
	return ctx, span
}

// due does what is due when a timer has fired. The board must have everything that was stored by
// then.
func (s *Scheduler) due(ctx context.Context, m bus.Message) (err error) {
	if second, err := strconv.ParseInt(strings.TrimPrefix(m.Subject, bus.TimerDuePrefix), 10, 64); err != nil ||
		time.Unix(second, 0).After(m.StoredAt.Add(timerSlack)) {
		return nil // a forged timer, ahead of its time
	}
	ctx, span := s.ledger.Conn().Tracer().Process(ctx, tracing.Message{Subject: m.Subject, Consumer: s.consumer},
		tracing.Sent(m.Header))
	defer func() { span.End(err) }()
	last, err := s.ledger.LastSequence(ctx)
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, bus.TaskWait/4)
	defer cancel()
	if err := s.board.Await(wait, last); err != nil {
		return err
	}
	again, err := s.handler.Due(ctx, m.StoredAt)
	if err != nil || again.IsZero() {
		return err
	}
	return s.arm(ctx, again, m.StoredAt)
}
