package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/feed"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/internal/retry"
)

// watch is the command that shows events, one per line, until Ctrl-C.
type watch struct {
	ID      string           `arg:"" optional:"" name:"booking" help:"ID of a booking to follow from its first event to its end (default: all bookings, from now on)."`
	JSON    setting.Switch   `name:"json" help:"Print JSON, one event per line."`
	Timeout setting.Duration `name:"timeout" env:"OPERATOR_TIMEOUT" default:"30s" min:"1s" max:"24h" placeholder:"DURATION" help:"Time limit of the start (default: ${default})."`
	// a lost connection is worth a line in the log
	wiring.OperatorFlags `set:"log_level=warn"`
}

const (
	// recent is how many events are remembered: the feed repeats its last second after a crash.
	recent = 10_000
	// lookAgain is how often a booking is read although the feed is silent.
	lookAgain = 2 * time.Second
)

// Run shows events until ctx ends, or the booking does.
func (c watch) Run(ctx context.Context, env program.Env) error {
	starting, cancel := context.WithCancel(ctx)
	defer cancel()
	limit := time.AfterFunc(c.Timeout.Value, cancel)
	p := printer{to: env.Stdout, json: c.JSON.On, color: program.IsTerminal(env.Stdout)}
	return c.Operator(env, "pillion watch").Session(starting, time.Hour,
		func(ctx context.Context, s wiring.OperatorSession) error {
			limit.Stop()
			if c.ID == "" {
				return watchAll(ctx, s, p)
			}
			return watchOne(ctx, s, booking.ID(c.ID), p)
		})
}

// watchAll shows what the feed publishes.
func watchAll(ctx context.Context, s wiring.OperatorSession, p printer) error {
	seen, err := lru.New[booking.EventID, bool](recent)
	if err != nil {
		return fmt.Errorf("remember events: %w", err)
	}
	events := make(chan feed.Event)
	err = s.Feed(ctx, bus.FeedBookingPattern, func(e feed.Event) {
		select {
		case events <- e:
		case <-ctx.Done():
		}
	})
	if err != nil {
		return err
	}
	p.header()
	for {
		select {
		case e := <-events:
			if known, _ := seen.ContainsOrAdd(e.Event, true); known {
				continue
			}
			err := p.print(eventLine{Booking: e.Booking, N: e.N, Event: e.Kind, State: e.State, Role: e.Role,
				At: jsontime.Time(e.At)})
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// watchOne shows the events of a booking until it is over. It reads them from the ledger, and
// verifies them. The feed only says when to read, so a lost connection loses no event.
func watchOne(ctx context.Context, s wiring.OperatorSession, id booking.ID, p printer) error {
	if _, err := s.Show(ctx, id); err != nil {
		return plain(err)
	}
	news := make(chan struct{}, 1)
	err := s.Feed(ctx, bus.FeedOfBooking(string(id)), func(feed.Event) {
		select {
		case news <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	p.header()
	for shown := 0; ; {
		h, err := s.Ledger().Load(ctx, id, booking.Fresh)
		if err != nil && ctx.Err() == nil && !retry.Unavailable(err) {
			return err
		}
		changes := h.Changes()
		for _, c := range changes[min(shown, len(changes)):] {
			err := p.print(eventLine{Booking: id, N: c.Event.N, Event: c.Event.Kind, State: c.Booking.State,
				Role: c.Event.Actor.Role, Actor: c.Event.Actor.ID, At: jsontime.Time(c.Event.At),
				Reason: c.Event.Reason})
			if err != nil {
				return err
			}
			shown++
		}
		switch h.Booking.State {
		case booking.StateCompleted, booking.StateCancelled, booking.StateExpired:
			return nil
		}
		select {
		case <-news:
		case <-again.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// eventLine is an event as JSON. The feed does not say who caused it, and why.
type eventLine struct {
	Booking booking.ID    `json:"booking_id"`
	N       int           `json:"n"`
	Event   booking.Kind  `json:"event"`
	State   booking.State `json:"state"` // of the booking, after it
	Role    booking.Role  `json:"role"`
	Actor   string        `json:"actor,omitempty"`
	At      jsontime.Time `json:"at"`
	Reason  string        `json:"reason,omitempty"`
}

// A printer writes events, one per line.
type printer struct {
	to    io.Writer
	json  bool
	color bool
}

// header writes the names of the columns. It shows that the watch has begun.
func (p printer) header() {
	if !p.json {
		fmt.Fprintf(p.to, "%-24s  %-26s  %2s  %-18s  %-9s  %s\n", "TIME", "BOOKING", "N", "EVENT", "STATE", "BY")
	}
}

func (p printer) print(e eventLine) error {
	if p.json {
		return json.NewEncoder(p.to).Encode(e)
	}
	event, by := fmt.Sprintf("%-18s", e.Event), string(e.Role)
	if p.color {
		event = "\x1b[" + colors[e.Event] + "m" + event + "\x1b[0m"
	}
	if e.Actor != "" {
		by += " " + e.Actor
	}
	if e.Reason != "" {
		by += ": " + e.Reason
	}
	_, err := fmt.Fprintf(p.to, "%s  %s  %2d  %s  %-9s  %s\n", jsontime.Format(time.Time(e.At)), e.Booking, e.N, event,
		e.State, by)
	return err
}

// colors are the colours of events on a terminal, by their ANSI codes.
var colors = map[booking.Kind]string{
	booking.Requested: "36",                                               // cyan
	booking.Accepted:  "34", booking.Arrived: "34", booking.Started: "34", // blue
	booking.Completed: "32", booking.Rated: "32", booking.RiderRated: "32", // green
	booking.Released: "33", booking.OperatorReleased: "33", booking.StartRefused: "33", // yellow
	booking.Cancelled: "31", booking.OperatorCancelled: "31", booking.Expired: "31", // red
}
