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

// An Event is what the feed says of an event.
type Event struct {
	Event   booking.EventID
	Booking booking.ID
	N       int // its position in the booking's history
	Kind    booking.Kind
	State   booking.State // of the booking, after it
	Role    booking.Role  // of the actor
	At      time.Time     // when it was stored, by the clock of NATS
}

// Watch calls told with what the feed publishes on a subject, such as [bus.FeedOfUser] or
// [bus.RidesOfRider], one event after the other and in order, until the connection is closed. It
// returns once the server knows of the subscription, or at once on a connection that is not made
// yet. Unreadable messages are logged and skipped. What happens while the connection is lost is
// lost too.
func Watch(ctx context.Context, c *bus.Conn, subject string, told func(Event)) error {
	sub, err := c.NATS().Subscribe(subject, func(m *nats.Msg) {
		var b feedBody
		if err := json.Unmarshal(m.Data, &b); err != nil || b.V != bus.SchemaVersion {
			c.Log().Warn("a message of the feed cannot be read", "subject", m.Subject, "version", b.V, "error", err)
			return
		}
		told(Event{Event: booking.EventID(m.Header.Get(bus.HeaderID)), Booking: b.Booking, N: b.N, Kind: b.Event,
			State: b.State, Role: b.Role, At: time.Time(b.At)})
	})
	if err == nil && c.NATS().IsConnected() {
		err = c.NATS().FlushWithContext(ctx)
	}
	if err != nil {
		if sub != nil {
			_ = sub.Unsubscribe() // fails without a connection
		}
		return bus.Unavailable("watch the feed", fmt.Errorf("subscribe to %s: %w", subject, err))
	}
	return nil
}
