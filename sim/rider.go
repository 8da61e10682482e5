package sim

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/retry"
)

// A rider drives.
type rider struct {
	*actor
	Profile
	life

	reported time.Time           // when it last reported its position
	unsure   bool                // it may have a ride that it does not know of
	declined map[booking.ID]bool // what it does not want to accept
}

func newRider(a *actor, p Profile) *rider {
	d := &rider{actor: a, Profile: p, declined: make(map[booking.ID]bool), life: newLife(p.Home)}
	a.rider = d
	return d
}

// work drives in one shift after the other until ctx ends. It still completes a ride that has begun
// by then.
func (d *rider) work(ctx, lasting context.Context) {
	// not all at once
	if !retry.Sleep(ctx, time.Duration(d.float()*float64(d.run.ours(d.run.Scene.Think)))) {
		return
	}
	midnight := d.run.began.Add(-d.run.ours(d.run.Scene.Begin))
	for {
		begin, end := d.Shift.next(d.run.theirs(time.Since(midnight)))
		if !retry.Sleep(ctx, time.Until(midnight.Add(d.run.ours(begin)))) {
			return
		}
		over := func() bool { return d.run.theirs(time.Since(midnight)) >= end }
		d.again(lasting, Online, http.MethodPost, "/online", map[string]any{}, nil)
		d.become(idle)
		d.serve(ctx, lasting, over)
		d.become(off)
		d.again(lasting, Offline, http.MethodPost, "/offline", map[string]any{}, nil)
		if ctx.Err() != nil {
			return
		}
	}
}

// serve accepts bookings and completes them until the shift is over.
func (d *rider) serve(ctx, lasting context.Context, over func() bool) {
	defer func() {
		if d.unsure {
			d.resume(lasting)
		}
	}()
	waits := time.Now()
	for due := waits; retry.Sleep(ctx, time.Until(due)) && !over(); due = d.soon() {
		d.report(lasting)
		id, ok := d.accept(ctx, lasting, due)
		switch {
		case ok:
			d.ride(lasting, id, booking.StateAccepted)
		case d.Patience > 0 && d.run.theirs(time.Since(waits)) > d.Patience:
			elsewhere := d.somewhere(func(r *rand.Rand) booking.Place { return corner(r, r.IntN(Zones)) })
			d.travel(ctx, lasting, elsewhere, nil)
		default:
			continue
		}
		d.become(idle)
		waits = time.Now()
	}
}

// again makes a call to ridersvc that may be made again without a key.
func (d *rider) again(ctx context.Context, op Op, method, path string, body, into any) {
	d.do(ctx, step{
		op: op, method: method, hosts: d.run.Rider, path: path, body: body, into: into,
		idempotent: true, due: time.Now(),
	})
}

// report sends the rider's position, if it has not done so for a while.
func (d *rider) report(ctx context.Context) {
	if time.Since(d.reported) < d.run.Scene.Report {
		return
	}
	if d.Speed == 0 {
		d.move(d.somewhere(func(r *rand.Rand) booking.Place { return near(r, d.Home, 20) }))
	}
	d.tell(ctx)
}

// tell sends the rider's position.
func (d *rider) tell(ctx context.Context) {
	d.reported = time.Now()
	d.again(ctx, Position, http.MethodPut, "/position", d.place(), nil)
}

// accept accepts a booking. It returns the booking, and whether there is one.
func (d *rider) accept(ctx, lasting context.Context, due time.Time) (booking.ID, bool) {
	body := map[string]any{}
	var chosen booking.ID
	if d.chance(d.Named) {
		if chosen = d.pick(lasting); chosen == "" || ctx.Err() != nil {
			return "", false
		}
		body["booking_id"], due = chosen, time.Now()
	}
	var b bookingAnswer
	r := d.do(lasting, step{
		op: Accept, method: http.MethodPost, hosts: d.run.Rider, path: "/accept-booking", body: body,
		key: booking.NewID(), booking: chosen, due: due,
		kind: booking.Accepted, mayRepeat: chosen != "" && d.unsure, into: &b,
	})
	switch {
	case d.done(r):
		return b.Booking, true
	// an earlier acceptance may have succeeded without an answer
	case r.Code == "rider_busy", r.Outcome != Refused:
		d.resume(lasting)
	}
	return "", false
}

// pick returns an open booking that the rider wants, or "" if there is none. Several riders see the
// same ones.
func (d *rider) pick(ctx context.Context) booking.ID {
	var list bookingList
	at := d.place()
	path := fmt.Sprintf("/open-bookings?lat=%f&lng=%f&limit=5", at.Lat, at.Lng)
	if d.chance(d.Blind) {
		path = "/open-bookings?limit=5" // also those without places
	}
	d.again(ctx, Browse, http.MethodGet, path, nil, &list)
	for _, b := range list.Bookings {
		if d.declined[b.Booking] {
			continue
		}
		if d.chance(d.Eager * math.Exp(-b.Metres/d.Range)) {
			return b.Booking
		}
		if d.Speed > 0 { // a crowd thinks again
			d.declined[b.Booking] = true
		}
	}
	if len(list.Bookings) == 0 {
		clear(d.declined)
	}
	return ""
}

// resume continues a ride that the rider does not know of, because an answer was lost.
func (d *rider) resume(ctx context.Context) {
	var list bookingList
	d.again(ctx, Resume, http.MethodGet, "/bookings?state=accepted,arrived,started&limit=1", nil, &list)
	if len(list.Bookings) > 0 {
		d.ride(ctx, list.Bookings[0].Booking, list.Bookings[0].State)
	}
}

// ride continues a booking from the given state until it is completed or released, or has been
// ended by others.
func (d *rider) ride(ctx context.Context, id booking.ID, state booking.State) {
	x := d.run.ride(id)
	if x == nil && state == booking.StateStarted { // of an earlier run
		d.act(ctx, Complete, id, "complete", map[string]any{}, booking.Completed, time.Now())
		return
	}
	// Without its user, nobody in this run can read the start code.
	if x == nil || state == booking.StateAccepted && d.chance(d.Drops) {
		due := d.soon()
		if retry.Sleep(ctx, time.Until(due)) {
			d.act(ctx, Release, id, "release", map[string]any{}, booking.Released, due)
		}
		return
	}
	if state == booking.StateAccepted {
		d.become(coming)
		if !d.travel(ctx, ctx, at(x.trip.From), x) ||
			!d.next(ctx, x, Arrive, "arrive", map[string]any{}, booking.Arrived) {
			return
		}
	}
	if state != booking.StateStarted && !d.start(ctx, x) {
		return
	}
	d.become(carrying)
	if !d.travel(ctx, ctx, at(x.trip.To), nil) ||
		!d.next(ctx, x, Complete, "complete", map[string]any{}, booking.Completed) {
		return
	}
	d.earn(x.price())
	if d.chance(d.run.Scene.stars) {
		d.act(ctx, RiderRate, id, "rate", map[string]any{"stars": d.stars()}, booking.RiderRated, time.Now())
	}
	if x.user.chance(d.run.Scene.stars) {
		x.user.act(ctx, UserRate, id, "rate", map[string]any{"stars": d.stars()}, booking.Rated, time.Now())
	}
}

// start starts the ride with the code that the user reads out.
func (d *rider) start(ctx context.Context, x *ride) bool {
	if !retry.Sleep(ctx, time.Until(d.soon())) {
		return false
	}
	d.report(ctx)
	code := x.user.code(ctx, x.id)
	return code != "" && d.done(d.act(ctx, Start, x.id, "start", map[string]any{"start_code": code}, booking.Started,
		time.Now()))
}

// done reports whether a step has succeeded. If nobody knows, the rider has to look later.
func (d *rider) done(r result) bool {
	d.unsure = d.unsure || !r.done() && r.Outcome != Refused
	return r.done()
}

// next takes one step of a ride, after a pause.
func (d *rider) next(ctx context.Context, x *ride, op Op, verb string, body map[string]any, kind booking.Kind) bool {
	due := d.soon()
	if !retry.Sleep(ctx, time.Until(due)) {
		return false
	}
	if op == Arrive {
		d.reported = time.Time{} // its position at the pickup must be known
	}
	d.report(ctx)
	return d.done(d.act(ctx, op, x.id, verb, body, kind, due))
}

// at returns a place of a trip, or the zero Place, which is nowhere.
func at(p *booking.Place) booking.Place {
	if p == nil {
		return booking.Place{}
	}
	return *p
}

const (
	// stride is how far apart two reports of a moving rider are at most, in metres. The services
	// believe a rider that leaps 100 m, however fast that is.
	stride = 80
	// strides is the least time between two reports of a moving rider, by our clock.
	strides = 250 * time.Millisecond
)

// travel rides along the streets and reports the positions on the way. It reports whether the rider
// has arrived: ctx may end before, and the user of x, if there is one, may cancel.
func (d *rider) travel(ctx, lasting context.Context, to booking.Place, x *ride) bool {
	if d.Speed == 0 || to == (booking.Place{}) {
		return ctx.Err() == nil
	}
	metres := min(stride, max(d.Speed*5, d.Speed*d.run.theirs(strides).Seconds()))
	for _, corner := range street(d.place(), to) {
		for {
			from := d.place()
			left := from.Distance(corner)
			if left < 1 {
				break
			}
			leg := min(left, metres)
			if !retry.Sleep(ctx, d.run.ours(time.Duration(leg/d.Speed*float64(time.Second)))) {
				return false
			}
			if x != nil {
				if state, _, _ := x.now(); state == booking.StateCancelled {
					return false
				}
			}
			d.move(booking.Place{
				Lat: from.Lat + (corner.Lat-from.Lat)*leg/left, Lng: from.Lng + (corner.Lng-from.Lng)*leg/left,
			})
			d.tell(lasting)
		}
	}
	return true
}
