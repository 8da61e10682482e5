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

// A crowd is everybody who uses a system at once, and the history of what they were answered.
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

// How long bookings wait for a rider: some until the test is over, and some for less.
var waits = [2]time.Duration{time.Hour, 300 * time.Millisecond}

// An offer is a booking that somebody has asked for.
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

// gather waits for others who want something of the booking too, so that all of them begin at one
// moment. Chance alone lets too few meet.
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

// begin lets all go who have gathered. The caller holds the lock.
func (o *offer) begin() {
	close(o.gun)
	o.gun, o.waiting = nil, 0
}

// awaits reports whether somebody waits for others.
func (o *offer) awaits() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.gun != nil
}

// A duo is a rider with two phones, which both know what either has learnt.
type duo struct {
	ledgertest.Person
	mu    sync.Mutex
	ride  *offer          // under way for it, as far as they know
	seen  booking.Booking // what they have seen of it last; may be zero
	maybe []*offer        // where they do not know what became of an acceptance
}

// newCrowd returns a crowd at some ledgers, each on a connection of its own.
func newCrowd(t *testing.T, k *ledgertest.Kit, ledgers, riders int, limit int64) *crowd {
	t.Helper()
	codes, err := booking.NewStartCodes([]byte("this is the key of the start codes of this test"))
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{t: t, start: time.Now(), limit: limit}
	for range ledgers {
		l := k.Ledger(t)
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

// A client is one of them: it does one thing after the other.
type client struct {
	*crowd
	*rand.Rand
	n    int
	last map[booking.ID]booking.Command // the last command about a booking

	hasty bool // waits for nobody
}

// hastily returns c as one who waits for nobody.
func (c *client) hastily() *client {
	hasty := *c
	hasty.hasty = true
	return &hasty
}

// run lets everybody loose, and returns when the calls are used up or ctx ends. Then nothing is
// under way any more.
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

// one in n.
func (c *client) oneIn(n int) bool { return c.IntN(n) == 0 }

// offered returns one of the newest offers, rather one where somebody waits, or nil.
func (c *client) offered(newest int) *offer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.floor) == 0 {
		return nil
	}
	if c.oneIn(2) {
		for _, o := range c.floor[max(0, len(c.floor)-20):] {
			if o.awaits() {
				return o
			}
		}
	}
	return c.floor[len(c.floor)-1-c.IntN(min(newest, len(c.floor)))]
}

// own returns one of the newest offers of a user, or nil.
func (c *client) own(p ledgertest.Person) *offer {
	c.mu.Lock()
	defer c.mu.Unlock()
	var own *offer
	for _, o := range c.floor[max(0, len(c.floor)-40):] {
		switch {
		case o.owner.ID != p.ID:
		case o.awaits():
			return o
		case own == nil || c.oneIn(2): // rather a new one
			own = o
		}
	}
	return own
}

// userDoes one thing.
func (c *client) userDoes(ctx context.Context, p ledgertest.Person) {
	o := c.own(p)
	switch n := c.IntN(100); {
	case o == nil || n < 16:
		o := &offer{id: booking.ID(booking.NewID()), owner: p}
		if c.oneIn(4) {
			o.wait = 1
		}
		o.opened = c.now()
		if c.oneIn(3) { // others may hear of it before its user knows that it is booked
			c.offer(o)
			c.do(ctx, p, o, call{Op: opBook})
			return
		}
		c.do(ctx, p, o, call{Op: opBook})
		c.offer(o)
		if c.oneIn(3) { // and thinks again, while riders are at it
			c.do(ctx, p, o, call{Op: opCancel, Reason: "changed my mind"})
		}
	case n < 22:
		if c.oneIn(4) {
			if o = c.offered(8); o == nil { // as good as always somebody else's
				return
			}
		}
		c.do(ctx, p, o, call{Op: opBook})
	case n < 40:
		if c.oneIn(12) {
			o = c.offered(8)
		}
		c.do(ctx, p, o, call{Op: opCancel, Reason: "changed my mind"})
	case n < 50:
		c.do(ctx, p, o, call{Op: opRate, Stars: 1 + c.IntN(5)})
	default:
		c.do(ctx, p, c.offered(8), call{Op: opShow})
	}
}

func (c *client) offer(o *offer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.floor = append(c.floor, o)
}

// serviceDoes one thing: what is due, and what an operator might want.
func (c *client) serviceDoes(ctx context.Context, p ledgertest.Person) {
	o := c.offered(12)
	if o == nil {
		c.pause(ctx)
		return
	}
	switch n := c.IntN(100); {
	case n < 45:
		for range 20 { // look for one that is due, more often than not
			if due := c.offered(60); due != nil && due.wait == 1 && time.Since(c.start) > time.Duration(due.opened)+waits[1] {
				o = due
				break
			}
		}
		c.do(ctx, p, o, call{Op: opExpire})
	case n < 60:
		c.do(ctx, p, o, call{Op: opRelease, Reason: "the rider's phone is dead"})
	case n < 70:
		c.do(ctx, p, o, call{Op: opCancel, Reason: "an operator's"})
	default:
		c.do(ctx, p, o, call{Op: opShow})
	}
}

// riderDoes one thing on one of the phones.
func (c *client) riderDoes(ctx context.Context, d *duo) {
	d.mu.Lock()
	ride, seen := d.ride, d.seen
	if ride == nil && len(d.maybe) > 0 {
		last := d.maybe[len(d.maybe)-1]
		d.maybe = d.maybe[:len(d.maybe)-1]
		d.mu.Unlock()
		c.rides(ctx, d, last, call{Op: opShow})
		return
	}
	d.mu.Unlock()
	if ride == nil || c.oneIn(8) { // with a ride: in vain
		o := c.offered(4)
		switch {
		case o == nil:
			c.pause(ctx)
		case c.oneIn(12):
			c.rides(ctx, d, o, call{Op: []op{opArrive, opStart, opComplete, opRelease, opRate, opShow}[c.IntN(6)], Stars: 3})
		case c.oneIn(3): // several at once, for there is no rule that forbids to try
			var wg sync.WaitGroup
			for range 3 {
				o, hand := c.offered(6), &client{c.crowd, rand.New(rand.NewPCG(c.Uint64(), 0)), c.n, make(map[booking.ID]booking.Command), true}
				wg.Go(func() {
					hand.moment(ctx, 8*time.Millisecond)
					hand.rides(ctx, d, o, call{Op: opAccept})
				})
			}
			wg.Wait()
		default:
			got := c.rides(ctx, d, o, call{Op: opAccept})
			// greedy: and another, before all servers have heard of this one
			for got.Answer == ok && c.oneIn(2) {
				if o = c.offered(4); o == nil {
					return
				}
				got = c.hastily().rides(ctx, d, o, call{Op: opAccept})
			}
		}
		return
	}
	next := call{Op: opShow}
	switch n := c.IntN(100); {
	case seen.ID == "" || n < 10:
	case n < 22:
		next = call{Op: opRelease, Reason: "a puncture"}
	case n < 26:
		next = call{Op: opAccept}
	case seen.State == booking.StateAccepted:
		next = call{Op: opArrive}
	case seen.State == booking.StateArrived:
		next = call{Op: opStart, Right: !c.oneIn(3)}
	case seen.State == booking.StateStarted:
		next = call{Op: opComplete}
	}
	got := c.rides(ctx, d, ride, next)
	if got.Op == opComplete && got.Answer == ok && c.oneIn(2) {
		c.rides(ctx, d, ride, call{Op: opRate, Stars: 1 + c.IntN(5)})
	}
}

// rides does something as a rider and notes what that tells about the ride.
func (c *client) rides(ctx context.Context, d *duo, o *offer, wish call) *call {
	got := c.do(ctx, d.Person, o, wish)
	d.mu.Lock()
	defer d.mu.Unlock()
	with := isWith(got.Got, d.ID)
	switch {
	case got.Answer == ok && with:
		d.ride, d.seen = o, got.Got
	case got.Answer == unknown && got.Op == opAccept:
		d.maybe = append(d.maybe, o)
	case d.ride == o && got.Answer != unknown && got.Answer != contended && got.Answer != "wrong_start_code" && got.Answer != "rider_busy":
		d.ride, d.seen = nil, booking.Booking{}
		if got.Answer != ok { // somebody knows better: ask
			d.maybe = append(d.maybe, o)
		}
	case got.Answer == "wrong_start_code":
		d.seen = booking.Booking{}
	// lost track: ask about all that there are
	case got.Answer == "rider_busy" && d.ride == nil && len(d.maybe) == 0:
		c.mu.Lock()
		d.maybe = append(d.maybe, c.floor[max(0, len(c.floor)-30):]...)
		c.mu.Unlock()
	}
	return got
}

// pause lets a moment pass while there is nothing to do.
func (c *client) pause(ctx context.Context) { c.moment(ctx, 10*time.Millisecond) }

// moment lets a moment pass, of up to a length.
func (c *client) moment(ctx context.Context, most time.Duration) {
	select {
	case <-time.After(time.Duration(c.Int64N(int64(most)))):
	case <-ctx.Done():
	}
}

// do sends a command as people and what is between them and us do: some give up waiting, some try
// again, also after an answer that got lost, some send it twice at once, and some use an id for
// something else. It returns the last call.
func (c *client) do(ctx context.Context, p ledgertest.Person, o *offer, wish call) *call {
	if o == nil {
		c.pause(ctx)
		return &call{Answer: unknown}
	}
	defer o.crowd.Add(-1)
	if o.crowd.Add(1) > crowded {
		c.pause(ctx)
		return &call{Answer: unknown}
	}
	wish.Client, wish.ID, wish.Actor, wish.Wait = c.n, o.id, p.Actor, waits[o.wait]
	command := p.Command()
	if wish.Op != opShow {
		if before, there := c.last[o.id]; there && wish.Op != opBook && c.oneIn(25) {
			command = before
		}
		wish.Command = command.ID
		c.last[o.id] = command
	}
	code := ""
	if wish.Op == opStart {
		d := c.riderOf(p)
		d.mu.Lock()
		seen := d.seen
		d.mu.Unlock()
		code = c.desks[0][0].StartCode(seen)
		if wish.Right = wish.Right && code != "" && seen.ID == o.id; !wish.Right {
			code = "no code"
		}
	}
	patience := 10 * time.Second
	if wish.Op != opShow && c.oneIn(12) {
		patience = time.Duration(100+c.IntN(8000)) * time.Microsecond
	}
	if wish.Op != opBook && wish.Op != opShow && !c.hasty && !c.oneIn(3) {
		o.gather(ctx)
	}
	first := int64(0)                     // of the first try: its own beginning
	if wish.Op != opShow && c.oneIn(25) { // twice at once
		var wg sync.WaitGroup
		first = c.now()
		second, limit := wish, patience
		begun := first
		wg.Go(func() { c.try(ctx, &second, command, code, begun, limit, 0) })
		defer wg.Wait()
	}
	for try := 0; ; try++ {
		this := wish
		c.try(ctx, &this, command, code, first, patience, c.IntN(len(c.desks)))
		if this.Op == opShow || try >= 3 {
			return &this
		}
		lost := this.Answer == ok && c.oneIn(12)
		if this.Answer != unknown && !lost || this.Answer == unknown && c.oneIn(5) {
			return &this
		}
		first = this.First
		if !lost {
			patience *= 4
		}
	}
}

func (c *client) riderOf(p ledgertest.Person) *duo {
	for _, d := range c.riders {
		if d.ID == p.ID {
			return d
		}
	}
	return &duo{}
}

func (c *crowd) now() int64 { return int64(time.Since(c.start)) }

// try sends a command once and keeps what came of it.
func (c *crowd) try(ctx context.Context, this *call, command booking.Command, code string, first int64, patience time.Duration, ledger int) {
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

// answerOf returns what a call that returned err was answered.
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
