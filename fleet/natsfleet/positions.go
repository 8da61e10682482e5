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

// Positions are what instances tell each other of riders, on core NATS subjects: nothing is stored, and what is lost is made up for by the rider's
// next report. An instance that has just started knows nobody until they report again.
//
// Whoever may publish can say that a rider is anywhere: that a report is its rider's own was verified where it came in, over HTTP, and no
// token travels with it. A position decides which booking is
// offered first, and whether a rider may say that it has arrived.
type Positions struct {
	conn     *bus.Conn
	riders   *fleet.Map
	received *prometheus.CounterVec
}

const (
	positionVersion = 1
	// maxPosition is more than any position of ours takes, in bytes.
	maxPosition = 512
	// maxPositionAge is more than any position is remembered.
	maxPositionAge = 24 * time.Hour
	// What may wait to be read. A reader that is behind by more loses the newest, and that is logged: two seconds of 50,000 riders.
	pendingPositions     = 65_536
	pendingPositionBytes = pendingPositions * maxPosition / 2
)

// Positions returns the exchange of what riders knows with other instances. Call Run.
func NewPositions(c *bus.Conn, riders *fleet.Map) *Positions {
	return &Positions{conn: c, riders: riders, received: bus.MustRegister(c.Registerer(), prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "pillion", Name: "positions_total",
		Help: "Riders' positions that other instances told, by what came of them: taken, known, malformed; lost: how often some were, because this one was too slow.",
	}, []string{"result"}))}
}

// positionBody is a fleet.Status on the wire, but for the rider, who is in the subject.
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

// Announce tells the other instances. There is no answer: they may not hear it. Errors are of kind fault.Unavailable: there is no connection.
func (p *Positions) Announce(_ context.Context, s fleet.Status) error {
	if !booking.ValidID(string(s.Rider)) {
		return fmt.Errorf("announce a position: %q is no rider's id", s.Rider)
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

// Run takes what other instances announce until ctx ends, and then returns nil. It waits for NATS.
func (p *Positions) Run(ctx context.Context) error {
	sub, err := p.conn.NATS().SubscribeSync(bus.PositionSubjects)
	if err != nil {
		return fmt.Errorf("subscribe to positions: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = sub.Unsubscribe() }) // it fails when the connection is gone, and with it the subscription
	defer stop()
	if err := sub.SetPendingLimits(pendingPositions, pendingPositionBytes); err != nil {
		return fmt.Errorf("subscribe to positions: %w", err)
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, nats.ErrSlowConsumer): // it has lost some, and goes on
			p.received.WithLabelValues("lost").Inc()
			continue
		case err != nil:
			return fmt.Errorf("read positions: %w", err)
		}
		p.received.WithLabelValues(p.take(m)).Inc()
	}
}

// take learns what a message says, and returns what has come of it. It comes back to who has sent it as well, who knows it already.
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

// parsePosition reads a message. Whether what it says can be, the Map says.
func parsePosition(subject string, data []byte) (fleet.Status, error) {
	rider, ok := strings.CutPrefix(subject, bus.PositionPrefix)
	if !ok || !booking.ValidID(rider) {
		return fleet.Status{}, errors.New("the subject has no rider's id")
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
		return fleet.Status{}, errors.New("no position is told that is so old, or of the time to come")
	case (body.Said != 0) != (body.Online != nil):
		return fleet.Status{}, errors.New("online needs said")
	case body.At == 0 && body.Said == 0:
		return fleet.Status{}, errors.New("it says nothing")
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
