package load

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/retry"
)

// A user books rides.
type user struct{ *actor }

// A rider drives.
type rider struct {
	*actor
	home, at booking.Place
	reported time.Time // when it last reported its position
	unsure   bool      // an acceptance without an answer may have succeeded
}

// A bookingAnswer has the common members of answers about a booking.
type bookingAnswer struct {
	Booking   booking.ID    `json:"booking_id"`
	State     booking.State `json:"state"`
	StartCode string        `json:"start_code"`
}

type bookingList struct {
	Bookings []bookingAnswer `json:"bookings"`
}

// book requests a ride that was due at the given time. The ID of the booking is derived from the
// key, so it is known even without an answer.
func (u *user) book(ctx context.Context, due time.Time) (booking.ID, bool) {
	key := booking.NewID()
	id := booking.ID(booking.DeriveID("booking", u.id, key))
	u.run.mu.Lock()
	u.run.owners[id] = u
	u.run.mu.Unlock()
	body := map[string]any{}
	if u.chance(u.run.Weights.Places) {
		from := u.somewhere()
		body["pickup"], body["dropoff"] = from, u.near(from, 5000)
	}
	r := u.do(ctx, step{
		op: Book, method: http.MethodPost, hosts: u.run.User, path: "/book", body: body, key: key, booking: id,
		due: due, kind: booking.Requested, into: new(bookingAnswer),
	})
	return id, r.done()
}

// maybeCancel cancels some bookings, a while after they were requested.
func (u *user) maybeCancel(ctx, lasting context.Context, id booking.ID) {
	if !u.chance(u.run.Weights.Cancel) {
		return
	}
	due := u.soon()
	if retry.Sleep(ctx, time.Until(due)) {
		u.act(lasting, Cancel, id, "cancel", map[string]any{"reason": "I walk."}, booking.Cancelled, due)
	}
}

// act carries out an operation on a booking.
func (a *actor) act(
	ctx context.Context, op Op, id booking.ID, verb string, body map[string]any, kind booking.Kind, due time.Time,
) result {
	hosts := a.run.User
	if a.role == booking.Rider {
		hosts = a.run.Rider
	}
	return a.do(ctx, step{
		op: op, method: http.MethodPost, hosts: hosts, path: "/bookings/" + string(id) + "/" + verb, body: body,
		key: booking.NewID(), booking: id, due: due, kind: kind, into: new(bookingAnswer),
	})
}

// code returns the start code of a booking, or "" if there is none.
func (u *user) code(ctx context.Context, id booking.ID) string {
	var b bookingAnswer
	u.do(ctx, step{
		op: Show, method: http.MethodGet, hosts: u.run.User, path: "/bookings/" + string(id), idempotent: true,
		booking: id, due: time.Now(), into: &b,
	})
	return b.StartCode
}

// work accepts bookings and completes them until ctx ends. It still completes a ride that has begun
// by then.
func (d *rider) work(ctx, lasting context.Context) {
	d.home = d.somewhere()
	if !retry.Sleep(ctx, time.Duration(d.float()*float64(d.run.Think))) { // not all at once
		return
	}
	d.again(lasting, Online, http.MethodPost, "/online", map[string]any{}, nil)
	defer d.again(lasting, Offline, http.MethodPost, "/offline", map[string]any{}, nil)
	for due := time.Now(); retry.Sleep(ctx, time.Until(due)); due = d.soon() {
		d.report(lasting)
		if id, ok := d.accept(ctx, lasting, due); ok {
			d.ride(lasting, id, booking.StateAccepted)
		}
	}
}

// again makes a call to ridersvc that may be made again without a key.
func (d *rider) again(ctx context.Context, op Op, method, path string, body, into any) {
	d.do(ctx, step{
		op: op, method: method, hosts: d.run.Rider, path: path, body: body, into: into,
		idempotent: true, due: time.Now(),
	})
}

// reportEvery is the interval of position reports.
const reportEvery = 5 * time.Second

// report sends the rider's position, if reportEvery has passed since the last report.
func (d *rider) report(ctx context.Context) {
	if time.Since(d.reported) < reportEvery {
		return
	}
	d.at, d.reported = d.near(d.home, 20), time.Now()
	d.again(ctx, Position, http.MethodPut, "/position", d.at, nil)
}

// accept accepts a booking. It returns the booking, and whether there is one.
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
		op: Accept, method: http.MethodPost, hosts: d.run.Rider, path: "/accept-booking", body: body,
		key: booking.NewID(), booking: chosen, due: due,
		kind: booking.Accepted, mayRepeat: chosen != "" && d.unsure, into: &b,
	})
	d.unsure = d.unsure || !r.done() && r.Outcome != Refused
	switch {
	case r.done():
		return b.Booking, true
	// an earlier acceptance may have succeeded without an answer
	case r.Code == "rider_busy", r.Outcome != Refused:
		d.resume(lasting)
	}
	return "", false
}

// pick returns one of the first open bookings, or "" if there are none. Several riders see the same
// ones.
func (d *rider) pick(ctx context.Context) booking.ID {
	var list bookingList
	path := fmt.Sprintf("/open-bookings?lat=%f&lng=%f&limit=5", d.at.Lat, d.at.Lng)
	if d.chance(0.5) {
		path = "/open-bookings?limit=5" // also those without places
	}
	d.again(ctx, Browse, http.MethodGet, path, nil, &list)
	if len(list.Bookings) == 0 {
		return ""
	}
	return list.Bookings[int(d.float()*float64(len(list.Bookings)))].Booking
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
	u := d.run.owner(id)
	// Without its user, nobody in this run can read the start code.
	if u == nil || state == booking.StateAccepted && d.chance(d.run.Weights.Release) {
		due := d.soon()
		if retry.Sleep(ctx, time.Until(due)) {
			d.act(ctx, Release, id, "release", map[string]any{}, booking.Released, due)
		}
		return
	}
	next := func(op Op, verb string, body map[string]any, kind booking.Kind) bool {
		due := d.soon()
		if !retry.Sleep(ctx, time.Until(due)) {
			return false
		}
		if op == Arrive {
			d.reported = time.Time{} // its position at the pickup must be known
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
		d.act(ctx, RiderRate, id, "rate", map[string]any{"stars": d.stars()}, booking.RiderRated, time.Now())
	}
	if u.chance(u.run.Weights.Rate) {
		u.act(ctx, UserRate, id, "rate", map[string]any{"stars": u.stars()}, booking.Rated, time.Now())
	}
}

func (a *actor) stars() int { return 1 + int(a.float()*5) }

// The city is Bengaluru, as in the examples. All pickups are in an area of less than 500 m across,
// so that riders are at each pickup without riding for minutes.
const (
	cityLat, cityLng = 12.9716, 77.5946
	cityMetres       = 150
	metresPerDegree  = 111_195
)

// somewhere returns a random point of the city.
func (a *actor) somewhere() booking.Place {
	return a.near(booking.Place{Lat: cityLat, Lng: cityLng}, cityMetres)
}

// near returns a random point in a square around p, at most so many metres away in each direction.
func (a *actor) near(p booking.Place, metres float64) booking.Place {
	degrees := metres / metresPerDegree
	return booking.Place{
		Lat: p.Lat + (2*a.float()-1)*degrees,
		Lng: p.Lng + (2*a.float()-1)*degrees/math.Cos(p.Lat*math.Pi/180),
	}
}
