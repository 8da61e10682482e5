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

// feedBody is the JSON of what watchers are told of an event: nothing of who has caused it, of where they are, or of why.
type feedBody struct {
	V       int           `json:"v"`
	Booking booking.ID    `json:"booking_id"`
	N       int           `json:"n"`
	Event   booking.Kind  `json:"event"`
	State   booking.State `json:"state"` // of the booking, by then
	Role    booking.Role  `json:"role"`  // of whoever has caused it
	At      jsontime.Time `json:"at"`    // when it was stored
}

// RunFeed tells watchers what happens until ctx ends, and then returns nil: each event that passes re-verification, in the ledger's order, as
// feed.booking.<booking>.<n>.<event>, without its token. The user and the rider of a booking get a copy each, as feed.user.<user>.… and
// feed.rider.<rider>.…; of what ends a rider's part, too.
//
// One of all instances tells, and another one goes on when it is gone: seconds later, and with what was under way once more.
func Run(ctx context.Context, l *ledger.Ledger) error {
	(&publisher{ledger: l}).run(ctx)
	return nil
}

// news returns what watchers are told of one message: nothing, where it is no event. An error means that it cannot be judged yet.
func feedMessages(ctx context.Context, l *ledger.Ledger, m bus.Message) ([]*nats.Msg, error) {
	p, ok := ledger.ParseSubject(m.Subject)
	if !ok {
		return nil, nil // the board's reader has it recorded, as it has all that is no event
	}
	if _, err := l.Verify(ctx, m); err != nil {
		if _, refused := ledger.RefusalReason(err); refused { // whatever the booking's history is, which may be long for that very reason
			return nil, nil // it is no event
		}
		return nil, err
	}
	before, e, err := l.EventAt(ctx, p.Booking, m.Seq)
	if err != nil || e.Seq != m.Seq {
		return nil, err
	}
	after, err := before.Apply(e)
	if err != nil {
		return nil, fmt.Errorf("tell of event %d: %w", m.Seq, err)
	}
	body, err := json.Marshal(feedBody{V: bus.SchemaVersion, Booking: e.Booking, N: e.N, Event: e.Kind, State: after.State, Role: e.Actor.Role, At: jsontime.Time(m.StoredAt)})
	if err != nil {
		return nil, fmt.Errorf("tell of event %d: %w", m.Seq, err)
	}
	place := string(e.Booking) + "." + strconv.Itoa(e.N) + "." + string(e.Kind)
	to := []string{bus.FeedBookingPrefix + place, bus.FeedUserPrefix + string(after.User) + "." + place}
	if before.Rider != "" {
		to = append(to, bus.FeedRiderPrefix+string(before.Rider)+"."+place)
	}
	if after.Rider != "" && after.Rider != before.Rider {
		to = append(to, bus.FeedRiderPrefix+string(after.Rider)+"."+place)
	}
	var told []*nats.Msg
	for _, subject := range to {
		told = append(told, &nats.Msg{Subject: subject, Data: body, Header: nats.Header{
			bus.HeaderSpecVersion: {"1.0"},
			bus.HeaderID:          {string(e.ID)},
			bus.HeaderType:        {bus.BookingTypePrefix + string(e.Kind)},
			bus.HeaderSubject:     {string(e.Booking)},
			bus.HeaderTime:        {jsontime.Format(m.StoredAt)},
			bus.HeaderContentType: {"application/json"},
		}})
	}
	return told, nil
}
