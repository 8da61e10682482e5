// Package leaving has the rides of an account end when the account is deleted. authsvc asks with
// [Withdraw] before, and with [EndRides] afterwards. usersvc and ridersvc answer with [Serve], each
// for the bookings of one role.
package leaving

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
)

// A Notice announces that the account of a user or rider will be deleted, or has been (Gone).
type Notice struct {
	Version int          `json:"v"`
	Account string       `json:"account"`
	Role    booking.Role `json:"role"`
	Gone    bool         `json:"gone,omitempty"`
}

// subjectOf returns where the service answers that owns the bookings of a role.
func subjectOf(r booking.Role) string {
	if r == booking.Rider {
		return bus.RiderRidesSubject
	}
	return bus.UserRidesSubject
}

// A result is the service's answer: empty, or an error.
type result struct {
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	Refused bool   `json:"refused,omitempty"` // by a rule; otherwise something failed
}

const (
	version = 1
	// patience is how long the answer may take, less than an HTTP request may.
	patience = 8 * time.Second
)

// ErrUnknown says that no service answered for the rides of an account.
var ErrUnknown = fault.New(fault.Unavailable, "rides_unknown",
	"Your rides cannot be checked at the moment. Nothing was deleted. Please try again in a moment.").
	After(2 * time.Second)

// Withdraw asks to cancel the open bookings of an account that is about to be deleted.
// Errors: booking.ErrRideUnderWay, ErrUnknown.
func Withdraw(ctx context.Context, c *bus.Conn, account string, role booking.Role) error {
	return ask(ctx, c, Notice{version, account, role, false})
}

// EndRides asks to end the rides of a deleted account that have not begun. Errors:
// booking.ErrRideUnderWay for one that only an operator can end, ErrUnknown.
func EndRides(ctx context.Context, c *bus.Conn, account string, role booking.Role) error {
	return ask(ctx, c, Notice{version, account, role, true})
}

func ask(ctx context.Context, c *bus.Conn, l Notice) error {
	data, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("ask for the rides of an account: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m, err := c.Request(ctx, &nats.Msg{Subject: subjectOf(l.Role), Data: data})
	if err != nil {
		return ErrUnknown.Because(err)
	}
	var a result
	switch err := json.Unmarshal(m.Data, &a); {
	case err != nil:
		return ErrUnknown.Because(err)
	case a.Code == "":
		return nil
	case a.Refused:
		return fault.New(fault.Conflict, a.Code, a.Message)
	}
	return ErrUnknown.Because(errors.New(a.Code + ": " + a.Message))
}

// Serve answers Withdraw and EndRides for accounts of a role until ctx ends, and then returns
// nil. Instances share the requests.
func Serve(
	ctx context.Context, c *bus.Conn, role booking.Role, answer func(context.Context, Notice) error,
) error {
	subject := subjectOf(role)
	sub, err := c.NATS().QueueSubscribe(subject, "rides", func(m *nats.Msg) {
		go reply(ctx, c.Log(), m, role, answer)
	})
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	<-ctx.Done()
	_ = sub.Unsubscribe() // fails without a connection, and then there is no subscription
	return nil
}

func reply(
	ctx context.Context, log *slog.Logger, m *nats.Msg, role booking.Role, answer func(context.Context, Notice) error,
) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var l Notice
	err := json.Unmarshal(m.Data, &l)
	if err == nil && (l.Version != version || !booking.ValidID(l.Account) || l.Role != role) {
		err = errors.New("it names no account")
	}
	if err == nil {
		err = answer(ctx, l)
	}
	var a result
	if err != nil {
		f := fault.From(err)
		a = result{f.Code, f.Message, f.Kind == fault.Conflict}
		if !a.Refused {
			log.Warn("the rides of a deleted account were not ended", "account", l.Account, "gone", l.Gone, "error",
				err)
		}
	}
	data, err := json.Marshal(a)
	if err == nil {
		err = m.Respond(data)
	}
	if err != nil {
		log.Warn("the question about the rides of an account was not answered", "account", l.Account, "error", err)
	}
}
