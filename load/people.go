package load

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/example/pillion/booking"
)

// A user books rides.
type user struct{ *actor }

// A rider drives.
type rider struct {
	*actor
	home, at booking.Place
	reported time.Time // when it last said where it is
	unsure   bool      // whether it may have a booking, or have had one, without knowing that
}

// A bookingAnswer is what answers about a booking have in common.
type bookingAnswer struct {
	Booking   booking.ID    `json:"booking_id"`
	State     booking.State `json:"state"`
	StartCode string        `json:"start_code"`
}

// book asks for a ride that was due at a time. The booking's id follows from the key, so it is known even where no answer comes.
func (u *user) book(ctx context.Context, due time.Time) (booking.ID, bool) {
	key := booking.NewID()
	id := booking.ID(booking.DeriveID("booking", u.id, key))
	u.run.mu.Lock()
	u.run.rides[id] = u
	u.run.mu.Unlock()
	body := map[string]any{}
	if u.chance(u.run.Weights.Places) {
		from := u.somewhere()
		body["pickup"], body["dropoff"] = from, u.near(from, 5000)
	}
	r := u.do(ctx, step{
		op: Book, method: http.MethodPost, hosts: u.run.User, path: "/book", body: body, key: key, booking: id, due: due,
		kind: booking.Requested, into: new(bookingAnswer),
	})
	return id, r.done()
}

// maybeCancel calls some bookings off, a while after they were made.
func (u *user) maybeCancel(ctx, lasting context.Context, id booking.ID) {
	if !u.chance(u.run.Weights.Cancel) {
		return
	}
	due := u.soon()
	if pause(ctx, time.Until(due)) {
		u.act(lasting, Cancel, id, "cancel", map[string]any{"reason": "I walk."}, booking.Cancelled, due)
	}
}

// act does something with a booking.
func (a *actor) act(ctx context.Context, op Op, id booking.ID, verb string, body map[string]any, kind booking.Kind, due time.Time) result {
	hosts := a.run.User
	if a.role == booking.Rider {
		hosts = a.run.Rider
	}
	return a.do(ctx, step{
		op: op, method: http.MethodPost, hosts: hosts, path: "/bookings/" + string(id) + "/" + verb, body: body, key: booking.NewID(),
		booking: id, due: due, kind: kind, into: new(bookingAnswer),
	})
}

// code reads the start code that the user tells the rider, or "" where there is none.
func (u *user) code(ctx context.Context, id booking.ID) string {
	var b bookingAnswer
	u.do(ctx, step{op: Show, method: http.MethodGet, hosts: u.run.User, path: "/bookings/" + string(id), again: true, booking: id, due: time.Now(), into: &b})
	return b.StartCode
}

// work accepts bookings and rides them to their end until ctx ends. A ride that has begun then is still ridden.
func (d *rider) work(ctx, lasting context.Context) {
	d.home = d.somewhere()
	if !pause(ctx, time.Duration(d.float()*float64(d.run.Think))) { // not all at once
		return
	}
	d.say(lasting, Online, "/online")
	defer d.say(lasting, Offline, "/offline")
	for due := time.Now(); pause(ctx, time.Until(due)); due = d.soon() {
		d.report(lasting)
		if id, ok := d.accept(ctx, lasting, due); ok {
			d.ride(lasting, id, booking.StateAccepted)
		}
	}
}

func (d *rider) say(ctx context.Context, op Op, path string) {
	d.do(ctx, step{op: op, method: http.MethodPost, hosts: d.run.Rider, path: path, body: map[string]any{}, again: true, due: time.Now()})
}

// reportEvery is how often riders say where they are.
const reportEvery = 5 * time.Second

// report says where the rider is, if it has not been said for a while.
func (d *rider) report(ctx context.Context) {
	if time.Since(d.reported) < reportEvery {
		return
	}
	d.at, d.reported = d.near(d.home, 20), time.Now()
	d.do(ctx, step{op: Position, method: http.MethodPut, hosts: d.run.Rider, path: "/position", body: d.at, again: true, due: d.reported})
}

// accept returns a booking that the rider has now, and whether there is one.
func (d *rider) accept(ctx, lasting context.Context, due time.Time) (booking.ID, bool) {
	body := map[string]any{}
	var chosen booking.ID
	if d.chance(d.run.Weights.Named) {
		if chosen = d.pick(lasting); chosen == "" || ctx.Err() != nil {
			return "", false
		}
		body["booking_id"], due = chosen, time.Now()
	}
	var b bookingAnswer
	r := d.do(lasting, step{
		op: Accept, method: http.MethodPost, hosts: d.run.Rider, path: "/accept-booking", body: body, key: booking.NewID(), booking: chosen,
		due: due, kind: booking.Accepted, perhaps: chosen != "" && d.unsure, into: &b,
	})
	d.unsure = d.unsure || !r.done() && r.Outcome != Refused
	switch {
	case r.done():
		return b.Booking, true
	case r.Code == "rider_busy", r.Outcome != Refused: // an earlier step may have been done although no answer came
		d.resume(lasting)
	}
	return "", false
}

// pick returns one of the first bookings on the list, or "" where there are none: several riders look at the same ones.
func (d *rider) pick(ctx context.Context) booking.ID {
	var list struct {
		Bookings []bookingAnswer `json:"bookings"`
	}
	path := fmt.Sprintf("/open-bookings?lat=%f&lng=%f&limit=5", d.at.Lat, d.at.Lng)
	if d.chance(0.5) {
		path = "/open-bookings?limit=5" // those without places, too
	}
	d.do(ctx, step{op: Browse, method: http.MethodGet, hosts: d.run.Rider, path: path, again: true, due: time.Now(), into: &list})
	if len(list.Bookings) == 0 {
		return ""
	}
	return list.Bookings[int(d.float()*float64(len(list.Bookings)))].Booking
}

// resume goes on with a ride that the rider has lost sight of.
func (d *rider) resume(ctx context.Context) {
	var list struct {
		Bookings []bookingAnswer `json:"bookings"`
	}
	d.do(ctx, step{op: Resume, method: http.MethodGet, hosts: d.run.Rider, path: "/bookings?state=accepted,arrived,started&limit=1", again: true, due: time.Now(), into: &list})
	if len(list.Bookings) > 0 {
		d.ride(ctx, list.Bookings[0].Booking, list.Bookings[0].State)
	}
}

// ride takes a booking to its end, from the state that it is in: until it is completed, given back, or somebody else has ended it.
func (d *rider) ride(ctx context.Context, id booking.ID, state booking.State) {
	u := d.run.owner(id)
	if u == nil || state == booking.StateAccepted && d.chance(d.run.Weights.Release) { // nobody here can say the start code of a stranger's booking
		due := d.soon()
		if pause(ctx, time.Until(due)) {
			d.act(ctx, Release, id, "release", map[string]any{}, booking.Released, due)
		}
		return
	}
	next := func(op Op, verb string, body map[string]any, kind booking.Kind) bool {
		due := d.soon()
		if !pause(ctx, time.Until(due)) {
			return false
		}
		if op == Arrive {
			d.reported = time.Time{} // it must be seen at the pickup
		}
		d.report(ctx)
		if op == Start {
			body = map[string]any{"start_code": u.code(ctx, id)}
			due = time.Now()
			if body["start_code"] == "" {
				return false
			}
		}
		return d.act(ctx, op, id, verb, body, kind, due).done()
	}
	if state == booking.StateAccepted && !next(Arrive, "arrive", map[string]any{}, booking.Arrived) {
		return
	}
	if state != booking.StateStarted && !next(Start, "start", nil, booking.Started) {
		return
	}
	if !next(Complete, "complete", map[string]any{}, booking.Completed) {
		return
	}
	if d.chance(d.run.Weights.Rate) {
		d.act(ctx, RiderRate, id, "rate", map[string]any{"stars": d.stars()}, booking.Rated, time.Now())
	}
	if u.chance(u.run.Weights.Rate) {
		u.act(ctx, UserRate, id, "rate", map[string]any{"stars": u.stars()}, booking.Rated, time.Now())
	}
}

func (a *actor) stars() int { return 1 + int(a.float()*5) }

// The city is Bengaluru, as in the examples. People meet at one place in it, so that riders are at
// every pickup without riding there for minutes: it is less than 500 m from one corner to the
// other.
const (
	cityLat, cityLng = 12.9716, 77.5946
	cityMetres       = 150
	metresPerDegree  = 111_195
)

// somewhere returns a point of the city.
func (a *actor) somewhere() booking.Place {
	return a.near(booking.Place{Lat: cityLat, Lng: cityLng}, cityMetres)
}

// near returns a point within some metres of another, in a square.
func (a *actor) near(p booking.Place, metres float64) booking.Place {
	degrees := metres / metresPerDegree
	return booking.Place{
		Lat: p.Lat + (2*a.float()-1)*degrees,
		Lng: p.Lng + (2*a.float()-1)*degrees/math.Cos(p.Lat*math.Pi/180),
	}
}
