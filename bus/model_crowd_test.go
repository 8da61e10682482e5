package bus_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pillion/booking"
	"pillion/bus"
	"pillion/bus/bustest"
	"pillion/fault"
)

// A crowd is everybody who uses a system at once, and the history of what they were answered.
type crowd struct {
	t      *testing.T
	desks  [][2]*booking.Desk // of each ledger: one whose bookings wait as long as need be, and one whose do not
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
	owner  person
	wait   int   // index into waits
	opened int64 // when its user thought of it; its deadline counts from a little later
	crowd  atomic.Int64

	mu      sync.Mutex
	gun     chan struct{} // closed when those who wait for each other at this booking begin; nil: nobody waits
	waiting int
}

const (
	gathering = 3 // who wait for each other
	gathered  = 20 * time.Millisecond
	// crowded is how many may be at one booking. To find an order for more calls at once takes long: twice as long for each.
	crowded = 9
)

// gather waits for others who want something of the booking too, so that all of them begin at one moment. Chance alone lets too few meet.
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
	person
	mu    sync.Mutex
	ride  *offer          // under way for it, as far as they know
	seen  booking.Booking // what they have seen of it last; may be zero
	maybe []*offer        // where they do not know what became of an acceptance
}

// newCrowd returns a crowd at some ledgers, each on a connection of its own.
func newCrowd(t *testing.T, k *kit, ledgers, riders int, limit int64) *crowd {
	t.Helper()
	codes, err := booking.NewStartCodes([]byte("this is the key of the start codes of this test"))
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{t: t, start: time.Now(), limit: limit}
	for range ledgers {
		l := k.ledger(t)
		var pair [2]*booking.Desk
		for i, wait := range waits {
			if pair[i], err = booking.NewDesk(l, booking.DeskOptions{Deadline: wait, Codes: codes}); err != nil {
				t.Fatal(err)
			}
		}
		c.desks = append(c.desks, pair)
	}
	for range riders {
		c.riders = append(c.riders, &duo{person: k.person(booking.Rider)})
	}
	return c
}

// A client is one of them: it does one thing after the other.
type client struct {
	*crowd
	*rand.Rand
	n    int
	last map[booking.ID]booking.Command // the last command about a booking
}

// run lets everybody loose, and returns when the calls are used up or ctx ends. Then nothing is under way any more.
func (c *crowd) run(ctx context.Context, k *kit, users int, seed uint64) {
	var wg sync.WaitGroup
	n := 0
	let := func(step func(*client, context.Context)) {
		one := &client{c, rand.New(rand.NewPCG(seed, uint64(n))), n, make(map[booking.ID]booking.Command)}
		n++
		wg.Go(func() {
			for ctx.Err() == nil && c.calls.Load() < c.limit {
				step(one, c.t.Context())
			}
		})
	}
	for range users {
		p := k.person(booking.User)
		let(func(one *client, ctx context.Context) { one.userDoes(ctx, p) })
	}
	for _, d := range c.riders {
		for range 2 {
			let(func(one *client, ctx context.Context) { one.riderDoes(ctx, d) })
		}
	}
	for range 2 {
		p := k.person(booking.Service)
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
func (c *client) own(p person) *offer {
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
func (c *client) userDoes(ctx context.Context, p person) {
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
			c.do(ctx, p, o, call{op: opBook})
			return
		}
		c.do(ctx, p, o, call{op: opBook})
		c.offer(o)
		if c.oneIn(3) { // and thinks again, while riders are at it
			c.do(ctx, p, o, call{op: opCancel, reason: "changed my mind"})
		}
	case n < 22:
		if c.oneIn(4) {
			if o = c.offered(8); o == nil { // as good as always somebody else's
				return
			}
		}
		c.do(ctx, p, o, call{op: opBook})
	case n < 40:
		if c.oneIn(12) {
			o = c.offered(8)
		}
		c.do(ctx, p, o, call{op: opCancel, reason: "changed my mind"})
	case n < 50:
		c.do(ctx, p, o, call{op: opRate, stars: 1 + c.IntN(5)})
	default:
		c.do(ctx, p, c.offered(8), call{op: opShow})
	}
}

func (c *client) offer(o *offer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.floor = append(c.floor, o)
}

// serviceDoes one thing: what is due, and what an operator might want.
func (c *client) serviceDoes(ctx context.Context, p person) {
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
		c.do(ctx, p, o, call{op: opExpire})
	case n < 60:
		c.do(ctx, p, o, call{op: opRelease, reason: "the rider's phone is dead"})
	case n < 70:
		c.do(ctx, p, o, call{op: opCancel, reason: "an operator's"})
	default:
		c.do(ctx, p, o, call{op: opShow})
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
		c.rides(ctx, d, last, call{op: opShow})
		return
	}
	d.mu.Unlock()
	if ride == nil || c.oneIn(8) { // with a ride: in vain
		o := c.offered(4)
		switch {
		case o == nil:
			c.pause(ctx)
		case c.oneIn(12):
			c.rides(ctx, d, o, call{op: []op{opArrive, opStart, opComplete, opRelease, opRate, opShow}[c.IntN(6)], stars: 3})
		case c.oneIn(3): // several at once, for there is no rule that forbids to try
			var wg sync.WaitGroup
			for range 3 {
				o, hand := c.offered(6), &client{c.crowd, rand.New(rand.NewPCG(c.Uint64(), 0)), c.n, make(map[booking.ID]booking.Command)}
				wg.Go(func() {
					hand.moment(ctx, 8*time.Millisecond)
					hand.rides(ctx, d, o, call{op: opAccept, hasty: true})
				})
			}
			wg.Wait()
		default:
			got := c.rides(ctx, d, o, call{op: opAccept})
			for got.answer == ok && c.oneIn(2) { // greedy: and another, before all servers have heard of this one
				if o = c.offered(4); o == nil {
					return
				}
				got = c.rides(ctx, d, o, call{op: opAccept, hasty: true})
			}
		}
		return
	}
	next := call{op: opShow}
	switch n := c.IntN(100); {
	case seen.ID == "" || n < 10:
	case n < 22:
		next = call{op: opRelease, reason: "a puncture"}
	case n < 26:
		next = call{op: opAccept}
	case seen.State == booking.StateAccepted:
		next = call{op: opArrive}
	case seen.State == booking.StateArrived:
		next = call{op: opStart, right: !c.oneIn(3)}
	case seen.State == booking.StateStarted:
		next = call{op: opComplete}
	}
	got := c.rides(ctx, d, ride, next)
	if got.op == opComplete && got.answer == ok && c.oneIn(2) {
		c.rides(ctx, d, ride, call{op: opRate, stars: 1 + c.IntN(5)})
	}
}

// rides does something as a rider and notes what that tells about the ride.
func (c *client) rides(ctx context.Context, d *duo, o *offer, wish call) *call {
	got := c.do(ctx, d.person, o, wish)
	d.mu.Lock()
	defer d.mu.Unlock()
	with := string(got.got.Rider) == d.ID && (ride{state: got.got.State, rider: d.ID}).isWith(d.ID)
	switch {
	case got.answer == ok && with:
		d.ride, d.seen = o, got.got
	case got.answer == unknown && got.op == opAccept:
		d.maybe = append(d.maybe, o)
	case d.ride == o && got.answer != unknown && got.answer != contended && got.answer != "wrong_start_code" && got.answer != "rider_busy":
		d.ride, d.seen = nil, booking.Booking{}
		if got.answer != ok { // somebody knows better: ask
			d.maybe = append(d.maybe, o)
		}
	case got.answer == "wrong_start_code":
		d.seen = booking.Booking{}
	case got.answer == "rider_busy" && d.ride == nil && len(d.maybe) == 0: // lost track: ask about all that there are
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

// do sends a command as people and what is between them and us do: some give up waiting, some try again, also after an answer that got lost, some
// send it twice at once, and some use an id for something else. It returns the last call.
func (c *client) do(ctx context.Context, p person, o *offer, wish call) *call {
	if o == nil {
		c.pause(ctx)
		return &call{answer: unknown}
	}
	defer o.crowd.Add(-1)
	if o.crowd.Add(1) > crowded {
		c.pause(ctx)
		return &call{answer: unknown}
	}
	wish.client, wish.id, wish.actor, wish.wait = c.n, o.id, p.Actor, waits[o.wait]
	command := p.command()
	if wish.op != opShow {
		if before, there := c.last[o.id]; there && wish.op != opBook && c.oneIn(25) {
			command = before
		}
		wish.command = command.ID
		c.last[o.id] = command
	}
	code := ""
	if wish.op == opStart {
		d := c.riderOf(p)
		d.mu.Lock()
		seen := d.seen
		d.mu.Unlock()
		code = c.desks[0][0].StartCode(seen)
		if wish.right = wish.right && code != "" && seen.ID == o.id; !wish.right {
			code = "no code"
		}
	}
	patience := 10 * time.Second
	if wish.op != opShow && c.oneIn(12) {
		patience = time.Duration(100+c.IntN(8000)) * time.Microsecond
	}
	if wish.op != opBook && wish.op != opShow && !wish.hasty && !c.oneIn(3) {
		o.gather(ctx)
	}
	first := int64(0)                     // of the first try: its own beginning
	if wish.op != opShow && c.oneIn(25) { // twice at once
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
		if this.op == opShow || try >= 3 {
			return &this
		}
		lost := this.answer == ok && c.oneIn(12)
		if this.answer != unknown && !lost || this.answer == unknown && c.oneIn(5) {
			return &this
		}
		first = this.first
		if !lost {
			patience *= 4
		}
	}
}

func (c *client) riderOf(p person) *duo {
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
	if this.wait == waits[1] {
		wait = 1
	}
	desk := c.desks[ledger][wait]
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var err error
	this.begin = c.now()
	if this.first = first; first == 0 {
		this.first = this.begin
	}
	switch this.op {
	case opShow:
		this.got, err = desk.Show(ctx, this.id)
	case opBook:
		this.got, err = desk.Book(ctx, command, this.id, booking.Trip{})
	case opAccept:
		this.got, err = desk.Accept(ctx, command, this.id)
	case opArrive:
		this.got, err = desk.Arrive(ctx, command, this.id)
	case opStart:
		this.got, err = desk.StartWith(ctx, command, this.id, code)
	case opComplete:
		this.got, err = desk.Complete(ctx, command, this.id)
	case opCancel:
		this.got, err = desk.Cancel(ctx, command, this.id, this.reason)
	case opRelease:
		this.got, err = desk.Release(ctx, command, this.id, this.reason)
	case opExpire:
		this.got, err = desk.Expire(ctx, command, this.id)
	case opRate:
		this.got, err = desk.Rate(ctx, command, this.id, this.stars)
	}
	this.end = c.now()
	this.answer = answerOf(err)
	if this.answer == unknown {
		this.end = forever
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

// stepDown makes the ledger's leader step down every 400 ms until ctx ends, where there are others, and returns how often it did.
func stepDown(ctx context.Context, t *testing.T, e *bustest.Env, wg *sync.WaitGroup) *atomic.Int64 {
	downs := new(atomic.Int64)
	if e.Replicas == 1 {
		return downs
	}
	conn := e.Connect(t)
	wg.Go(func() {
		tick := time.NewTicker(400 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			ask, cancel := context.WithTimeout(ctx, 300*time.Millisecond) // where there is no leader, nobody answers
			m, err := conn.NATS().RequestWithContext(ask, fmt.Sprintf("$JS.API.STREAM.LEADER.STEPDOWN.%s", bus.LedgerStream), nil)
			cancel()
			if err == nil && string(m.Data) != "" && !containsError(m.Data) {
				downs.Add(1)
			}
		}
	})
	return downs
}
