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

// Rides is what the services of one process share that have to do with bookings. The read model is one: each event is verified and kept once.
type Rides struct {
	base     *Base
	board    *booking.Board
	follower *bus.Follower
	deadline time.Duration
	codes    *booking.StartCodes
	kept     bool // whether one of the services keeps the time already
}

// Rides returns what the services share, with a reader of its own for the read model. The secret is read, or made, here.
func (b *Base) Rides(s setting.Rides, secretPath string) (*Rides, error) {
	shared, err := loadSecret(secretPath)
	if err != nil {
		return nil, err
	}
	codes, err := shared.startCodes()
	if err != nil {
		return nil, err
	}
	ledger, err := b.ledger("/board")
	if err != nil {
		return nil, err
	}
	board := booking.NewBoard()
	return &Rides{base: b, board: board, follower: ledger.Follow(board), deadline: s.Deadline.Value, codes: codes}, nil
}

// keep returns the task that keeps the time: it ends what is overdue and does what events call for, as the service itself. Every process has one, and
// they share the work.
func (r *Rides) keep(ledger *bus.Ledger, desk *booking.Desk, as *bus.Identity) ([]program.Task, error) {
	if r.kept {
		return nil, nil
	}
	r.kept = true
	steward, err := booking.NewSteward(desk, r.board, as.Act)
	if err != nil {
		return nil, err
	}
	keeper, err := ledger.Timekeeper(r.board, steward)
	if err != nil {
		return nil, err
	}
	return []program.Task{keeper.Run}, nil
}

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
	base := r.base.Of("usersvc")
	identity, err := base.identity("usersvc", key)
	if err != nil {
		return Part{}, err
	}
	ledger, err := base.ledger("/usersvc")
	if err != nil {
		return Part{}, err
	}
	desk, err := booking.NewDesk(ledger, booking.DeskOptions{Deadline: r.deadline, Tariff: &s.Tariff.Value, Codes: r.codes})
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
	tasks, err := r.keep(ledger, desk, identity)
	if err != nil {
		return Part{}, err
	}
	return Part{Handler: service.Routes(), Tasks: append(tasks, identity.Run, ledger.RunFeed)}, nil
}

// Rider returns ridersvc, whose own key is in file key.
func (r *Rides) Rider(h setting.HTTP, key string) (Part, error) {
	base := r.base.Of("ridersvc")
	identity, err := base.identity("ridersvc", key)
	if err != nil {
		return Part{}, err
	}
	ledger, err := base.ledger("/ridersvc")
	if err != nil {
		return Part{}, err
	}
	desk, err := booking.NewDesk(ledger, booking.DeskOptions{Deadline: r.deadline, Codes: r.codes})
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
	tasks, err := r.keep(ledger, desk, identity)
	if err != nil {
		return Part{}, err
	}
	return Part{Handler: service.Routes(), Tasks: append(tasks, identity.Run)}, nil
}
