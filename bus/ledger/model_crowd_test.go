package ledger_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/fault"
)

// A crowd is all users of a system, with the history of their answers.
type crowd struct {
	t *testing.T
	// of each ledger: one whose bookings wait as long as need be, and one whose do not
	desks  [][2]*booking.Desk
	start  time.Time
	limit  int64 // calls
	calls  atomic.Int64
	riders []*duo

	mu      sync.Mutex
	history []*call
	floor   []*offer // the bookings that people talk about, newest last
}

// waits is how long bookings stay open: some until the test is over, some less.
var waits = [2]time.Duration{time.Hour, 300 * time.Millisecond}

// An offer is a booking that a user has requested.
type offer struct {
	id     booking.ID
	owner  ledgertest.Person
	wait   int   // index into waits
	opened int64 // when its user thought of it; its deadline counts from a little later
	crowd  atomic.Int64

	mu sync.Mutex
	// closed when those who wait for each other at this booking begin; nil: nobody waits
	gun     chan struct{}
	waiting int
}

const (
	gathering = 3 // who wait for each other
	gathered  = 20 * time.Millisecond
	// crowded is how many may be at one booking. To find an order for more calls at once takes
	// long: twice as long for each.
	crowded = 9
)

// gather waits for others who want something of the booking, so that all begin at the same moment.
// Chance alone lets too few meet.
func (o *offer) gather(ctx context.Context) {
	o.mu.Lock()
	if o.gun == nil {
		o.gun = make(chan struct{})
	}
	gun := o.gun
	if o.waiting++; o.waiting == gathering {
		o.begin()
	}
	o.mu.Unlock()
	select {
	case <-gun:
	case <-ctx.Done():
	case <-time.After(gathered):
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.gun == gun {
			o.begin()
		}
	}
}

// begin releases all who have gathered. The caller holds the lock.
func (o *offer) begin() {
	close(o.gun)
	o.gun, o.waiting = nil, 0
}

// awaits reports whether anyone waits for others.
func (o *offer) awaits() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.gun != nil
}

// A duo is a rider with two phones, which share what they learn.
type duo struct {
	ledgertest.Person
	mu    sync.Mutex
	ride  *offer          // under way for it, as far as they know
	seen  booking.Booking // what they have seen of it last; may be zero
	maybe []*offer        // where they do not know what became of an acceptance
}

// newCrowd returns a crowd at several ledgers, each on a connection of its own.
func newCrowd(t *testing.T, k *ledgertest.Kit, ledgers, riders int, limit int64) *crowd {
	t.Helper()
	codes, err := booking.NewStartCodes([]byte("this is the key of the start codes of this test"))
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{t: t, start: time.Now(), limit: limit}
	for range ledgers {
		l := k.Ledger(t)
		if len(c.desks)%2 == 0 { // half of them decide on what they have in memory
			ledgertest.Follow(t, l)
		}
		var pair [2]*booking.Desk
		for i, wait := range waits {
			if pair[i], err = booking.NewDesk(l, booking.DeskOptions{Deadline: wait, Codes: codes}); err != nil {
				t.Fatal(err)
			}
		}
		c.desks = append(c.desks, pair)
	}
	for range riders {
		c.riders = append(c.riders, &duo{Person: k.Person(booking.Rider)})
	}
	return c
}

// run starts everyone, and returns when the calls are used up or ctx ends, with no call in flight.
func (c *crowd) run(ctx context.Context, k *ledgertest.Kit, users int, seed uint64) {
	var wg sync.WaitGroup
	n := 0
	let := func(step func(*client, context.Context)) {
		one := &client{c, rand.New(rand.NewPCG(seed, uint64(n))), n, make(map[booking.ID]booking.Command), false}
		n++
		wg.Go(func() {
			for ctx.Err() == nil && c.calls.Load() < c.limit {
				step(one, c.t.Context())
			}
		})
	}
	for range users {
		p := k.Person(booking.User)
		let(func(one *client, ctx context.Context) { one.userDoes(ctx, p) })
	}
	for _, d := range c.riders {
		for range 2 {
			let(func(one *client, ctx context.Context) { one.riderDoes(ctx, d) })
		}
	}
	for range 2 {
		p := k.Person(booking.Service)
		let(func(one *client, ctx context.Context) { one.serviceDoes(ctx, p) })
	}
	wg.Wait()
}

func (c *crowd) now() int64 { return int64(time.Since(c.start)) }

// try sends a command once and records the result.
func (c *crowd) try(
	ctx context.Context, this *call, command booking.Command, code string, first int64, patience time.Duration,
	ledger int,
) {
	c.calls.Add(1)
	wait := 0
	if this.Wait == waits[1] {
		wait = 1
	}
	desk := c.desks[ledger][wait]
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var err error
	this.Begin = c.now()
	if this.First = first; first == 0 {
		this.First = this.Begin
	}
	switch this.Op {
	case opShow:
		this.Got, err = desk.Show(ctx, this.ID)
	case opBook:
		this.Got, err = desk.Book(ctx, command, this.ID, booking.Trip{})
	case opAccept:
		this.Got, err = desk.Accept(ctx, command, this.ID)
	case opArrive:
		this.Got, err = desk.Arrive(ctx, command, this.ID)
	case opStart:
		this.Got, err = desk.StartWith(ctx, command, this.ID, code)
	case opComplete:
		this.Got, err = desk.Complete(ctx, command, this.ID)
	case opCancel:
		this.Got, err = desk.Cancel(ctx, command, this.ID, this.Reason)
	case opRelease:
		this.Got, err = desk.Release(ctx, command, this.ID, this.Reason)
	case opExpire:
		this.Got, err = desk.Expire(ctx, command, this.ID)
	case opRate:
		this.Got, err = desk.Rate(ctx, command, this.ID, this.Stars)
	}
	this.End = c.now()
	this.Answer = answerOf(err)
	if this.Answer == unknown {
		this.End = forever
	}
	if err != nil && fault.KindOf(err) == fault.Internal && !errors.Is(err, context.DeadlineExceeded) {
		c.t.Errorf("%s: %v", this, err)
	}
	c.mu.Lock()
	c.history = append(c.history, this)
	c.mu.Unlock()
}

// answerOf returns the answer to a call that returned err.
func answerOf(err error) string {
	switch {
	case err == nil:
		return ok
	case errors.Is(err, booking.ErrContended):
		return contended
	case fault.KindOf(err) == fault.Unavailable, fault.KindOf(err) == fault.Internal:
		return unknown
	}
	return fault.From(err).Code
}
