package ridersvc

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/web"
	bookingweb "github.com/example/pillion/web/bookings"
)

// atOnce is how many open bookings a stream reads and writes at once.
const atOnce = 100

// gone is that a booking is not open any more.
type gone struct {
	Booking booking.ID    `json:"booking_id"`
	Why     string        `json:"why"` // accepted, cancelled or expired
	At      jsontime.Time `json:"at"`
}

// An openStream is one rider's stream of what is open.
type openStream struct {
	*Service
	*web.Stream
	board *board.OpenWatch
	rider booking.RiderID

	// The stream has told which deadlines passed after since and not after checked.
	since, checked time.Time
}

// watchOpen tells the caller what it may accept and then what changes.
func (s *Service) watchOpen(streams *web.Streams) web.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		after, resume, err := web.LastEventID(r)
		if err != nil {
			return err
		}
		ctx := r.Context()
		if err := s.catchUp(ctx); err != nil {
			return err
		}
		st, err := streams.Open(w, r)
		if err != nil {
			return err
		}
		defer st.Close()
		claims, _ := web.Caller(ctx)
		rider := booking.RiderID(claims.Subject)
		o := &openStream{Service: s, Stream: st, board: s.board.WatchOpenFor(rider), rider: rider}
		defer o.board.Stop()
		resumed := resume && s.resume(ctx, o.board, after)
		if err := st.Begin(); err == nil {
			_ = o.run(resume, resumed) // it has ended the stream
		}
		return nil
	}
}

// resume makes w go on where the caller stopped, if that can be done. That may be at another instance, whose board was ahead of this one.
func (s *Service) resume(ctx context.Context, w *board.OpenWatch, seq uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, boardPatience)
	defer cancel()
	return s.board.Await(ctx, seq) == nil && w.Resume(seq)
}

// run is a stream from its first event to its last. It always returns an error, which has been dealt with.
func (o *openStream) run(resume, resumed bool) error {
	if !resumed {
		if resume {
			if err := o.Send(web.Event{Event: "reset", Data: struct{}{}}); err != nil {
				return err
			}
		}
		if err := o.snapshot(); err != nil {
			return err
		}
	}
	if err := o.changes(); err != nil {
		return err
	}
	if err := o.Send(web.Event{ID: o.board.Seq(), Event: "ready", Data: struct{}{}}); err != nil {
		return err
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		var err error
		select {
		case <-o.board.Changed():
			err = o.changes()
		case <-look.C:
			err = o.lapsed()
		case <-o.Due():
			err = o.Tend()
		case <-o.Over():
			return o.Leave()
		}
		if err != nil {
			return err
		}
	}
}

// snapshot tells what is open. The events have no ids: a client that is cut off among them begins anew.
func (o *openStream) snapshot() error {
	now := o.now()
	o.since = now.Add(-1) // a deadline that passes at this very moment is one that was shown
	o.checked = o.since
	for more := true; more; {
		var page []booking.Booking
		page, more = o.board.Page(now, atOnce)
		events := make([]web.Event, 0, len(page))
		for _, b := range page {
			events = append(events, web.Event{Event: "open", Data: offerOf(b)})
		}
		if err := o.Send(events...); err != nil {
			return err
		}
		select {
		case <-o.Over():
			return o.Leave()
		default:
		}
	}
	return nil
}

// changes tells what has changed since.
func (o *openStream) changes() error {
	for more := true; more; {
		var found []board.OpenChange
		var err error
		if found, more, err = o.board.Take(o.now(), atOnce); err != nil {
			return o.End(bookingweb.EndingOf(err))
		}
		events := make([]web.Event, 0, len(found))
		for _, c := range found {
			if e, ok := o.event(&c); ok {
				events = append(events, e)
			}
		}
		if err := o.Send(events...); err != nil {
			return err
		}
	}
	return nil
}

// event returns what to tell of a change: nothing of the end of a booking that was told to be gone when its deadline passed.
func (o *openStream) event(c *board.OpenChange) (web.Event, bool) {
	if c.Opened() {
		return web.Event{ID: c.Seq, Event: "open", Data: offerOf(c.Booking)}, true
	}
	if c.Deadline.After(o.since) && !c.Deadline.After(o.checked) {
		return web.Event{}, false
	}
	return web.Event{ID: c.Seq, Event: "gone", Data: gone{c.ID, string(c.Kind), jsontime.Time(c.At)}}, true
}

// lapsed tells which bookings are not open any more because their deadline has passed: no event may say so yet.
func (o *openStream) lapsed() error {
	found, until := o.lapses.between(o.Service.board, o.checked, o.now())
	if until.After(o.checked) {
		o.checked = until
	}
	events := make([]web.Event, 0, len(found))
	for _, b := range found {
		if slices.Contains(b.ReleasedBy, o.rider) {
			continue
		}
		events = append(events, web.Event{Event: "gone", Data: gone{b.ID, string(booking.Expired), jsontime.Time(b.Deadline)}})
	}
	return o.Send(events...)
}
