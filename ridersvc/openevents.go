package ridersvc

import (
	"net/http"
	"slices"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/bookings"
)

// batch is how many bookings a stream reads and sends at a time.
const batch = 100

// gone says that a booking is no longer open.
type gone struct {
	Booking booking.ID    `json:"booking_id"`
	Why     string        `json:"why"` // accepted, cancelled or expired
	At      jsontime.Time `json:"at"`
}

// An openStream is one rider's stream of open bookings.
type openStream struct {
	*Service
	*web.Stream
	watch *board.OpenWatch
	rider booking.RiderID

	// The stream has reported the deadlines that passed after since and up to checked.
	since, checked time.Time
}

// watchOpen sends the caller the open bookings that it may accept, and then each change.
func (s *Service) watchOpen(streams *web.Streams) web.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		after, resume, err := web.LastEventID(r)
		if err != nil {
			return err
		}
		ctx := r.Context()
		if err := s.board.CatchUp(ctx); err != nil {
			return err
		}
		st, err := streams.Open(w, r)
		if err != nil {
			return err
		}
		defer st.Close()
		rider := caller(r)
		o := &openStream{Service: s, Stream: st, watch: s.board.WatchOpenFor(rider), rider: rider}
		defer o.watch.Stop()
		resumed := resume && s.board.Reach(ctx, after) == nil && o.watch.Resume(after)
		if err := st.Begin(); err == nil {
			_ = o.run(resume, resumed) // the error has ended the stream
		}
		return nil
	}
}

// run sends everything from the first event to the last. It returns an error in any case, and has
// handled it. resume says that the client asked to resume, and resumed that the stream does.
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
	if err := o.Send(web.Event{ID: o.watch.Seq(), Event: "ready", Data: struct{}{}}); err != nil {
		return err
	}
	deadlines := time.NewTicker(overdueEvery)
	defer deadlines.Stop()
	for {
		var err error
		select {
		case <-o.watch.Changed():
			err = o.changes()
		case <-deadlines.C:
			err = o.overdue()
		case <-o.Due():
			err = o.KeepAlive()
		case <-o.Over():
			return o.Leave()
		}
		if err != nil {
			return err
		}
	}
}

// snapshot sends all open bookings. The events have no ids: a client that loses its connection
// starts over.
func (o *openStream) snapshot() error {
	now := o.c.Now()
	o.since = now.Add(-1) // a booking with a deadline of exactly now is in the snapshot
	o.checked = o.since
	for more := true; more; {
		var page []booking.Booking
		page, more = o.watch.Page(now, batch)
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

// changes sends what has changed since the last call.
func (o *openStream) changes() error {
	for more := true; more; {
		var found []board.OpenChange
		var err error
		if found, more, err = o.watch.Take(o.c.Now(), batch); err != nil {
			return o.End(bookings.EndingOf(err))
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

// event returns the event for a change, if any. If overdue has reported a booking gone, its end is
// no news.
func (o *openStream) event(c *board.OpenChange) (web.Event, bool) {
	if c.Opened() {
		return web.Event{ID: c.Seq, Event: "open", Data: offerOf(c.Booking)}, true
	}
	if c.Deadline.After(o.since) && !c.Deadline.After(o.checked) {
		return web.Event{}, false
	}
	return web.Event{ID: c.Seq, Event: "gone", Data: gone{c.ID, string(c.Kind), jsontime.Time(c.At)}}, true
}

// overdue sends the bookings whose deadline has passed, whether or not an event has ended them.
func (o *openStream) overdue() error {
	found, until := o.Service.overdue.between(o.board.Board, o.checked, o.c.Now())
	if until.After(o.checked) {
		o.checked = until
	}
	events := make([]web.Event, 0, len(found))
	for _, b := range found {
		if slices.Contains(b.ReleasedBy, o.rider) {
			continue
		}
		expired := gone{b.ID, string(booking.Expired), jsontime.Time(b.Deadline)}
		events = append(events, web.Event{Event: "gone", Data: expired})
	}
	return o.Send(events...)
}
