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

// bookingCommands are for rides that neither user nor raider can end, for example because a
// raider's phone is dead. They work beside the running services, which follow at once.
type bookingCommands struct {
	List    listBookings   `cmd:"" help:"List bookings, newest first; by default those that have not ended."`
	Show    showBooking    `cmd:"" help:"Show the current state of a booking."`
	Cancel  changeBooking  `cmd:"" help:"Cancel a booking, in any state that is not final."`
	Release releaseBooking `cmd:"" help:"Take a booking from its raider and open it to others."`
}

// bookingFlags holds the flags of all booking commands.
type bookingFlags struct {
	JSON                 setting.Switch   `name:"json" help:"Print JSON, one booking per line."`
	Timeout              setting.Duration `name:"timeout" env:"OPERATOR_TIMEOUT" default:"30s" min:"1s" max:"24h" placeholder:"DURATION" help:"Time limit of the command (default: ${default})."`
	wiring.OperatorFlags `set:"log_level=error"`
}

type listBookings struct {
	State string        `name:"state" default:"open,accepted,arrived,started" placeholder:"STATES" help:"States to list, separated by commas (default: ${default})."`
	User  string        `name:"user" xor:"whose" placeholder:"ID" help:"List only the bookings of the user with this id."`
	Rider string        `name:"raider" xor:"whose" placeholder:"ID" help:"List only the bookings that the raider with this id has or has ended."`
	Limit setting.Count `name:"limit" default:"100" min:"1" max:"1000000" placeholder:"N" help:"Maximum number of bookings (default: ${default})."`
	bookingFlags
}

type showBooking struct {
	ID string `arg:"" name:"booking" help:"ID of the booking."`
	bookingFlags
}

type changeBooking struct {
	Reason string `name:"reason" required:"" placeholder:"WORDS" help:"Reason, which stays in the ledger. The user sees the reason of a cancellation."`
	showBooking
}

type releaseBooking struct {
	Deadline setting.Duration `name:"booking-deadline" env:"BOOKING_DEADLINE" default:"2m" min:"1s" max:"24h" placeholder:"DURATION" help:"How long the booking waits for another raider (default: ${default})."`
	changeBooking
}

// errWhose refuses an email where a booking has an id: every list would be empty.
var errWhose = fault.New(fault.Invalid, "whose", "--user and --raider take the id of an account, which has "+
	"26 characters. Find it by the email with: authsvc accounts show")

// errNoReason means that --reason is blank.
var errNoReason = fault.New(fault.Invalid, "reason", "Give a reason with --reason. It stays in the ledger.")

// operate calls do with an operator's session and prints the bookings that do returns.
func (f bookingFlags) operate(
	ctx context.Context, env program.Env, deadline time.Duration,
	do func(context.Context, wiring.OperatorSession) ([]booking.Booking, error),
) error {
	ctx, cancel := context.WithTimeout(ctx, f.Timeout.Value)
	defer cancel()
	o := f.Operator(env, "pillion bookings")
	return o.Session(ctx, deadline, func(ctx context.Context, s wiring.OperatorSession) error {
		found, err := do(ctx, s)
		if err != nil {
			return plain(err)
		}
		return printBookings(env.Stdout, f.JSON.On, found)
	})
}

// plain reduces the refusal of a command to the first sentence of its message: the operator has
// asked for something that is not possible. A cause would not help, and the rest of the message
// advises users and riders.
func plain(err error) error {
	f := fault.From(err)
	if f.Look != "" {
		return f.Saying(f.Message + " Check with: pillion bookings show")
	}
	switch f.Kind {
	case fault.Internal, fault.Unavailable, fault.Invalid:
		return err
	default:
		what, _, _ := strings.Cut(f.Message, ". ")
		return errors.New(strings.TrimSuffix(what, ".") + ".")
	}
}

func (c listBookings) Run(ctx context.Context, env program.Env) error {
	if whose := c.User + c.Rider; whose != "" && !booking.ValidID(whose) {
		return errWhose
	}
	var states []booking.State
	for name := range strings.SplitSeq(c.State, ",") {
		s, err := booking.ParseState(strings.TrimSpace(name))
		if err != nil {
			return err
		}
		states = append(states, s)
	}
	limit := c.Limit.Value
	list := func(b *board.Board) []booking.Booking {
		only := board.InState(states...)
		switch {
		case c.User != "":
			return b.OfUser(booking.UserID(c.User), limit+1, 0, only)
		case c.Rider != "":
			return b.OfRider(booking.RiderID(c.Rider), limit+1, 0, only)
		}
		return b.Newest(limit+1, 0, only)
	}
	return c.operate(ctx, env, time.Hour, func(ctx context.Context, s wiring.OperatorSession) ([]booking.Booking,
		error) {
		found, err := s.List(ctx, list)
		if len(found) > limit {
			found = found[:limit]
			fmt.Fprintf(env.Stderr, "There are more. These are the newest %d; list more with --limit.\n", limit)
		}
		return found, err
	})
}

func (c showBooking) Run(ctx context.Context, env program.Env) error {
	return c.operate(ctx, env, time.Hour, func(ctx context.Context, s wiring.OperatorSession) ([]booking.Booking,
		error) {
		b, err := s.Show(ctx, booking.ID(c.ID))
		return []booking.Booking{b}, err
	})
}

func (c changeBooking) Run(ctx context.Context, env program.Env) error {
	return c.run(ctx, env, time.Hour, func(s wiring.OperatorSession) change { return s.Cancel })
}

func (c releaseBooking) Run(ctx context.Context, env program.Env) error {
	return c.run(ctx, env, c.Deadline.Value, func(s wiring.OperatorSession) change { return s.Release })
}

// A change is a command of an operator to a booking, with a reason.
type change func(context.Context, booking.ID, string) (booking.Booking, error)

func (c changeBooking) run(
	ctx context.Context, env program.Env, deadline time.Duration, change func(wiring.OperatorSession) change,
) error {
	if strings.TrimSpace(c.Reason) == "" {
		return errNoReason
	}
	return c.operate(ctx, env, deadline, func(ctx context.Context, s wiring.OperatorSession) ([]booking.Booking,
		error) {
		b, err := change(s)(ctx, booking.ID(c.ID), c.Reason)
		return []booking.Booking{b}, err
	})
}

// line is a booking as JSON, without the user's start code.
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
			if err := lines.Encode(line{
				b.ID, b.State, b.User, b.Rider, b.Pickup, b.Dropoff, b.Quote,
				jsontime.Time(b.RequestedAt), jsontime.Time(b.UpdatedAt), jsontime.Time(b.Deadline), b.Reason,
			}); err != nil {
				return err
			}
		}
		return nil
	}
	if len(found) == 0 {
		_, err := fmt.Fprintln(w, "There are no such bookings.")
		return err
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
