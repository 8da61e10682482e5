package wiring

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pillion/booking"
	"pillion/bus"
	"pillion/cmd/internal/program"
	"pillion/cmd/internal/setting"
	"pillion/fleet"
	"pillion/ridersvc"
	"pillion/usersvc"
	"pillion/web"
)

// Rides is what the services of one process share: the read model of all bookings, so that each event is verified and kept once, and where
// riders are.
type Rides struct {
	base      *Base
	board     *booking.Board
	follower  *bus.Follower
	fleet     *fleet.Map
	positions *bus.Positions
	radius    float64 // metres
}

// Rides returns it, fed by readers of its own. source names the process in what that of the ledger reports.
func (b *Base) Rides(s setting.Fleet) (*Rides, error) {
	ledger, err := b.ledger("/board")
	if err != nil {
		return nil, err
	}
	board := booking.NewBoard()
	riders, err := fleet.NewMap(fleet.Options{Age: s.PositionAge.Value})
	if err != nil {
		return nil, fmt.Errorf("make the map of riders: %w", err)
	}
	for name, count := range map[string]func() int{
		"known":  func() int { known, _ := riders.Count(); return known },
		"online": func() int { _, online := riders.Count(); return online },
	} {
		b.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "pillion", Name: "riders", Help: "Riders that this process has heard of lately, and those of them that are online.",
			ConstLabels: prometheus.Labels{"state": name},
		}, func() float64 { return float64(count()) }))
	}
	return &Rides{
		base: b, board: board, follower: ledger.Follow(board),
		fleet: riders, positions: b.Conn.Positions(riders), radius: float64(s.Radius.Value),
	}, nil
}

// Part returns the readers that keep it up to date.
func (r *Rides) Part() Part {
	return Part{
		Tasks:  []program.Task{r.follower.Run, r.positions.Run},
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
		Fleet: r.fleet, Radius: r.radius,
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
		Fleet: r.fleet, Announce: r.positions.Announce, Radius: r.radius,
		Log: r.base.Log.With("service", "ridersvc"), Registerer: r.base.Registry,
		TrustedProxies: h.TrustedProxies.Value, Rate: web.Rate{PerMinute: h.RequestLimit.Value},
	})
	if err != nil {
		return Part{}, err
	}
	return Part{Handler: service.Routes(), Tasks: []program.Task{identity.Run}}, nil
}
