package ridersvc

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/feed"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/internal/retry"
	"github.com/example/pillion/internal/tracing"
)

const (
	// who get one booking, the nearest first; bounds the messages of a busy city
	maxRiders    = 100
	maxOffers    = 50     // to one rider after a report, the nearest first
	maxAudiences = 20_000 // remembered; about 30 MB if all are full

	readyPoll = 100 * time.Millisecond
)

// offers sends riders over NATS the bookings near them, and says when they are no longer open. An
// instance serves the riders whose last report it has received. It remembers who got which booking,
// so a rider who reports to another instance gets the offers again.
type offers struct {
	Config

	// mu is held from a check that a booking is open until the offer is sent, so that no rider gets
	// an offer after its end. No search of the board or the map runs under it: every report of a
	// position makes one.
	mu        sync.Mutex
	audiences *simplelru.LRU[booking.ID, *audience]
}

// An audience is the riders who got a booking as an offer.
type audience struct {
	seq    uint64 // of the event that opened the booking
	body   []byte // the offer as JSON, without the rider's distance
	riders []booking.RiderID
}

func newOffers(c Config) (*offers, error) {
	audiences, err := simplelru.NewLRU[booking.ID, *audience](maxAudiences, nil)
	if err != nil {
		return nil, err
	}
	return &offers{Config: c, audiences: audiences}, nil
}

// reported sends a rider who has just reported the offers nearby that it has not got from this
// instance.
func (o *offers) reported(ctx context.Context, rider booking.RiderID) {
	if o.Tell == nil || o.Ready(ctx) != nil || !o.Fleet.Online(rider) || o.Board.Busy(rider) {
		return
	}
	at, known := o.Fleet.Where(rider)
	if !known {
		return
	}
	for _, b := range o.Board.Near(at.Place, o.Radius, o.Now(), maxOffers, board.NotReleasedBy(rider)) {
		o.offer(rider, &b)
	}
}

// offer sends a rider a booking that a search has found, unless it is no longer open, the rider has
// got it already, or enough others have.
func (o *offers) offer(rider booking.RiderID, b *board.Nearby) {
	o.mu.Lock()
	defer o.mu.Unlock()
	a, known := o.audiences.Get(b.ID)
	known = known && a.seq == b.OpenedSeq
	if known && (len(a.riders) >= maxRiders || slices.Contains(a.riders, rider)) {
		return
	}
	if now, _ := o.Board.Get(b.ID); now.State != booking.StateOpen || now.OpenedSeq != b.OpenedSeq {
		return // it has changed since the search
	}
	if !known {
		body, err := json.Marshal(offerMessage{1, b.OpenedSeq, offerOf(b.Booking)})
		if err != nil {
			o.Log.Warn("cannot encode an offer", "booking", b.ID, "error", err)
			return
		}
		a = &audience{seq: b.OpenedSeq, body: body}
		o.audiences.Add(b.ID, a)
	}
	distance := strconv.FormatInt(int64(math.Round(b.Metres)), 10)
	body := append(slices.Clone(a.body[:len(a.body)-1]), `,"pickup_distance_m":`+distance+"}"...)
	if o.send(feed.Offer{Rider: rider, Booking: b.ID, Seq: b.OpenedSeq, What: "open", At: b.OpenedAt, Body: body}) {
		a.riders = append(a.riders, rider)
	}
}

// offerMessage is an open booking as GET /open-bookings shows it. The distance is appended for each
// rider.
type offerMessage struct {
	V   int    `json:"v"`
	Seq uint64 `json:"seq"`
	offer
}

// goneMessage says that a booking is no longer open.
type goneMessage struct {
	V   int    `json:"v"`
	Seq uint64 `json:"seq"`
	gone
}

// send reports whether it has sent a notice. It does not repeat a failed one: a rider without a
// connection has missed more than that.
func (o *offers) send(n feed.Offer) bool {
	err := o.Tell(n)
	if err != nil {
		o.Log.Debug("cannot send an offer", "booking", n.Booking, "error", err)
	}
	return err == nil
}

// opened sends an open booking to the nearest riders who report to this instance. A booking without
// places is near nobody.
func (o *offers) opened(b booking.Booking) {
	if b.Pickup == nil {
		return
	}
	for _, r := range o.Fleet.NearestLocal(b.Pickup.Rough(), o.Radius, maxRiders) {
		if slices.Contains(b.ReleasedBy, r.Rider) {
			continue
		}
		o.offer(r.Rider, &board.Nearby{Booking: b, Metres: r.Metres})
	}
}

// closed tells the audience of a booking that it is no longer open.
func (o *offers) closed(id booking.ID, seq uint64, why string, at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	a, known := o.audiences.Peek(id)
	if !known {
		return
	}
	o.audiences.Remove(id)
	seq = max(seq, a.seq) // the board may have forgotten the booking
	body, err := json.Marshal(goneMessage{1, seq, gone{id, why, jsontime.Time(at)}})
	if err != nil {
		o.Log.Warn("cannot encode the end of an offer", "booking", id, "error", err)
		return
	}
	for _, r := range a.riders {
		o.send(feed.Offer{Rider: r, Booking: id, Seq: seq, What: "gone", At: at, Body: body})
	}
}

// run sends offers and their ends until ctx ends, and then returns nil. It waits for the board.
func (o *offers) run(ctx context.Context) error {
	for o.Tell != nil && ctx.Err() == nil {
		if o.Ready(ctx) != nil { // the board is replaying old events
			retry.Sleep(ctx, readyPoll)
			continue
		}
		if err := o.follow(ctx); err != nil {
			o.Log.Debug("reloading the open bookings", "error", err)
		}
	}
	<-ctx.Done()
	return nil
}

// follow sends the open bookings, and then each change, until ctx ends or the watch has fallen
// behind.
func (o *offers) follow(ctx context.Context) error {
	w := o.Board.WatchOpen()
	defer w.Stop()
	for more := true; more; {
		var page []booking.Booking
		page, more = w.Page(o.Now(), batch)
		for _, b := range page {
			o.opened(b)
		}
	}
	o.closeMissed()
	for {
		select {
		case <-w.Changed():
		case <-ctx.Done():
			return nil
		}
		for more := true; more; {
			var found []board.OpenChange
			var err error
			if found, more, err = w.Take(o.Now(), batch); err != nil {
				return err
			}
			for _, c := range found {
				o.changed(ctx, &c)
			}
		}
	}
}

// changed sends offers of a booking that has become open, or their end.
func (o *offers) changed(ctx context.Context, c *board.OpenChange) {
	if o.Tracer != nil {
		_, span := o.Tracer.Process(ctx, tracing.Message{
			Subject: bus.EventPattern(c.Kind), Booking: string(c.ID), Consumer: "offers",
		}, c.Trace)
		defer span.End(nil)
	}
	if c.Opened() {
		o.opened(c.Booking)
	} else {
		o.closed(c.ID, c.Seq, string(c.Kind), c.At)
	}
}

// closeMissed ends the offers of bookings that were closed while no watch was running.
func (o *offers) closeMissed() {
	o.mu.Lock()
	ids := o.audiences.Keys()
	o.mu.Unlock()
	for _, id := range ids {
		b, known := o.Board.Get(id)
		if known && b.State == booking.StateOpen {
			continue
		}
		why := booking.Accepted
		switch {
		case b.State == booking.StateCancelled:
			why = booking.Cancelled
		case !known || b.State == booking.StateExpired:
			why = booking.Expired
		}
		o.closed(id, b.Seq, string(why), o.Now())
	}
}
