// Package natsfleet shares riders between instances over NATS: where they are, and who is offline.
//
// [NewPositions] connects a fleet.Map with the maps of the other instances; [NewRoster] stores who
// has gone offline. Positions are never stored: what is lost is made up for by the rider's next
// report, and a new instance knows nobody until riders report again.
package natsfleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/fleet"
)

// Positions exchanges riders' positions with other instances.
//
// Any publisher with the permission can claim that a rider is anywhere: the report was
// authenticated where it came in over HTTP, and no token travels with it. A position decides which
// booking is offered first, whether a rider may claim to have arrived, and whether a rider who has
// accepted comes: a service releases the booking of one who does not.
type Positions struct {
	conn     *bus.Conn
	riders   *fleet.Map
	received *prometheus.CounterVec
}

const (
	positionVersion = 1
	// maxPosition is more than the size of any position, in bytes.
	maxPosition = 512
	// maxPositionAge is longer than any position is kept.
	maxPositionAge = 24 * time.Hour
	// The queue holds two seconds of 50,000 riders. A reader that falls further behind loses the
	// newest, and that is logged.
	pendingPositions     = 65_536
	pendingPositionBytes = pendingPositions * maxPosition / 2
)

// NewPositions returns the exchange of a map with those of other instances. Call Run.
func NewPositions(c *bus.Conn, riders *fleet.Map) *Positions {
	return &Positions{conn: c, riders: riders, received: bus.Counters(c.Registerer(), "positions_total",
		"Riders' positions from other instances, by result; lost counts how often some were lost because this "+
			"instance was too slow.", "result", "taken", "known", "malformed", "lost")}
}

// positionBody is a fleet.Status as JSON, without the rider, who is in the subject.
type positionBody struct {
	Version int      `json:"v"`
	Lat     *float64 `json:"lat,omitempty"`
	Lng     *float64 `json:"lng,omitempty"`
	At      int64    `json:"at,omitempty"`
	Age     int64    `json:"age,omitempty"`      // milliseconds
	Error   float64  `json:"accuracy,omitempty"` // metres
	Online  *bool    `json:"online,omitempty"`
	Said    int64    `json:"said,omitempty"`
}

// Announce tells the other instances, which may miss it. Errors are of kind fault.Unavailable:
// there is no connection.
func (p *Positions) Announce(_ context.Context, s fleet.Status) error {
	if !booking.ValidID(string(s.Rider)) {
		return fmt.Errorf("announce a position: %q is not a rider ID", s.Rider)
	}
	body := positionBody{Version: positionVersion, At: s.At, Said: s.Said}
	if s.At != 0 {
		body.Lat, body.Lng, body.Age, body.Error = &s.Place.Lat, &s.Place.Lng, s.Age.Milliseconds(), s.Accuracy
	}
	if s.Said != 0 {
		body.Online = &s.Online
	}
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("announce a position: %w", err)
	}
	if err := p.conn.Send(&nats.Msg{Subject: bus.PositionPrefix + string(s.Rider), Data: data}); err != nil {
		return bus.Unavailable("announce a position", err)
	}
	return nil
}

// Run receives positions from other instances until ctx ends, and then returns nil. It waits for
// NATS.
func (p *Positions) Run(ctx context.Context) error {
	sub, err := p.conn.NATS().SubscribeSync(bus.FleetPattern)
	if err != nil {
		return fmt.Errorf("subscribe to positions: %w", err)
	}
	// fails without a connection, and then there is no subscription
	stop := context.AfterFunc(ctx, func() { _ = sub.Unsubscribe() })
	defer stop()
	if err := sub.SetPendingLimits(pendingPositions, pendingPositionBytes); err != nil {
		return fmt.Errorf("subscribe to positions: %w", err)
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, nats.ErrSlowConsumer): // it has lost some, and continues
			p.received.WithLabelValues("lost").Inc()
			continue
		case err != nil:
			return fmt.Errorf("read positions: %w", err)
		}
		p.received.WithLabelValues(p.take(m)).Inc()
	}
}

// take hands a message to the map, and returns its metric label. An instance gets its own messages
// too, and knows them already.
func (p *Positions) take(m *nats.Msg) string {
	s, err := parsePosition(m.Subject, m.Data)
	if err != nil {
		p.conn.Log().Debug("position ignored", "subject", m.Subject, "error", err)
		return "malformed"
	}
	news, err := p.riders.Learn(s)
	switch {
	case err != nil:
		p.conn.Log().Debug("position ignored", "subject", m.Subject, "error", err)
		return "malformed"
	case news:
		return "taken"
	}
	return "known"
}

// parsePosition reads a message. The Map checks whether its content is possible.
func parsePosition(subject string, data []byte) (fleet.Status, error) {
	rider, ok := strings.CutPrefix(subject, bus.PositionPrefix)
	if !ok || !booking.ValidID(rider) {
		return fleet.Status{}, errors.New("the subject has no rider ID")
	}
	if len(data) > maxPosition {
		return fleet.Status{}, fmt.Errorf("%d bytes are too many", len(data))
	}
	var body positionBody
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&body); err != nil {
		return fleet.Status{}, fmt.Errorf("decode: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fleet.Status{}, errors.New("there is something after the object")
	}
	switch {
	case body.Version != positionVersion:
		return fleet.Status{}, fmt.Errorf("schema version %d is not known", body.Version)
	case (body.At != 0) != (body.Lat != nil) || (body.At != 0) != (body.Lng != nil):
		return fleet.Status{}, errors.New("a place needs lat, lng and at")
	case body.Age < 0 || body.Age > maxPositionAge.Milliseconds():
		return fleet.Status{}, errors.New("the position is too old, or in the future")
	case (body.Said != 0) != (body.Online != nil):
		return fleet.Status{}, errors.New("online needs said")
	case body.At == 0 && body.Said == 0:
		return fleet.Status{}, errors.New("it has neither a place nor a status")
	}
	s := fleet.Status{Rider: booking.RiderID(rider), At: body.At, Online: true, Said: body.Said}
	if body.At != 0 {
		s.Place = booking.Place{Lat: *body.Lat, Lng: *body.Lng}
		s.Age, s.Accuracy = time.Duration(body.Age)*time.Millisecond, body.Error
	}
	if body.Said != 0 {
		s.Online = *body.Online
	}
	return s, nil
}
