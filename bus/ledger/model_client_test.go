package ledger_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus/ledger/ledgertest"
)

// A client is one member, who does one thing after the other.
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

// oneIn is true once in n times.
func (c *client) oneIn(n int) bool { return c.IntN(n) == 0 }

// offered returns one of the newest offers, preferably one where someone waits, or nil.
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

// serviceDoes one thing: what is due, or what an operator might want.
func (c *client) serviceDoes(ctx context.Context, p ledgertest.Person) {
	o := c.offered(12)
	if o == nil {
		c.pause(ctx)
		return
	}
	switch n := c.IntN(100); {
	case n < 45:
		for range 20 { // look for one that is due, more often than not
			if due := c.offered(60); due != nil && due.wait == 1 &&
				time.Since(c.start) > time.Duration(due.opened)+waits[1] {
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
			c.rides(ctx, d, o, call{Op: []op{opArrive, opStart, opComplete, opRelease, opRate, opShow}[c.IntN(6)],
				Stars: 3})
		case c.oneIn(3): // several at once, for there is no rule that forbids to try
			var wg sync.WaitGroup
			for range 3 {
				o, hand := c.offered(6), &client{c.crowd, rand.New(rand.NewPCG(c.Uint64(), 0)), c.n,
					make(map[booking.ID]booking.Command), true}
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

// rides does something as a rider, and notes what that tells about the ride.
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
	case d.ride == o && got.Answer != unknown && got.Answer != contended && got.Answer != "wrong_start_code" &&
		got.Answer != "rider_busy":
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

// pause waits a moment while there is nothing to do.
func (c *client) pause(ctx context.Context) { c.moment(ctx, 10*time.Millisecond) }

// moment waits for up to most.
func (c *client) moment(ctx context.Context, most time.Duration) {
	select {
	case <-time.After(time.Duration(c.Int64N(int64(most)))):
	case <-ctx.Done():
	}
}

// do sends a command as people and networks do: some give up waiting, some retry, even after an
// answer that got lost, some send it twice at once, and some reuse an ID. It returns the last call.
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
