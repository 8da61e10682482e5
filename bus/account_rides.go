package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/fault"
)

// A Leaving announces that the account of a user or rider will be deleted, or has been (Gone).
type Leaving struct {
	Version int          `json:"v"`
	Account string       `json:"account"`
	Role    booking.Role `json:"role"`
	Gone    bool         `json:"gone,omitempty"`
}

// ridesSubject returns where the service answers that owns the bookings of a role.
func ridesSubject(r booking.Role) string {
	if r == booking.Rider {
		return RiderRidesSubject
	}
	return UserRidesSubject
}

// leavingAnswer is the service's answer: empty, or an error.
type leavingAnswer struct {
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	Refused bool   `json:"refused,omitempty"` // by a rule; otherwise something failed
}

const (
	leavingVersion = 1
	// leavingPatience is how long the answer may take, less than an HTTP request may.
	leavingPatience = 8 * time.Second
)

// ErrRidesUnknown says that no service answered for the rides of an account.
var ErrRidesUnknown = fault.New(fault.Unavailable, "rides_unknown",
	"Your rides cannot be checked at the moment. Nothing was deleted. Please try again in a moment.").
	After(2 * time.Second)

// Withdraw asks to cancel the open bookings of an account that is about to be deleted.
// Errors: booking.ErrRideUnderWay, ErrRidesUnknown.
func (c *Conn) Withdraw(ctx context.Context, account string, role booking.Role) error {
	return c.leaving(ctx, Leaving{leavingVersion, account, role, false})
}

// Bereave asks to end the rides of a deleted account that have not begun. Errors:
// booking.ErrRideUnderWay for one that only an operator can end, ErrRidesUnknown.
func (c *Conn) Bereave(ctx context.Context, account string, role booking.Role) error {
	return c.leaving(ctx, Leaving{leavingVersion, account, role, true})
}

func (c *Conn) leaving(ctx context.Context, l Leaving) error {
	data, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("ask for the rides of an account: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, leavingPatience)
	defer cancel()
	m, err := c.Request(ctx, &nats.Msg{Subject: ridesSubject(l.Role), Data: data})
	if err != nil {
		return ErrRidesUnknown.Because(err)
	}
	var a leavingAnswer
	switch err := json.Unmarshal(m.Data, &a); {
	case err != nil:
		return ErrRidesUnknown.Because(err)
	case a.Code == "":
		return nil
	case a.Refused:
		return fault.New(fault.Conflict, a.Code, a.Message)
	}
	return ErrRidesUnknown.Because(errors.New(a.Code + ": " + a.Message))
}

// ServeRides answers Withdraw and Bereave for accounts of a role until ctx ends, and then returns
// nil. Instances share the requests.
func (c *Conn) ServeRides(
	ctx context.Context, role booking.Role, answer func(context.Context, Leaving) error,
) error {
	subject := ridesSubject(role)
	sub, err := c.nc.QueueSubscribe(subject, "rides", func(m *nats.Msg) {
		go c.answerRides(ctx, m, role, answer)
	})
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	<-ctx.Done()
	_ = sub.Unsubscribe() // fails without a connection, and then there is no subscription
	return nil
}

func (c *Conn) answerRides(
	ctx context.Context, m *nats.Msg, role booking.Role, answer func(context.Context, Leaving) error,
) {
	ctx, cancel := context.WithTimeout(ctx, leavingPatience)
	defer cancel()
	var l Leaving
	err := json.Unmarshal(m.Data, &l)
	if err == nil && (l.Version != leavingVersion || !booking.ValidID(l.Account) || l.Role != role) {
		err = errors.New("it names no account")
	}
	if err == nil {
		err = answer(ctx, l)
	}
	var a leavingAnswer
	if err != nil {
		f := fault.From(err)
		a = leavingAnswer{f.Code, f.Message, f.Kind == fault.Conflict}
		if !a.Refused {
			c.log.Warn("the rides of a deleted account were not ended", "account", l.Account, "gone", l.Gone, "error",
				err)
		}
	}
	data, err := json.Marshal(a)
	if err == nil {
		err = m.Respond(data)
	}
	if err != nil {
		c.log.Warn("the question about the rides of an account was not answered", "account", l.Account, "error", err)
	}
}
