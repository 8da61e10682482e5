package feed

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
)

// A Told is what a watcher of the feed is told of an event.
type Event struct {
	Event   booking.EventID
	Booking booking.ID
	N       int // its position in the booking's history
	Kind    booking.Kind
	State   booking.State // of the booking, by then
	Role    booking.Role  // of whoever has caused it
	At      time.Time     // when it was stored, by the clock of NATS
}

// WatchFeed calls told for what comes on a subject of the feed, [FeedOfUser] or [RidesOfRider], one after the other and in the order in which it comes, until
// the connection is closed. It returns when the server knows of it; on a connection that is not made yet, at once. What cannot be read is logged and
// left out. What happens while the connection is lost is not told later.
func Watch(ctx context.Context, c *bus.Conn, subject string, told func(Event)) error {
	sub, err := c.NATS().Subscribe(subject, func(m *nats.Msg) {
		var b feedBody
		if err := json.Unmarshal(m.Data, &b); err != nil || b.V != bus.SchemaVersion {
			c.Log().Warn("what the feed says cannot be read", "subject", m.Subject, "version", b.V, "error", err)
			return
		}
		told(Event{Event: booking.EventID(m.Header.Get(bus.HeaderID)), Booking: b.Booking, N: b.N, Kind: b.Event, State: b.State, Role: b.Role, At: time.Time(b.At)})
	})
	if err == nil && c.NATS().IsConnected() {
		err = c.NATS().FlushWithContext(ctx)
	}
	if err != nil {
		if sub != nil {
			_ = sub.Unsubscribe() // it fails where the connection is gone
		}
		return bus.Unavailable("watch the feed", fmt.Errorf("subscribe to %s: %w", subject, err))
	}
	return nil
}
