package sim

import (
	"context"
	"net/http"
	"time"

	"github.com/example/pillion/booking"
)

// A user books rides.
type user struct{ *actor }

// A bookingAnswer has the common members of answers about a booking.
type bookingAnswer struct {
	Booking   booking.ID    `json:"booking_id"`
	State     booking.State `json:"state"`
	StartCode string        `json:"start_code"`
	Fare      int64         `json:"fare"`              // in minor units
	Metres    float64       `json:"pickup_distance_m"` // of an offer
}

type bookingList struct {
	Bookings []bookingAnswer `json:"bookings"`
}

// book requests a ride that was due at the given time. The ID of the booking is derived from the
// key, so it is known even without an answer.
func (u *user) book(ctx context.Context, t Trip, due time.Time) (*ride, bool) {
	key := booking.NewID()
	x := &ride{
		id: booking.ID(booking.DeriveID("booking", u.id, key)), user: u, trip: t, changed: make(chan struct{}),
	}
	u.run.mu.Lock()
	u.run.rides[x.id] = x
	u.run.mu.Unlock()
	body := map[string]any{}
	if t.From != nil {
		body["pickup"], body["dropoff"] = t.From, t.To
	}
	r := u.do(ctx, step{
		op: Book, method: http.MethodPost, hosts: u.run.User, path: "/book", body: body, key: key, booking: x.id,
		due: due, kind: booking.Requested, into: new(bookingAnswer),
	})
	return x, r.done()
}

// wait waits for the ride to begin, and cancels it if that takes too long.
func (u *user) wait(ctx, lasting context.Context, x *ride) {
	_, begun, _ := x.now()
	for {
		state, since, changed := x.now()
		patience := x.trip.Patience
		switch state {
		case booking.StateOpen:
		case booking.StateAccepted:
			patience = x.trip.Wait
		default:
			return
		}
		until, ends := time.Time{}, false
		if patience > 0 {
			until, ends = since.Add(u.run.ours(patience)), true
		}
		if regret := begun.Add(u.run.ours(x.trip.Regret)); x.trip.Regret > 0 && (!ends || regret.Before(until)) {
			until, ends = regret, true
		}
		if !ends {
			return
		}
		timer := time.NewTimer(time.Until(until))
		select {
		case <-timer.C:
			u.cancel(lasting, x, until)
			return
		case <-changed:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// cancel cancels a booking. What has expired meanwhile is over as well.
func (u *user) cancel(ctx context.Context, x *ride, due time.Time) {
	r := u.act(ctx, Cancel, x.id, "cancel", map[string]any{"reason": "I walk."}, booking.Cancelled, due)
	if r.Code == "booking_expired" {
		x.expire()
		u.run.forget(x)
	}
}

// forget removes a ride that is over, if the run keeps no records.
func (r *run) forget(x *ride) {
	if !r.Forget {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.rides, x.id)
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
