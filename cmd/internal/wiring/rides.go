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
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/ridersvc"
	"github.com/example/pillion/usersvc"
	"github.com/example/pillion/web"
)

// Rides is what the services of one process share that have to do with bookings: the read model, so that each event is verified and kept once,
// and where riders are.
type Rides struct {
	base      *Base
	board     *board.Board
	follower  *bus.Follower
	deadline  time.Duration
	patience  time.Duration
	codes     *booking.StartCodes
	sealed    []byte // the key that snapshots are sealed with
	fleet     *fleet.Map
	positions *bus.Positions
	radius    float64 // metres
	kept      bool    // whether one of the services keeps the time already
}

// Rides returns what the services share, with readers of its own. The secret is read, or made, here.
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
			Namespace: "pillion", Name: "riders", Help: "Riders that this process has heard of lately, and those of them that are online.",
			ConstLabels: prometheus.Labels{"state": name},
		}, func() float64 { return float64(count()) }))
	}
	return &Rides{
		base: b, board: board, follower: ledger.Follow(board),
		deadline: s.Deadline.Value, patience: s.Patience.Value, codes: codes, sealed: sealed,
		fleet: riders, positions: b.Of("ridersvc").Conn.Positions(riders), radius: float64(f.Radius.Value),
	}, nil
}

// keep returns the task that keeps the time: it ends what is overdue and does what events call for, as the service itself. Every process has one, and
// they share the work.
func (r *Rides) keep(ledger *bus.Ledger, desk *booking.Desk, as *bus.Identity) ([]program.Task, error) {
	if r.kept {
		return nil, nil
	}
	r.kept = true
	steward, err := booking.NewProcessManager(booking.ProcessManagerConfig{
		Desk: desk, Board: r.board, Act: as.Act, Patience: r.patience, Approach: r.fleet.Approach, Begun: time.Now(),
	})
	if err != nil {
		return nil, err
	}
	keeper, err := ledger.Timekeeper(r.board, steward)
	if err != nil {
		return nil, err
	}
	keeper.Fit = func(ctx context.Context) error {
		// Another deadline would come of another clock, and nothing can be ended without a token.
		return errors.Join(r.base.Clock.Right(), as.Ready(ctx))
	}
	return []program.Task{keeper.Run}, nil
}

// UseSnapshots makes the read model start from a snapshot, and keeps one for the next start. All processes that follow the ledger share the key that
// seals it, so that nobody else can make one.
func (r *Rides) UseSnapshots(s setting.Snapshots) error {
	if s.Every.Value == 0 {
		return nil
	}
	err := r.follower.UseSnapshots(bus.SnapshotOptions{
		Key: r.sealed, Keys: r.base.Keys, Revocations: r.base.Revoked, Every: s.Every.Value, Events: uint64(s.Events.Value),
	})
	if err != nil {
		return fmt.Errorf("keep snapshots of the board: %w", err)
	}
	return nil
}

// Part returns the readers that keep it up to date.
func (r *Rides) Part() Part {
	return Part{
		Tasks:  []program.Task{r.follower.Run, r.positions.Run},
		Checks: []web.Check{{Name: "bookings", Ready: r.follower.Ready}},
	}
}

// ledger returns the ledger as one service writes it: source is what its events say of where they come from, and board is the
// one of the process. nil: nothing is shown and nothing is booked there.
func (b *Base) ledger(source string, board *board.Board) (*bus.Ledger, error) {
	o := bus.LedgerOptions{Source: source, Tokens: b.Verifier, Board: board}
	if board != nil {
		o.Shown = board.LastSeq
	}
	if b.Store != nil {
		o.Disk = b.Store.Volume
	}
	ledger, err := bus.OpenLedger(b.Conn, o)
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	return ledger, nil
}

// User returns usersvc, whose own key is in file key.
func (r *Rides) User(s setting.Bookings, h setting.HTTP, w setting.Streams, key string) (Part, error) {
	base := r.base.Of("usersvc")
	identity, err := base.identity("usersvc", key)
	if err != nil {
		return Part{}, err
	}
	ledger, err := base.ledger("/usersvc", r.board)
	if err != nil {
		return Part{}, err
	}
	desk, err := booking.NewDesk(ledger, booking.DeskOptions{Deadline: r.deadline, Tariff: &s.Tariff.Value, Codes: r.codes})
	if err != nil {
		return Part{}, fmt.Errorf("make the desk: %w", err)
	}
	service, err := usersvc.New(usersvc.Config{
		Desk: desk, Board: r.board, Ready: r.follower.Ready, Ledger: ledger, Verifier: r.base.Verifier,
		Fleet: r.fleet, Radius: r.radius,
		Log: r.base.Log.With("service", "usersvc"), Registerer: r.base.Registry,
		TrustedProxies: h.TrustedProxies.Value, Rate: web.Rate{PerMinute: h.RequestLimit.Value}, BookRate: web.Rate{PerMinute: s.Limit.Value},
		Streams: streamLimits(w), Positions: whereabouts{r.fleet},
	})
	if err != nil {
		return Part{}, err
	}
	tasks, err := r.keep(ledger, desk, identity)
	if err != nil {
		return Part{}, err
	}
	leave, err := r.leave(base, ledger, desk, identity)
	if err != nil {
		return Part{}, err
	}
	return Part{
		Handler: service.Routes(), Tasks: append(tasks, identity.Run, ledger.RunFeed, leave),
		Checks: []web.Check{{Name: "identity of usersvc", Ready: identity.Ready}, {Name: "room", Ready: ledger.Room}},
	}, nil
}

// leave returns the task that says what becomes of the rides of people who delete their accounts.
// usersvc does it for riders as well: it may call rides off.
func (r *Rides) leave(base *Base, ledger *bus.Ledger, desk *booking.Desk, as *bus.Identity) (program.Task, error) {
	steward, err := booking.NewProcessManager(booking.ProcessManagerConfig{Desk: desk, Board: r.board, Act: as.Act})
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
			return steward.EndRidesOf(ctx, who)
		}
		return steward.Withdraw(ctx, who)
	}
	return func(ctx context.Context) error { return base.Conn.ServeRides(ctx, answer) }, nil
}

// Rider returns ridersvc, whose own key is in file key.
func (r *Rides) Rider(h setting.HTTP, a setting.Arrival, w setting.Streams, key string) (Part, error) {
	base := r.base.Of("ridersvc")
	identity, err := base.identity("ridersvc", key)
	if err != nil {
		return Part{}, err
	}
	ledger, err := base.ledger("/ridersvc", r.board)
	if err != nil {
		return Part{}, err
	}
	desk, err := booking.NewDesk(ledger, booking.DeskOptions{Deadline: r.deadline, Codes: r.codes})
	if err != nil {
		return Part{}, fmt.Errorf("make the desk: %w", err)
	}
	roster := base.Conn.Roster()
	service, err := ridersvc.New(ridersvc.Config{
		Desk: desk, Board: r.board, Ready: r.follower.Ready, Ledger: ledger, Verifier: r.base.Verifier,
		Fleet: r.fleet, Announce: r.positions.Announce, Roster: roster, Within: float64(a.Within.Value),
		Radius: r.radius, Tell: base.Conn.TellRider,
		Log: r.base.Log.With("service", "ridersvc"), Registerer: r.base.Registry,
		TrustedProxies: h.TrustedProxies.Value, Rate: web.Rate{PerMinute: h.RequestLimit.Value},
		Streams: streamLimits(w),
	})
	if err != nil {
		return Part{}, err
	}
	tasks, err := r.keep(ledger, desk, identity)
	if err != nil {
		return Part{}, err
	}
	return Part{
		Handler: service.Routes(), Tasks: append(tasks, identity.Run, service.Run),
		Checks: []web.Check{{Name: "riders", Ready: roster.Ready}, {Name: "identity of ridersvc", Ready: identity.Ready}},
	}, nil
}

// streamLimits are how many may watch.
func streamLimits(s setting.Streams) web.StreamLimits {
	return web.StreamLimits{PerCaller: s.PerAccount.Value, Total: s.Total.Value}
}

// whereabouts tells the passengers where their riders are.
type whereabouts struct{ *fleet.Map }

var _ usersvc.Positions = whereabouts{}

// Follow tells where a rider is until ctx ends.
func (w whereabouts) Follow(ctx context.Context, rider booking.RiderID, tell func(usersvc.Position)) {
	positions, stop := w.Watch(rider)
	defer stop()
	for {
		select {
		case p := <-positions:
			tell(usersvc.Position{Place: p.Place, At: p.At})
		case <-ctx.Done():
			return
		}
	}
}
