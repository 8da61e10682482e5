package natsfleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
)

// A Roster knows which riders have gone offline. It is a bucket, so that it survives every
// instance, and is read from the leader. A rider who has never gone offline is not in it.
type Roster struct{ bucket *bus.Bucket }

// NewRoster returns the roster of riders.
func NewRoster(c *bus.Conn) *Roster { return &Roster{c.Bucket(bus.RidersBucket)} }

const rosterVersion = 1

// duty is what a rider has said last.
type duty struct {
	Version int       `json:"v"`
	Online  bool      `json:"online"`
	At      time.Time `json:"at"`
}

// Said returns what a rider has said last, and when. A rider who is not in the roster is online
// since the zero time. Errors are of kind fault.Unavailable.
func (r *Roster) Said(ctx context.Context, rider booking.RiderID) (online bool, at time.Time, err error) {
	d, _, err := r.load(ctx, rider)
	return d.Online, d.At, err
}

// Say stores what a rider says at a time. Of several at once the last one to be stored counts.
// Errors are of kind fault.Unavailable.
func (r *Roster) Say(ctx context.Context, rider booking.RiderID, online bool, at time.Time) error {
	for {
		d, revision, err := r.load(ctx, rider)
		if err != nil || d.Online == online {
			return err
		}
		value, err := json.Marshal(duty{rosterVersion, online, at.UTC()})
		if err != nil {
			return fmt.Errorf("write the roster: %w", err)
		}
		if _, err = r.bucket.Update(ctx, string(rider), value, revision); !errors.Is(err, bus.ErrStale) {
			return err
		}
	}
}

// Ready returns nil when the roster can be read.
func (r *Roster) Ready(ctx context.Context) error {
	_, _, err := r.bucket.Get(ctx, "nobody")
	if errors.Is(err, bus.ErrNoKey) {
		return nil
	}
	return fmt.Errorf("the roster is missing or without a leader; after an update run pillion provision: %w", err)
}

func (r *Roster) load(ctx context.Context, rider booking.RiderID) (duty, uint64, error) {
	d := duty{Online: true}
	if !booking.ValidID(string(rider)) {
		return d, 0, fmt.Errorf("read the roster: %q is not a rider ID", rider)
	}
	value, revision, err := r.bucket.Get(ctx, string(rider))
	switch {
	case errors.Is(err, bus.ErrNoKey):
		return d, revision, nil
	case err != nil:
		return d, 0, err
	}
	if err := json.Unmarshal(value, &d); err != nil {
		return duty{}, 0, fmt.Errorf("read the roster: %w", err)
	}
	if d.Version != rosterVersion {
		return duty{}, 0, fmt.Errorf("read the roster: schema version %d is not known", d.Version)
	}
	return d, revision, nil
}
