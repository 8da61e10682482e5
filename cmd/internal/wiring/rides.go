package wiring

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/feed"
	"github.com/example/pillion/bus/leaving"
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
	"github.com/example/pillion/web/bookings"
)

// Rides holds what usersvc and ridersvc share in a process: the board, so that each event is
// verified and stored once, and the map of riders.
type Rides struct {
	base      *Base
	board     *board.Board
	ledger    *ledger.Ledger
	follower  *ledger.Follower
	deadline  time.Duration
	patience  time.Duration
	codes     *booking.StartCodes
	sealed    []byte // the MAC key of snapshots
	fleet     *fleet.Map
	positions *natsfleet.Positions
	radius    float64 // metres
}

// Rides returns the shared part of usersvc and ridersvc. It reads the secret at secretPath, or
// creates it. Run its Component as well.
func (b *Base) Rides(s setting.Rides, f setting.Fleet, secretPath string) (*Rides, error) {
	shared, err := loadSecret(ridesSecret, secretPath, newSecret)
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
	b.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "pillion", Name: "board_sequence", Help: "Up to which message of the ledger the board goes.",
	}, func() float64 { return float64(board.Seq()) }))
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
		base: b, board: board, ledger: ledger, follower: ledger.Follow(board),
		deadline: s.Deadline.Value, patience: s.Patience.Value, codes: codes, sealed: sealed,
		fleet: riders, positions: natsfleet.NewPositions(b.Of("ridersvc").Conn, riders),
		radius: float64(f.Radius.Value),
	}, nil
}

// schedule returns the task that does what is due for the system, as the service itself. All
// processes of the service share the work.
func (r *Rides) schedule(m *member, consumer string, handler timers.Handler) (program.Task, error) {
	s, err := timers.NewScheduler(m.ledger, r.follower, consumer, handler)
	if err != nil {
		return nil, err
	}
	s.Fit = func(ctx context.Context) error {
		// A wrong clock would expire bookings at the wrong time, and without a token nothing can be
		// expired.
		return errors.Join(r.base.Clock.Right(), m.identity.Ready(ctx))
	}
	return s.Run, nil
}

// UseSnapshots loads the board from a snapshot at start, and stores new ones, unless the settings
// switch it off. All processes that follow the ledger share the key that authenticates snapshots.
func (r *Rides) UseSnapshots(s setting.Snapshots) error {
	promauto.With(r.base.Registry).NewGauge(prometheus.GaugeOpts{
		Namespace: "pillion", Name: "board_snapshot_interval_seconds",
		Help: "How often a snapshot is due while events are stored; 0: never.",
	}).Set(s.Every.Value.Seconds())
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
	o := ledger.Options{Source: source, Tokens: b.Verifier, Epoch: b.epoch, Board: board, Latest: b.latest}
	if board != nil {
		o.Shown = board.LastSeq
	}
	if b.Store != nil {
		o.Disk, o.GroupFrom = b.Store.Volume, ledger.GroupBatches
	}
	if b.Syncs {
		o.GroupFrom = ledger.GroupPays
	}
	ledger, err := ledger.Open(b.Conn, o)
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	return ledger, nil
}

// member is what usersvc and ridersvc are both made of.
type member struct {
	*Base
	identity *trust.Identity
	ledger   *ledger.Ledger
	config   bookings.Config
	manager  *booking.ProcessManager // issues the commands that no person issues
	tasks    []program.Task
}

// member returns the parts of a service, which owns the bookings of accounts in a role. key is the
// file with its service key. Tariff may be nil.
func (r *Rides) member(
	name, key string, role booking.Role, h setting.HTTP, w setting.Streams, tariff *booking.Tariff,
) (m member, err error) {
	m.Base = r.base.Of(name)
	if m.identity, err = m.Base.identity(name, key); err != nil {
		return m, err
	}
	if m.ledger, err = m.Base.ledger("/"+name, r.board); err != nil {
		return m, err
	}
	desk, err := booking.NewDesk(m.ledger, booking.DeskOptions{Deadline: r.deadline, Tariff: tariff, Codes: r.codes})
	if err != nil {
		return m, fmt.Errorf("make the desk: %w", err)
	}
	m.config = bookings.Config{
		Desk: desk, Board: r.board, Ready: r.follower.Ready, Ledger: m.ledger, Verifier: r.base.Verifier,
		Fleet: r.fleet, Radius: r.radius, Log: r.base.Log.With("service", name), Registerer: r.base.Registry,
		Tracer: m.Conn.Tracer(), TrustedProxies: h.TrustedProxies.Value,
		Rate: web.Rate{PerMinute: h.RequestLimit.Value}, Origins: h.Origins.Value,
		Streams: streamLimits(w), Story: r.story,
	}
	m.manager, err = booking.NewProcessManager(booking.ProcessManagerConfig{
		Desk: desk, Board: r.board, Act: m.identity.Act, Patience: r.patience, Approach: r.fleet.Approach,
		Begun: time.Now(),
	})
	m.tasks = []program.Task{m.identity.Run, r.leave(m, role)}
	return m, err
}

func streamLimits(w setting.Streams) web.StreamLimits {
	return web.StreamLimits{PerCaller: w.PerAccount.Value, Total: w.Total.Value}
}

// hasTimers checks that the service's consumer of timers exists, which older versions do not make.
func (m member) hasTimers(service, consumer string) web.Check {
	ready := func(ctx context.Context) error { return m.Conn.HasTimers(ctx, consumer) }
	return web.Check{Name: "timers of " + service, Ready: ready}
}

// User returns usersvc. key is the file with its service key.
func (r *Rides) User(s setting.Bookings, h setting.HTTP, w setting.Streams, key string) (Component, error) {
	m, err := r.member("usersvc", key, booking.User, h, w, &s.Tariff.Value)
	if err != nil {
		return Component{}, err
	}
	service, err := usersvc.New(usersvc.Config{
		Config: m.config, BookRate: web.Rate{PerMinute: s.Limit.Value},
		AvailabilityRate: web.Rate{PerMinute: s.Near.Value}, OpenBookings: s.Open.Value,
	})
	if err != nil {
		return Component{}, err
	}
	expire, err := r.schedule(&m, bus.ExpiriesConsumer, booking.Expiries{ProcessManager: m.manager})
	if err != nil {
		return Component{}, err
	}
	publish := func(ctx context.Context) error { return feed.Run(ctx, m.ledger, r.follower) }
	return Component{
		Handler: service.Routes(), Tasks: append(m.tasks, expire, publish, m.measures(bus.LedgerStream,
			bus.QuarantineStream, bus.TimersStream, bus.BoardsBucket, bus.TurnsBucket)),
		Checks: []web.Check{{Name: "identity of usersvc", Ready: m.identity.Ready},
			m.hasTimers("usersvc", bus.ExpiriesConsumer), {Name: "room", Ready: m.ledger.Room}},
	}, nil
}

// leave returns the task that ends the rides of deleted accounts in a role.
func (r *Rides) leave(m member, role booking.Role) program.Task {
	answer := func(ctx context.Context, l leaving.Notice) error {
		last, err := m.ledger.LastSequence(ctx)
		if err == nil {
			err = r.follower.Ready(ctx)
		}
		if err == nil {
			err = r.board.Await(ctx, last)
		}
		who := booking.Actor{ID: l.Account, Role: l.Role}
		switch {
		case err != nil:
			return leaving.ErrUnknown.Because(err)
		case l.Gone:
			return m.manager.EndRidesOf(ctx, who)
		}
		return m.manager.Withdraw(ctx, who)
	}
	return func(ctx context.Context) error { return leaving.Serve(ctx, m.Conn, role, answer) }
}

// Rider returns ridersvc. key is the file with its service key.
func (r *Rides) Rider(h setting.HTTP, a setting.Arrival, w setting.Streams, key string) (Component, error) {
	m, err := r.member("ridersvc", key, booking.Rider, h, w, nil)
	if err != nil {
		return Component{}, err
	}
	roster := natsfleet.NewRoster(m.Conn)
	service, err := ridersvc.New(ridersvc.Config{
		Config: m.config, Announce: r.positions.Announce, Roster: roster, Within: float64(a.Within.Value),
		Tell: func(o feed.Offer) error { return feed.SendOffer(m.Conn, o) },
	})
	if err != nil {
		return Component{}, err
	}
	release, err := r.schedule(&m, bus.ReleasesConsumer, booking.Releases{ProcessManager: m.manager})
	if err != nil {
		return Component{}, err
	}
	return Component{
		Handler: service.Routes(), Tasks: append(m.tasks, service.Run, release, m.measures(bus.RidersBucket)),
		Checks: []web.Check{{Name: "riders", Ready: roster.Ready},
			{Name: "identity of ridersvc", Ready: m.identity.Ready},
			m.hasTimers("ridersvc", bus.ReleasesConsumer)},
	}, nil
}
