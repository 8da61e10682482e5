package ledger

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/retry"
	"github.com/example/pillion/token"
)

// A refusal says that a message is permanently rejected: it is not an event. Its reason is a metric
// label, one of a small fixed set.
type refusal struct{ reason string }

func (r *refusal) Error() string { return "refused: " + r.reason }

func refuse(reason string) error { return &refusal{reason} }

// RefusalReason returns the reason for which err permanently rejects a message. After any other
// error the message could not be judged.
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

// refusalReasons returns all reasons.
func refusalReasons() []string {
	reasons := []string{"subject", "body", "schema", "mismatch", "no_token", "role", "actor", "deadline",
		"not_engaged", "position", "does_not_follow", "duplicate"}
	for _, why := range token.RefusalReasons() {
		reasons = append(reasons, "token_"+why)
	}
	return reasons
}

// A TokenVerifier verifies a token as of the time when an event was stored.
type TokenVerifier interface {
	// VerifyAt verifies an event token, and nothing else.
	VerifyAt(ctx context.Context, raw string, at time.Time) (token.Claims, error)
	// VerifyAccessAt verifies the token in the event at a sequence of a build without event tokens.
	VerifyAccessAt(ctx context.Context, raw string, at time.Time, seq uint64) (token.Claims, error)
}

var _ TokenVerifier = (*token.Verifier)(nil)

// A verifier decides whether a stored message is an event that its actor caused. The verdict rests
// on stored facts alone, so every reader reaches the same one at any time. Whether the event also
// follows from the booking's history is decided where it is applied.
type verifier struct {
	tokens TokenVerifier
	// at returns the stored message at a sequence. aged reports that there is none any more.
	at      func(ctx context.Context, seq uint64) (m bus.Message, aged bool, err error)
	engaged *lru.Cache[uint64, struct{}] // sequences of acceptances whose records have been seen
}

// engagedKept is how many acceptances are remembered, in two megabytes. It saves a request to the
// leader each time that one of those bookings is read.
const engagedKept = 1 << 14

// errNoEvent is the verdict on an engagement record, which changes no booking.
var errNoEvent = errors.New("no event")

// Verify returns the event that a message of the ledger is. before is the message directly before
// it, where that is at hand. Errors: a permanent rejection (see RefusalReason); token.ErrNoKeys or
// token.ErrUndecided where the message cannot be judged yet; of kind fault.Unavailable; ctx's;
// another one for an engagement record.
func (l *Ledger) Verify(ctx context.Context, m, before bus.Message) (booking.Event, error) {
	return l.verify.check(ctx, m, before)
}

// check is Verify. The verdict on an engagement record is errNoEvent.
func (v verifier) check(ctx context.Context, m, before bus.Message) (booking.Event, error) {
	if _, _, ok := bus.ParseEngagedSubject(m.Subject); ok {
		return booking.Event{}, errNoEvent
	}
	e, version, err := decode(m)
	if err != nil {
		return booking.Event{}, err
	}
	claims, err := v.claims(ctx, m, version)
	if err != nil {
		return booking.Event{}, err
	}
	if booking.Role(claims.Role) != e.Actor.Role || !e.Kind.MayBeCausedBy(e.Actor.Role) {
		return booking.Event{}, refuse("role")
	}
	if claims.Subject != e.Actor.ID {
		return booking.Event{}, refuse("actor")
	}
	if version != accessSchema {
		if err = checkBounds(e); err == nil {
			err = v.checkEngaged(ctx, &e, m, before)
		}
	}
	if err != nil {
		return booking.Event{}, err
	}
	return e, nil
}

// checkEngaged refuses an acceptance unless the message directly before it is the record that its
// rider is engaged in the booking: the two are stored in one batch. Otherwise a rider could have
// several rides. Where the record has aged, so has the beginning of the booking.
func (v verifier) checkEngaged(ctx context.Context, e *booking.Event, m, before bus.Message) error {
	if e.Kind != booking.Accepted || v.engaged.Contains(m.Seq) {
		return nil
	}
	if before.Seq != m.Seq-1 {
		var aged bool
		var err error
		if before, aged, err = v.at(ctx, m.Seq-1); aged || err != nil {
			return err
		}
	}
	var r EngagementRecord
	rider, id, ok := bus.ParseEngagedSubject(before.Subject)
	if !ok || string(rider) != e.Actor.ID || id != e.Booking || unmarshal(before.Data, &r) != nil ||
		r.V != schema || r.Event != e.ID ||
		!slices.Equal(before.Header[bus.HeaderToken], m.Header[bus.HeaderToken]) {
		return refuse("not_engaged")
	}
	v.engaged.Add(m.Seq, struct{}{})
	return nil
}

// checkBounds refuses what no service writes, and older builds may have stored.
func checkBounds(e booking.Event) error {
	switch {
	case e.Kind == booking.Rated && e.Actor.Role == booking.Rider: // see booking.RiderRated
		return refuse("role")
	case e.Deadline.After(e.At.Add(booking.LongestWait + token.EventLeeway)):
		return refuse("deadline")
	}
	return nil
}

// claims returns the claims of a message's token, if that was valid when the message was stored
// and is of the kind that the message's schema version asks for. Errors: those of Verify.
func (v verifier) claims(ctx context.Context, m bus.Message, version int) (token.Claims, error) {
	auth := m.Header[bus.HeaderToken]
	if len(auth) != 1 {
		return token.Claims{}, refuse("no_token")
	}
	raw, ok := strings.CutPrefix(auth[0], bus.Bearer)
	if !ok {
		return token.Claims{}, refuse("no_token")
	}
	var claims token.Claims
	var err error
	if version == accessSchema {
		claims, err = v.tokens.VerifyAccessAt(ctx, raw, m.StoredAt, m.Seq)
	} else {
		claims, err = v.tokens.VerifyAt(ctx, raw, m.StoredAt)
	}
	if errors.Is(err, token.ErrInvalid) {
		return token.Claims{}, refuse("token_" + token.Reason(err))
	}
	return claims, err
}

// AwaitVerdict calls check until there is a verdict: keys or revocations may be on their way. It
// calls waiting, which may be nil, with true before the first wait and with false after the last.
// It returns check's result. If ctx ends first, the error wraps ctx's.
func AwaitVerdict[T any](ctx context.Context, check func() (T, error), waiting func(err error, still bool)) (T, error) {
	p, stalled := bus.Retries(0), false
	p.When = undecided
	p.Notify = func(err error, _ time.Duration) {
		if !stalled && waiting != nil {
			waiting(err, true)
		}
		stalled = true
	}
	v, err := retry.Get(ctx, p, check)
	if stalled && waiting != nil && !undecided(err) {
		waiting(nil, false)
	}
	return v, err
}

// undecided reports whether keys or revocations are missing for a verdict.
func undecided(err error) bool {
	return errors.Is(err, token.ErrNoKeys) || errors.Is(err, token.ErrUndecided)
}
