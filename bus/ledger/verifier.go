package ledger

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/token"
)

// A refusal says why a message is not an event, for good. Its reason is a metric label: one of a small fixed set.
type refusal struct{ reason string }

func (r *refusal) Error() string { return "refused: " + r.reason }

func refuse(reason string) error { return &refusal{reason} }

// refusalOf returns the reason for which err says a message is refused for good. Any other error means that the message could
// not be judged.
func RefusalReason(err error) (string, bool) {
	var r *refusal
	switch {
	case errors.As(err, &r):
		return r.reason, true
	case errors.Is(err, booking.ErrPosition):
		return "position", true
	case errors.Is(err, booking.ErrDuplicate):
		return "duplicate", true
	case errors.Is(err, booking.ErrDoesNotFollow):
		return "does_not_follow", true
	}
	return "", false
}

// A reverifier decides whether a stored message is an event that its actor caused. The verdict rests on stored facts alone, so
// every reader reaches the same one whenever it reads. Whether the event also follows from the booking's history is for the
// booking.Thread that it is applied to.
type reverifier struct {
	tokens TokenVerifier
}

// A TokenVerifier verifies a token as of the time an event was stored.
type TokenVerifier interface {
	VerifyAt(ctx context.Context, raw string, at time.Time) (token.Claims, error)
}

// errNoEvent is the verdict on the record of an engagement: it is for whoever decides about that rider, and no booking changes by it.
var errNoEvent = errors.New("no event")

// check returns the event that m is, or errNoEvent. Another error is a refusal for good (see refusalOf), or token.ErrNoKeys or token.ErrUndecided
// where the message cannot be judged yet, or ctx's.
func (v reverifier) check(ctx context.Context, m bus.Message) (booking.Event, error) {
	if _, _, ok := ParseEngagementSubject(m.Subject); ok {
		return booking.Event{}, errNoEvent
	}
	e, err := decode(m)
	if err != nil {
		return booking.Event{}, err
	}
	claims, err := v.claims(ctx, m)
	if err != nil {
		return booking.Event{}, err
	}
	if booking.Role(claims.Role) != e.Actor.Role || !e.Kind.MayBeCausedBy(e.Actor.Role) {
		return booking.Event{}, refuse("role")
	}
	if claims.Subject != e.Actor.ID {
		return booking.Event{}, refuse("actor")
	}
	return e, nil
}

// claims returns what the token of a message claims, if it was good when the message was stored. Errors: those of check.
func (v reverifier) claims(ctx context.Context, m bus.Message) (token.Claims, error) {
	auth := m.Header[bus.HeaderToken]
	if len(auth) != 1 {
		return token.Claims{}, refuse("no_token")
	}
	raw, ok := strings.CutPrefix(auth[0], bus.Bearer)
	if !ok {
		return token.Claims{}, refuse("no_token")
	}
	claims, err := v.tokens.VerifyAt(ctx, raw, m.StoredAt)
	if errors.Is(err, token.ErrInvalid) {
		return token.Claims{}, refuse("token_" + token.Reason(err))
	}
	return claims, err
}

// Verify returns the event that a message of the ledger is; see reverifier.check for the errors.
func (l *Ledger) Verify(ctx context.Context, m bus.Message) (booking.Event, error) {
	return l.verify.check(ctx, m)
}
