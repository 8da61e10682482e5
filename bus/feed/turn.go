package feed

import (
	"context"
	"errors"
	"time"

	"github.com/example/pillion/bus"
)

// A turn is the right to publish the feed, which one instance has at a time, and the record of how
// far that is. The owner renews the record by compare-and-set, and may publish for turnLife after
// the beginning of its last renewal. Another instance takes the turn of an owner whose record it
// has seen unchanged for longer than that. Each measures with its own monotonic clock, so no two
// clocks are compared. An owner that has slept for too long asks, by renewing, before it publishes
// again.
type turn struct {
	conn     *bus.Conn
	owner    string // this instance
	revision uint64
	done     uint64    // up to this sequence everything has been published, as the record says
	renewed  time.Time // when the last renewal began
}

const (
	turnLife    = 6 * time.Second
	turnTaken   = turnLife + 2*time.Second // what is sent late may be on its way for so long
	turnRenewal = 2 * time.Second
	turnSave    = time.Second // likewise, while the feed moves: that much is repeated
	turnLook    = time.Second // how often another instance looks at the record
)

// errTurnOver says that another instance has the turn.
var errTurnOver = errors.New("another instance publishes the feed")

// valid reports whether this instance may publish.
func (t *turn) valid() bool { return time.Since(t.renewed) < turnLife }

// due returns when the turn must be renewed. told is how far this instance has published.
func (t *turn) due(told uint64) time.Time {
	if told > t.done {
		return t.renewed.Add(turnSave)
	}
	return t.renewed.Add(turnRenewal)
}

// renew stores how far the feed is, and lets the turn live on. Errors: errTurnOver, and of kind
// fault.Unavailable.
func (t *turn) renew(ctx context.Context, owner string, done uint64) error {
	err := t.write(ctx, owner, done)
	if !errors.Is(err, bus.ErrStale) {
		return err
	}
	r, revision, err := t.conn.FeedTurn(ctx)
	switch {
	case errors.Is(err, bus.ErrNoKey):
		return errTurnOver
	case err != nil:
		return err
	case r.Owner != t.owner:
		return errTurnOver
	}
	t.revision = revision // of a write whose outcome was not known
	if err = t.write(ctx, owner, done); errors.Is(err, bus.ErrStale) {
		return errTurnOver
	}
	return err
}

// write replaces the record of the known revision; 0: there is none yet.
func (t *turn) write(ctx context.Context, owner string, done uint64) error {
	began := time.Now()
	revision, err := t.conn.WriteFeedTurn(ctx, bus.FeedTurn{Owner: owner, Done: done}, t.revision)
	if err == nil {
		t.revision, t.done, t.renewed = revision, done, began
	}
	return err
}
