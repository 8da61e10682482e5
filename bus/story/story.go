// Package story tells the story of one booking: each of its messages in the ledger, whose token it
// carries, and the verdict of every reader on it.
//
// Call [Read]. It shows everything, so its caller asks who may see what: [Story.As] leaves out what
// a party of the booking must not learn.
package story

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/token"
)

// A Story is what the ledger has about a booking, as JSON shows it.
type Story struct {
	Booking booking.ID    `json:"booking_id"`
	State   booking.State `json:"state"`
	Events  []Entry       `json:"events"` // in the ledger's order
}

// An Entry is one message. One that was refused says nothing but where it is and why.
type Entry struct {
	Seq     uint64        `json:"seq"`
	At      jsontime.Time `json:"at"` // when NATS stored it
	N       int           `json:"n"`
	Event   booking.Kind  `json:"event"`
	Refused string        `json:"refused,omitempty"` // one of the reasons of ledger.RefusalReason

	Actor  string        `json:"actor,omitempty"`
	Role   booking.Role  `json:"role,omitempty"`
	From   booking.State `json:"from,omitempty"`  // of the booking, before it
	State  booking.State `json:"state,omitempty"` // and after it
	Reason string        `json:"reason,omitempty"`
	Stars  int           `json:"stars,omitempty"`
	Claims *Claims       `json:"claims,omitempty"`

	change *booking.Change // nil if it was refused
}

// Claims are what a verified token says. The session that it belongs to is left out: it concerns
// its owner only.
type Claims struct {
	Type      string        `json:"typ"`
	Algorithm string        `json:"alg"`
	KeyID     string        `json:"kid"`
	Issuer    string        `json:"iss"`
	Audience  string        `json:"aud"`
	Subject   string        `json:"sub"`
	Role      token.Role    `json:"role"`
	IssuedAt  jsontime.Time `json:"iat"`
	ExpiresAt jsontime.Time `json:"exp"`
	ID        string        `json:"jti"`
}

// Read reads the story of a booking from the ledger, and verifies each message as the ledger's
// readers do. tokens are what l verifies with. Errors: booking.ErrNotFound if there is no message
// about it; of kind fault.Unavailable; ctx's.
func Read(ctx context.Context, l *ledger.Ledger, tokens ledger.TokenVerifier, id booking.ID) (Story, error) {
	if !booking.ValidID(string(id)) { // it becomes part of a subject
		return Story{}, booking.ErrNotFound
	}
	msgs, err := l.Messages(ctx, id, booking.Fresh)
	if err != nil {
		return Story{}, bus.Unavailable("read the story of a booking", err)
	}
	if len(msgs) == 0 {
		return Story{}, booking.ErrNotFound
	}
	s, order := Story{Booking: id, Events: make([]Entry, 0, len(msgs))}, new(booking.EventSequencer)
	for _, m := range msgs {
		e, err := judge(ctx, l, tokens, m, order)
		if err != nil {
			return Story{}, fmt.Errorf("read the story of booking %s: %w", id, err)
		}
		s.Events = append(s.Events, e)
	}
	s.State = order.Booking.State
	return s, nil
}

// judge returns the entry of a message, and applies its event to the booking if there is one.
func judge(ctx context.Context, l *ledger.Ledger, tokens ledger.TokenVerifier, m bus.Message,
	order *booking.EventSequencer,
) (Entry, error) {
	// zero for what is not an event's subject, which is refused
	p, _ := bus.ParseEventSubject(m.Subject)
	entry := Entry{Seq: m.Seq, At: jsontime.Time(m.StoredAt), N: p.N, Event: p.Kind, From: order.Booking.State}
	e, err := l.Verify(ctx, m, bus.Message{})
	if err == nil {
		err = order.Apply(e)
	}
	if reason, refused := ledger.RefusalReason(err); refused || errors.Is(err, booking.ErrAged) {
		order.Refuse(p.N, p.Kind, m.Seq)
		entry.Refused, entry.From = reason, ""
		if !refused {
			entry.Refused = "aged"
		}
		return entry, nil
	}
	if err != nil {
		return Entry{}, err
	}
	if entry.Claims, err = claimsOf(ctx, tokens, m); err != nil {
		return Entry{}, err
	}
	entry.Actor, entry.Role, entry.State = e.Actor.ID, e.Actor.Role, order.Booking.State
	entry.Reason, entry.Stars = e.Reason, e.Stars
	entry.change = &booking.Change{Event: e, Booking: order.Booking}
	return entry, nil
}

// claimsOf returns what the token of a verified message says.
func claimsOf(ctx context.Context, tokens ledger.TokenVerifier, m bus.Message) (*Claims, error) {
	raw, kind := strings.TrimPrefix(m.Header.Get(bus.HeaderToken), bus.Bearer), token.EventType
	c, err := tokens.VerifyAt(ctx, raw, m.StoredAt)
	if errors.Is(err, token.ErrInvalid) { // an older build has written it
		kind = "access token"
		c, err = tokens.VerifyAccessAt(ctx, raw, m.StoredAt, m.Seq)
	}
	if err != nil {
		return nil, err
	}
	return &Claims{Type: kind, Algorithm: "RS256", KeyID: c.KeyID, Issuer: c.Issuer, Audience: c.Audience,
		Subject: c.Subject, Role: c.Role, IssuedAt: jsontime.Time(c.IssuedAt), ExpiresAt: jsontime.Time(c.ExpiresAt),
		ID: c.ID}, nil
}

// A Look is what a party of a booking sees of one of its events.
type Look struct {
	Event  booking.Kind
	Reason string
	Stars  int
}

// As returns the story as one party sees it: the events that look shows, from the last one of kind
// since on, and nothing that was refused.
func (s Story) As(since booking.Kind, look func(*booking.Change) (Look, bool)) Story {
	all := s.Events
	s.Events = make([]Entry, 0, len(all))
	for _, e := range all {
		if e.change == nil {
			continue
		}
		if e.change.Event.Kind == since {
			s.Events = s.Events[:0]
		}
		if seen, ok := look(e.change); ok {
			e.Event, e.Reason, e.Stars = seen.Event, seen.Reason, seen.Stars
			s.Events = append(s.Events, e)
		}
	}
	s.Events = slices.Clip(s.Events)
	return s
}
