// Package feed tells watchers what happens to bookings, on core NATS and without tokens.
//
// [Run] publishes every verified event, from one instance at a time; [SendOffer] tells a rider of
// an open booking; [Watch] is the receiving side. The feed is not stored: a watcher that is away
// misses what happens meanwhile, and must read the bookings again.
package feed

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/internal/jsontime"
)

// feedBody is the JSON that watchers get of an event. It does not say who caused it, where they
// are, or why.
type feedBody struct {
	V       int           `json:"v"`
	Booking booking.ID    `json:"booking_id"`
	N       int           `json:"n"`
	Event   booking.Kind  `json:"event"`
	State   booking.State `json:"state"` // of the booking, after it
	Role    booking.Role  `json:"role"`  // of the actor
	At      jsontime.Time `json:"at"`    // when it was stored
}

// Run publishes events to watchers until ctx ends, and then returns nil: each event that the
// follower has verified, in the ledger's order, as feed.booking.<booking>.<n>.<event>. The
// booking's user and rider get copies on feed.user.<user>.> and feed.rider.<rider>.>, the rider
// also of the event that ends the rider's part. The caller runs the follower.
//
// One instance publishes. If it dies, another one takes over within seconds, and repeats the last
// messages.
func Run(ctx context.Context, l *ledger.Ledger, f *ledger.Follower) error {
	newPublisher(l, f).run(ctx)
	return nil
}

// feedMessages returns what to publish of a change.
func feedMessages(c *ledger.Change) ([]*nats.Msg, error) {
	e, before, after := &c.Event, &c.Before, &c.After
	body, err := json.Marshal(feedBody{V: bus.SchemaVersion, Booking: e.Booking, N: e.N, Event: e.Kind,
		State: after.State, Role: e.Actor.Role, At: jsontime.Time(e.At)})
	if err != nil {
		return nil, fmt.Errorf("tell of event %d: %w", e.Seq, err)
	}
	position := string(e.Booking) + "." + strconv.Itoa(e.N) + "." + string(e.Kind)
	to := []string{bus.FeedBookingPrefix + position, bus.FeedUserPrefix + string(after.User) + "." + position}
	if before.Rider != "" {
		to = append(to, bus.FeedRiderPrefix+string(before.Rider)+"."+position)
	}
	if after.Rider != "" && after.Rider != before.Rider {
		to = append(to, bus.FeedRiderPrefix+string(after.Rider)+"."+position)
	}
	event := bus.CloudEvent{
		ID: string(e.ID), Type: bus.BookingTypePrefix + string(e.Kind), Subject: string(e.Booking),
		Time: jsontime.Format(e.At),
	}
	header, told := event.Header(), make([]*nats.Msg, len(to))
	for i, subject := range to {
		told[i] = &nats.Msg{Subject: subject, Data: body, Header: header}
	}
	return told, nil
}
