package wiring

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/feed"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/snapshot"
	"github.com/example/pillion/bus/timers"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/fleet/natsfleet"
	"github.com/example/pillion/ridersvc"
	"github.com/example/pillion/usersvc"
	"github.com/example/pillion/web"
)

// Rides holds what usersvc and ridersvc share in a process: the board, so that each event is
// verified and stored once, and the map of riders.
type Rides struct {
	base      *Base
	board     *board.Board
	follower  *ledger.Follower
	deadline  time.Duration
	patience  time.Duration
	codes     *booking.StartCodes
	sealed    []byte // the MAC key of snapshots
	fleet     *fleet.Map
	positions *natsfleet.Positions
	radius    float64 // metres
	kept      bool    // whether a service of the process runs the scheduler
}

// Rides returns the shared part of usersvc and ridersvc. It reads the secret at secretPath, or
// creates it. Run its Component as well.
func (b *Base) Rides(s setting.Rides, f setting.Fleet, secretPath string) (*Rides, error) {
	shared, err := loadSecret(secretPath)
	if err != nil {
		return nil, err
	}
	codes, err := shared.startCodes()
	if err != nil {
		return nil, err
	}
	sealed, err := shared.key("snapshots", secretSize)
	if err != nil {
		return nil, fmt.Errorf("derive the key of snapshots: %w", err)
	}
	board := board.New()
	ledger, err := b.ledger("/board", board)
	if err != nil {
		return nil, err
	}
	riders, err := fleet.NewMap(fleet.Options{MaxAge: f.PositionAge.Value, Busy: board.Busy, Heading: board.Heading})
	if err != nil {
		return nil, fmt.Errorf("make the map of riders: %w", err)
	}
	for name, count := range map[string]func() int{
		"known":  func() int { known, _ := riders.Count(); return known },
		"online": func() int { _, online := riders.Count(); return online },
	} {
		b.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "pillion", Name: "riders",
			Help:        "Riders whose position is known to this process, and those that are online.",
			ConstLabels: prometheus.Labels{"state": name},
		}, func() float64 { return float64(count()) }))
	}
	return &Rides{
		base: b, board: board, follower: ledger.Follow(board),
		deadline: s.Deadline.Value, patience: s.Patience.Value, codes: codes, sealed: sealed,
		fleet: riders, positions: natsfleet.NewPositions(b.Of("ridersvc").Conn, riders),
		radius: float64(f.Radius.Value),
	}, nil
}

// keep returns the task that expires overdue bookings and reacts to events, as the service itself.
// Only the first call of a process returns one. All processes share the work.
func (r *Rides) keep(ledger *ledger.Ledger, desk *booking.Desk, as *trust.Identity) ([]program.Task, error) {
	if r.kept {
		return nil, nil
	}
	r.kept = true
	manager, err := booking.NewProcessManager(booking.ProcessManagerConfig{
		Desk: desk, Board: r.board, Act: as.Act, Patience: r.patience, Approach: r.fleet.Approach, Begun: time.Now(),
	})
	if err != nil {
		return nil, err
	}
	keeper, err := timers.NewScheduler(ledger, r.board, manager)
	if err != nil {
		return nil, err
	}
	keeper.Fit = func(ctx context.Context) error {
		// A wrong clock would expire bookings at the wrong time, and without a token nothing can be
		// expired.
		return errors.Join(r.base.Clock.Right(), as.Ready(ctx))
	}
	return []program.Task{keeper.Run}, nil
}

// UseSnapshots loads the board from a snapshot at start, and stores new ones, unless the settings
// switch it off. All processes that follow the ledger share the key that authenticates snapshots.
func (r *Rides) UseSnapshots(s setting.Snapshots) error {
	if s.Every.Value == 0 {
		return nil
	}
	err := r.follower.UseSnapshots(snapshot.Options{
		Key: r.sealed, Keys: r.base.Keys, Revocations: r.base.Revoked, Every: s.Every.Value,
		Events: uint64(s.Events.Value),
	})
	if err != nil {
		return fmt.Errorf("use snapshots of the board: %w", err)
	}
	return nil
}

// Component returns the tasks that keep the board and the map up to date.
func (r *Rides) Component() Component {
	return Component{
		Tasks:  []program.Task{r.follower.Run, r.positions.Run},
		Checks: []web.Check{{Name: "bookings", Ready: r.follower.Ready}},
	}
}

// ledger opens the ledger for one service. source is the CloudEvents source of its events. board is
// the board of the process; without one (nil) the service shows and books nothing.
func (b *Base) ledger(source string, board *board.Board) (*ledger.Ledger, error) {
	o := ledger.Options{Source: source, Tokens: b.Verifier, Epoch: b.epoch, Board: board}
	if board != nil {
		o.Shown = board.LastSeq
	}
	if b.Store != nil {
		o.Disk = b.Store.Volume
	}
	ledger, err := ledger.Open(b.Conn, o)
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	return ledger, nil
}

// User returns usersvc. key is the file with its service key.
func (r *Rides) User(s setting.Bookings, h setting.HTTP, w setting.Streams, key string) (Component, error) {
	base := r.base.Of("usersvc")
	identity, err := base.identity("usersvc", key)
	if err != nil {
		return Component{}, err
	}
	ledger, err := base.ledger("/usersvc", r.board)
	if err != nil {
		return Component{}, err
	}
	desk, err := booking.NewDesk(ledger, booking.DeskOptions{Deadline: r.deadline, Tariff: &s.Tariff.Value,
		Codes: r.codes})
	if err != nil {
		return Component{}, fmt.Errorf("make the desk: %w", err)
	}
	service, err := usersvc.New(usersvc.Config{
		Desk: desk, Board: r.board, Ready: r.follower.Ready, Ledger: ledger, Verifier: r.base.Verifier,
		Fleet: r.fleet, Radius: r.radius,
		Log: r.base.Log.With("service", "usersvc"), Registerer: r.base.Registry,
		TrustedProxies: h.TrustedProxies.Value, Rate: web.Rate{PerMinute: h.RequestLimit.Value},
		BookRate: web.Rate{PerMinute: s.Limit.Value},
		Streams:  streamLimits(w),
	})
	if err != nil {
		return Component{}, err
	}
	tasks, err := r.keep(ledger, desk, identity)
	if err != nil {
		return Component{}, err
	}
	leave, err := r.leave(base, ledger, desk, identity)
	if err != nil {
		return Component{}, err
	}
	return Component{
		Handler: service.Routes(), Tasks: append(tasks, identity.Run,
			func(ctx context.Context) error { return feed.Run(ctx, ledger) }, leave),
		Checks: []web.Check{{Name: "identity of usersvc", Ready: identity.Ready}, {Name: "room", Ready: ledger.Room}},
	}, nil
}

// leave returns the task that ends the rides of deleted accounts. usersvc does it for riders as
// well, because it may cancel bookings.
func (r *Rides) leave(base *Base, ledger *ledger.Ledger, desk *booking.Desk, as *trust.Identity) (program.Task, error) {
	manager, err := booking.NewProcessManager(booking.ProcessManagerConfig{Desk: desk, Board: r.board, Act: as.Act})
	if err != nil {
		return nil, err
	}
	answer := func(ctx context.Context, l bus.Leaving) error {
		last, err := ledger.LastSequence(ctx)
		if err == nil {
			err = r.follower.Ready(ctx)
		}
		if err == nil {
			err = r.board.Await(ctx, last)
		}
		who := booking.Actor{ID: l.Account, Role: l.Role}
		switch {
		case err != nil:
			return bus.ErrRidesUnknown.Because(err)
		case l.Gone:
			return manager.EndRidesOf(ctx, who)
		}
		return manager.Withdraw(ctx, who)
	}
	return func(ctx context.Context) error { return base.Conn.ServeRides(ctx, answer) }, nil
}

// Rider returns ridersvc. key is the file with its service key.
func (r *Rides) Rider(h setting.HTTP, a setting.Arrival, w setting.Streams, key string) (Component, error) {
	base := r.base.Of("ridersvc")
	identity, err := base.identity("ridersvc", key)
	if err != nil {
		return Component{}, err
	}
	ledger, err := base.ledger("/ridersvc", r.board)
	if err != nil {
		return Component{}, err
	}
	desk, err := booking.NewDesk(ledger, booking.DeskOptions{Deadline: r.deadline, Codes: r.codes})
	if err != nil {
		return Component{}, fmt.Errorf("make the desk: %w", err)
	}
	roster := natsfleet.NewRoster(base.Conn)
	service, err := ridersvc.New(ridersvc.Config{
		Desk: desk, Board: r.board, Ready: r.follower.Ready, Ledger: ledger, Verifier: r.base.Verifier,
		Fleet: r.fleet, Announce: r.positions.Announce, Roster: roster, Within: float64(a.Within.Value),
		Radius: r.radius, Tell: func(o feed.Offer) error { return feed.SendOffer(base.Conn, o) },
		Log: r.base.Log.With("service", "ridersvc"), Registerer: r.base.Registry,
		TrustedProxies: h.TrustedProxies.Value, Rate: web.Rate{PerMinute: h.RequestLimit.Value},
		Streams: streamLimits(w),
	})
	if err != nil {
		return Component{}, err
	}
	tasks, err := r.keep(ledger, desk, identity)
	if err != nil {
		return Component{}, err
	}
	return Component{
		Handler: service.Routes(), Tasks: append(tasks, identity.Run, service.Run),
		Checks: []web.Check{{Name: "riders", Ready: roster.Ready},
			{Name: "identity of ridersvc", Ready: identity.Ready}},
	}, nil
}

// streamLimits returns the limits on event streams.
func streamLimits(s setting.Streams) web.StreamLimits {
	return web.StreamLimits{PerCaller: s.PerAccount.Value, Total: s.Total.Value}
}
