package ridersvc

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/internal/jsontime"
)

const (
	// mostTold is how many riders are told of one booking, the nearest first: what bounds the messages of a busy city.
	mostTold = 100
	// mostOffers is how many bookings a rider is told of at a report, the nearest first.
	mostOffers = 50
	// mostAudiences is how many bookings it is remembered of whom was told: with all of them full about 30 MB.
	mostAudiences = 20_000

	readyPace = 100 * time.Millisecond
)

// offers tells riders over NATS what is open near them, and when it is not open any more: those whose last report came to this instance, so that each has
// one instance that tells them. What was told is remembered here by booking. A rider who reports to another instance is told once more by that one.
type offers struct {
	tell   func(bus.OfferNotice) error // nil: nobody is told
	board  *board.Board
	fleet  *fleet.Map
	ready  func(context.Context) error
	radius float64
	now    func() time.Time
	log    *slog.Logger

	// mu is held from a look at the board until what was seen is said, so that nobody is told that something is open after they were told that
	// it is gone.
	mu   sync.Mutex
	told *simplelru.LRU[booking.ID, *audience]
}

// An audience are the riders who were told of a booking.
type audience struct {
	seq    uint64 // of the event by which it has become open
	body   []byte // what all of them are told, as JSON; each is told besides how far it is
	riders []booking.RiderID
}

func newOffers(c Config) (*offers, error) {
	told, err := simplelru.NewLRU[booking.ID, *audience](mostAudiences, nil)
	if err != nil {
		return nil, err
	}
	return &offers{tell: c.Tell, board: c.Board, fleet: c.Fleet, ready: c.Ready, radius: c.Radius, now: c.Now, log: c.Log, told: told}, nil
}

// look tells a rider who has just reported what is near and was not told yet: it has moved, come online, or come to this instance.
func (o *offers) look(ctx context.Context, rider booking.RiderID) {
	if o.tell == nil || o.ready(ctx) != nil || !o.fleet.Online(rider) || o.board.Busy(rider) {
		return
	}
	at, known := o.fleet.Where(rider)
	if !known {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, b := range o.board.Near(at.Place, o.radius, o.now(), mostOffers, board.NotReleasedBy(rider)) {
		o.offer(rider, &b)
	}
}

// offer tells a rider of a booking unless it was told already, or enough others were. It is called with the mutex held.
func (o *offers) offer(rider booking.RiderID, b *board.Nearby) {
	a, known := o.told.Get(b.ID)
	if !known || a.seq != b.OpenedSeq {
		body, err := json.Marshal(nearOffer{1, b.OpenedSeq, offerOf(b.Booking)})
		if err != nil {
			o.log.Warn("an offer cannot be told", "booking", b.ID, "error", err)
			return
		}
		a = &audience{seq: b.OpenedSeq, body: body}
		o.told.Add(b.ID, a)
	}
	if len(a.riders) >= mostTold || slices.Contains(a.riders, rider) {
		return
	}
	body := append(slices.Clone(a.body[:len(a.body)-1]), `,"pickup_distance_m":`+strconv.FormatInt(int64(math.Round(b.Metres)), 10)+"}"...)
	if o.say(bus.OfferNotice{Rider: rider, Booking: b.ID, Seq: b.OpenedSeq, What: "open", At: b.OpenedAt, Body: body}) {
		a.riders = append(a.riders, rider)
	}
}

// nearOffer is what riders are told of an open booking, besides how far it is: what GET /open-bookings shows of it.
type nearOffer struct {
	V   int    `json:"v"`
	Seq uint64 `json:"seq"`
	offer
}

// goneOffer is what a rider is told of one that is not open any more.
type goneOffer struct {
	V   int    `json:"v"`
	Seq uint64 `json:"seq"`
	gone
}

// say reports whether it could be said. What could not is not said again: who has no connection has missed more than that.
func (o *offers) say(n bus.OfferNotice) bool {
	err := o.tell(n)
	if err != nil {
		o.log.Debug("a rider is not told of an offer", "booking", n.Booking, "error", err)
	}
	return err == nil
}

// opened tells the nearest riders who report here of a booking that has become open. One without places is near nobody.
func (o *offers) opened(b booking.Booking) {
	if b.Pickup == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.fleet.NearestLocal(*b.Pickup, o.radius, mostTold) {
		if slices.Contains(b.ReleasedBy, r.Rider) {
			continue
		}
		o.offer(r.Rider, &board.Nearby{Booking: b, Metres: r.Metres})
	}
}

// closed tells whoever was told of a booking that it is not open any more.
func (o *offers) closed(id booking.ID, seq uint64, why string, at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	a, known := o.told.Peek(id)
	if !known {
		return
	}
	o.told.Remove(id)
	seq = max(seq, a.seq) // the board may not know the booking any more
	body, err := json.Marshal(goneOffer{1, seq, gone{id, why, jsontime.Time(at)}})
	if err != nil {
		o.log.Warn("the end of an offer cannot be told", "booking", id, "error", err)
		return
	}
	for _, r := range a.riders {
		o.say(bus.OfferNotice{Rider: r, Booking: id, Seq: seq, What: "gone", At: at, Body: body})
	}
}

// run tells riders what becomes open and what ceases to be until ctx ends, and then returns nil. It waits for the board.
func (o *offers) run(ctx context.Context) error {
	for o.tell != nil && ctx.Err() == nil {
		if o.ready(ctx) != nil { // what is read anew is no news
			select {
			case <-time.After(readyPace):
			case <-ctx.Done():
			}
			continue
		}
		if err := o.follow(ctx); err != nil {
			o.log.Debug("open bookings are looked at anew", "because", err)
		}
	}
	<-ctx.Done()
	return nil
}

// follow tells what is open and was not told, and then what changes, until ctx ends or more has changed than can be told.
func (o *offers) follow(ctx context.Context) error {
	w := o.board.WatchOpen()
	defer w.Stop()
	for more := true; more; {
		var page []booking.Booking
		page, more = w.Page(o.now(), atOnce)
		for _, b := range page {
			o.opened(b)
		}
	}
	o.settle()
	for {
		select {
		case <-w.Changed():
		case <-ctx.Done():
			return nil
		}
		for more := true; more; {
			var found []board.OpenChange
			var err error
			if found, more, err = w.Take(o.now(), atOnce); err != nil {
				return err
			}
			for _, c := range found {
				if c.Opened() {
					o.opened(c.Booking)
				} else {
					o.closed(c.ID, c.Seq, string(c.Kind), c.At)
				}
			}
		}
	}
}

// settle tells of what was told to be open and is not, after changes were missed.
func (o *offers) settle() {
	o.mu.Lock()
	ids := o.told.Keys()
	o.mu.Unlock()
	for _, id := range ids {
		b, known := o.board.Get(id)
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
		o.closed(id, b.Seq, string(why), o.now())
	}
}
