package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/jsontime"
)

// bookingCommands are an operator's, for rides that nobody else can bring to an end: the rider's phone is dead, say. They work beside the running
// services, which follow at once.
type bookingCommands struct {
	List    listBookings   `cmd:"" help:"List bookings, newest first: those under way, unless other states are asked for."`
	Show    showBooking    `cmd:"" help:"Show one booking as the ledger has it now."`
	Cancel  changeBooking  `cmd:"" help:"Call a ride off, at whatever stage it is."`
	Release releaseBooking `cmd:"" help:"Take a booking from its raider, for others to accept."`
}

// office is where the bookings are, and as whom an operator works on them.
type office struct {
	JSON    setting.Switch   `name:"json" help:"Print JSON, a booking a line."`
	Timeout setting.Duration `name:"timeout" env:"OPERATOR_TIMEOUT" default:"30s" min:"1s" max:"24h" placeholder:"DURATION" help:"How long the command may take (default: ${default})."`
	setting.ServiceKey
	setting.Remote
	Level  setting.Choice `name:"log-level" env:"LOG_LEVEL" default:"error" oneof:"debug info warn error" placeholder:"LEVEL" group:"Log:" help:"debug, info, warn or error (default: ${default})."`
	Format setting.Choice `name:"log-format" env:"LOG_FORMAT" default:"" oneof:"text json" placeholder:"FORMAT" group:"Log:" help:"text or json (default: text on a terminal, else json)."`
}

type listBookings struct {
	State string        `name:"state" default:"open,accepted,arrived,started" placeholder:"STATES" help:"In these states only, separated by commas (default: ${default})."`
	User  string        `name:"user" xor:"whose" placeholder:"ID" help:"Of this user only."`
	Rider string        `name:"raider" xor:"whose" placeholder:"ID" help:"Those that this raider has, or had to their end."`
	Limit setting.Count `name:"limit" default:"100" min:"1" max:"1000000" placeholder:"N" help:"So many at most (default: ${default})."`
	office
}

type showBooking struct {
	ID string `arg:"" name:"booking" help:"The booking's id."`
	office
}

type changeBooking struct {
	Reason string `name:"reason" required:"" placeholder:"WORDS" help:"Why. It stays in the ledger, and the user sees why a ride was cancelled."`
	showBooking
}

type releaseBooking struct {
	Deadline setting.Duration `name:"booking-deadline" env:"BOOKING_DEADLINE" default:"2m" min:"1s" max:"24h" placeholder:"DURATION" help:"How long it waits for another raider (default: ${default})."`
	changeBooking
}

// errNoReason refuses what nobody could explain afterwards.
var errNoReason = fault.New(fault.Invalid, "reason", "Say why, with --reason: it stays in the ledger.")

// operate lets do work on bookings, and prints those that it returns.
func (o office) operate(ctx context.Context, env program.Env, deadline time.Duration, do func(context.Context, wiring.Office) ([]booking.Booking, error)) error {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout.Value)
	defer cancel()
	log := env.Logger(setting.Log{Level: o.Level, Format: o.Format})
	at := wiring.At(o.Remote, "pillion bookings")
	return wiring.Operate(ctx, log, at, o.Path("operator"), deadline, func(ctx context.Context, office wiring.Office) error {
		found, err := do(ctx, office)
		if err != nil {
			return told(err)
		}
		return printBookings(env.Stdout, o.JSON.On, found)
	})
}

// told makes a refusal its own sentence: an operator has asked for what is not possible, and there is nothing to look into.
func told(err error) error {
	f := fault.From(err)
	if f.Look != "" {
		return f.Saying(f.Message + " pillion bookings show tells whether it was.")
	}
	switch f.Kind {
	case fault.Internal, fault.Unavailable, fault.Invalid:
		return err
	default:
		return errors.New(f.Message)
	}
}

func (c listBookings) run(ctx context.Context, env program.Env) error {
	var states []booking.State
	for name := range strings.SplitSeq(c.State, ",") {
		s, err := booking.ParseState(strings.TrimSpace(name))
		if err != nil {
			return err
		}
		states = append(states, s)
	}
	list := func(b *board.Board) []booking.Booking {
		only := board.InState(states...)
		switch {
		case c.User != "":
			return b.OfUser(booking.UserID(c.User), c.Limit.Value, 0, only)
		case c.Rider != "":
			return b.OfRider(booking.RiderID(c.Rider), c.Limit.Value, 0, only)
		}
		return b.Newest(c.Limit.Value, 0, only)
	}
	return c.operate(ctx, env, time.Hour, func(ctx context.Context, o wiring.Office) ([]booking.Booking, error) { return o.List(ctx, list) })
}

func (c showBooking) run(ctx context.Context, env program.Env) error {
	return c.operate(ctx, env, time.Hour, func(ctx context.Context, o wiring.Office) ([]booking.Booking, error) {
		b, err := o.Show(ctx, booking.ID(c.ID))
		return []booking.Booking{b}, err
	})
}

// A change is what an operator does to a booking, for a reason.
type change func(context.Context, booking.ID, string) (booking.Booking, error)

func (c changeBooking) run(ctx context.Context, env program.Env, deadline time.Duration, change func(wiring.Office) change) error {
	if strings.TrimSpace(c.Reason) == "" {
		return errNoReason
	}
	return c.operate(ctx, env, deadline, func(ctx context.Context, o wiring.Office) ([]booking.Booking, error) {
		b, err := change(o)(ctx, booking.ID(c.ID), c.Reason)
		return []booking.Booking{b}, err
	})
}

// line is a booking for programs. The passenger's start code is not in it.
type line struct {
	Booking booking.ID      `json:"booking_id"`
	State   booking.State   `json:"state"`
	User    booking.UserID  `json:"user_id"`
	Rider   booking.RiderID `json:"raider_id,omitempty"`
	Pickup  *booking.Place  `json:"pickup,omitempty"`
	Dropoff *booking.Place  `json:"dropoff,omitempty"`
	*booking.Quote
	RequestedAt jsontime.Time `json:"requested_at"`
	UpdatedAt   jsontime.Time `json:"updated_at"`
	Deadline    jsontime.Time `json:"deadline"`
	Reason      string        `json:"reason,omitempty"`
}

func printBookings(w io.Writer, asJSON bool, found []booking.Booking) error {
	if asJSON {
		lines := json.NewEncoder(w)
		for _, b := range found {
			if err := lines.Encode(line{b.ID, b.State, b.User, b.Rider, b.Pickup, b.Dropoff, b.Quote, jsontime.Time(b.RequestedAt), jsontime.Time(b.UpdatedAt), jsontime.Time(b.Deadline), b.Reason}); err != nil {
				return err
			}
		}
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if _, err := fmt.Fprintln(table, "BOOKING\tSTATE\tUSER\tRAIDER\tREQUESTED\tUPDATED\tREASON"); err != nil {
		return err
	}
	for _, b := range found {
		if _, err := fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", b.ID, b.State, b.User, b.Rider,
			b.RequestedAt.Format(time.RFC3339), b.UpdatedAt.Format(time.RFC3339), b.Reason); err != nil {
			return err
		}
	}
	return table.Flush()
}
