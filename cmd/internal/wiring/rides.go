package wiring

import (
	"fmt"
	"time"

	"pillion/booking"
	"pillion/bus"
	"pillion/cmd/internal/program"
	"pillion/cmd/internal/setting"
	"pillion/ridersvc"
	"pillion/usersvc"
	"pillion/web"
)

// Rides is the read model of all bookings, which the services of one process share: each event is verified and kept once.
type Rides struct {
	base     *Base
	board    *booking.Board
	follower *bus.Follower
}

// Rides returns the read model, fed by a reader of its own. source names the process in what that reader reports.
func (b *Base) Rides() (*Rides, error) {
	ledger, err := b.ledger("/board")
	if err != nil {
		return nil, err
	}
	board := booking.NewBoard()
	return &Rides{base: b, board: board, follower: ledger.Follow(board)}, nil
}

// UseSnapshots makes the read model start from a snapshot, and keeps one for the next start. key is what all processes that follow the ledger
// share, 32 bytes at least; without one there are no snapshots, for anybody could forge them.
func (r *Rides) UseSnapshots(s setting.Snapshots, key []byte) error {
	if len(key) == 0 || s.Every.Value == 0 {
		return nil
	}
	err := r.follower.UseSnapshots(bus.SnapshotOptions{
		Key: key, Keys: r.base.Keys, Revocations: r.base.Revoked, Every: s.Every.Value, Events: uint64(s.Events.Value),
	})
	if err != nil {
		return fmt.Errorf("keep snapshots of the board: %w", err)
	}
	return nil
}

// SnapshotKey returns what seals snapshots. There is no file yet that all processes share, so there is none, and no snapshots: it is to be
// derived from the secret that start codes are derived from.
func (b *Base) SnapshotKey() []byte { return nil }

// Part returns the reader that keeps the read model up to date.
func (r *Rides) Part() Part {
	return Part{
		Tasks:  []program.Task{r.follower.Run},
		Checks: []web.Check{{Name: "bookings", Ready: r.follower.Ready}},
	}
}

// ledger returns the ledger as one service writes it: source is what its events say of where they come from.
func (b *Base) ledger(source string) (*bus.Ledger, error) {
	ledger, err := bus.OpenLedger(b.Conn, bus.LedgerOptions{Source: source, Tokens: b.Verifier})
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	return ledger, nil
}

// User returns usersvc, whose own key is in file key.
func (r *Rides) User(s setting.Bookings, h setting.HTTP, key string) (Part, error) {
	identity, err := r.base.identity("usersvc", key)
	if err != nil {
		return Part{}, err
	}
	ledger, err := r.base.ledger("/usersvc")
	if err != nil {
		return Part{}, err
	}
	desk, err := booking.NewDesk(ledger, booking.DeskOptions{Deadline: s.Deadline.Value, Tariff: &s.Tariff.Value})
	if err != nil {
		return Part{}, fmt.Errorf("make the desk: %w", err)
	}
	service, err := usersvc.New(usersvc.Config{
		Desk: desk, Board: r.board, Ready: r.follower.Ready, Ledger: ledger, Verifier: r.base.Verifier,
		Log: r.base.Log.With("service", "usersvc"), Registerer: r.base.Registry,
		TrustedProxies: h.TrustedProxies.Value, Rate: web.Rate{PerMinute: h.RequestLimit.Value}, BookRate: web.Rate{PerMinute: s.Limit.Value},
	})
	if err != nil {
		return Part{}, err
	}
	return Part{Handler: service.Routes(), Tasks: []program.Task{identity.Run}}, nil
}

// noDeadline is the deadline that ridersvc gives to new bookings: it makes none, and a desk must have one.
const noDeadline = time.Hour

// Rider returns ridersvc, whose own key is in file key.
func (r *Rides) Rider(h setting.HTTP, key string) (Part, error) {
	identity, err := r.base.identity("ridersvc", key)
	if err != nil {
		return Part{}, err
	}
	ledger, err := r.base.ledger("/ridersvc")
	if err != nil {
		return Part{}, err
	}
	desk, err := booking.NewDesk(ledger, booking.DeskOptions{Deadline: noDeadline})
	if err != nil {
		return Part{}, fmt.Errorf("make the desk: %w", err)
	}
	service, err := ridersvc.New(ridersvc.Config{
		Desk: desk, Board: r.board, Ready: r.follower.Ready, Ledger: ledger, Verifier: r.base.Verifier,
		Log: r.base.Log.With("service", "ridersvc"), Registerer: r.base.Registry,
		TrustedProxies: h.TrustedProxies.Value, Rate: web.Rate{PerMinute: h.RequestLimit.Value},
	})
	if err != nil {
		return Part{}, err
	}
	return Part{Handler: service.Routes(), Tasks: []program.Task{identity.Run}}, nil
}
