package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/booking"
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
func (l *Ledger) RunFeed(ctx context.Context) error {
	(&teller{ledger: l}).run(ctx)
	return nil
}

// news returns what watchers are told of one message: nothing, where it is no event. An error means that it cannot be judged yet.
func (l *Ledger) news(ctx context.Context, m stored) ([]*nats.Msg, error) {
	p, ok := parseSubject(m.subject)
	if !ok {
		return nil, nil // the board's reader has it recorded, as it has all that is no event
	}
	if _, err := l.verify.check(ctx, m); err != nil {
		if _, refused := refusalOf(err); refused { // whatever the booking's history is, which may be long for that very reason
			return nil, nil // it is no event
		}
		return nil, err
	}
	before, e, err := l.at(ctx, p.booking, m.seq)
	if err != nil || e.Seq != m.seq {
		return nil, err
	}
	after, err := before.Apply(e)
	if err != nil {
		return nil, fmt.Errorf("tell of event %d: %w", m.seq, err)
	}
	body, err := json.Marshal(feedBody{V: schemaVersion, Booking: e.Booking, N: e.N, Event: e.Kind, State: after.State, Role: e.Actor.Role, At: jsontime.Time(m.at)})
	if err != nil {
		return nil, fmt.Errorf("tell of event %d: %w", m.seq, err)
	}
	place := string(e.Booking) + "." + strconv.Itoa(e.N) + "." + string(e.Kind)
	to := []string{feedBooking + place, feedUser + string(after.User) + "." + place}
	if before.Rider != "" {
		to = append(to, feedRider+string(before.Rider)+"."+place)
	}
	if after.Rider != "" && after.Rider != before.Rider {
		to = append(to, feedRider+string(after.Rider)+"."+place)
	}
	var told []*nats.Msg
	for _, subject := range to {
		told = append(told, &nats.Msg{Subject: subject, Data: body, Header: nats.Header{
			headerSpecVersion: {"1.0"},
			headerID:          {string(e.ID)},
			headerType:        {typePrefix + string(e.Kind)},
			headerSubject:     {string(e.Booking)},
			headerTime:        {jsontime.Format(m.at)},
			headerContentType: {"application/json"},
		}})
	}
	return told, nil
}

// at returns the verified event of that sequence, and the booking as it was before it. The event is zero where what stands there is none.
func (l *Ledger) at(ctx context.Context, id booking.ID, seq uint64) (before booking.Booking, e booking.Event, err error) {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	msgs, err := retryRead(ctx, l.conn, func() ([]stored, error) { return l.messages(ctx, aggregate(id), seq) })
	if err != nil {
		return booking.Booking{}, booking.Event{}, unavailable("read a booking", err)
	}
	for i, m := range msgs {
		if m.seq > seq { // what came later is told later
			msgs = msgs[:i]
			break
		}
	}
	h, err := l.fold(ctx, id, msgs)
	if err != nil {
		return booking.Booking{}, booking.Event{}, err
	}
	if n := len(h.Events); n > 0 && h.Events[n-1].Seq == seq {
		return booking.Replay(h.Events[:n-1]), h.Events[n-1], nil
	}
	return booking.Booking{}, booking.Event{}, nil
}
