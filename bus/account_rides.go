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

// A Leaving says that the account of a user or rider is to be deleted, or is gone.
type Leaving struct {
	Version int          `json:"v"`
	Account string       `json:"account"`
	Role    booking.Role `json:"role"`
	Gone    bool         `json:"gone,omitempty"`
}

// leavingAnswer is what the service of users says to it: nothing, or why not.
type leavingAnswer struct {
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	Refused bool   `json:"refused,omitempty"` // else it could not be done now
}

const (
	leavingVersion = 1
	// leavingPatience is how long the rides of an account are waited for. It is less than a request
	// to a service has.
	leavingPatience = 8 * time.Second
)

// ErrRidesUnknown is that nobody says what rides an account has.
var ErrRidesUnknown = fault.New(fault.Unavailable, "rides_unknown",
	"It cannot be seen at the moment whether you have a ride that is not over. Nothing was deleted. Please try again in a moment.").After(2 * time.Second)

// Withdraw asks the service of users to call off what is open of somebody who is about to delete
// their account. Errors: booking.ErrRideUnderWay, ErrRidesUnknown.
func (c *Conn) Withdraw(ctx context.Context, account string, role booking.Role) error {
	return c.leaving(ctx, Leaving{leavingVersion, account, role, false})
}

// Bereave asks the service of users to end the rides of somebody whose account is gone. Errors:
// ErrRidesUnknown.
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
	m, err := c.Request(ctx, &nats.Msg{Subject: subjectRides, Data: data})
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

// ServeRides answers what Withdraw and Bereave ask, until ctx ends, and then returns nil. Instances
// share the requests.
func (c *Conn) ServeRides(ctx context.Context, answer func(context.Context, Leaving) error) error {
	sub, err := c.nc.QueueSubscribe(subjectRides, "usersvc", func(m *nats.Msg) {
		go c.answerRides(ctx, m, answer)
	})
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subjectRides, err)
	}
	<-ctx.Done()
	_ = sub.Unsubscribe() // it fails when the connection is gone, and with it the subscription
	return nil
}

func (c *Conn) answerRides(ctx context.Context, m *nats.Msg, answer func(context.Context, Leaving) error) {
	ctx, cancel := context.WithTimeout(ctx, leavingPatience)
	defer cancel()
	var l Leaving
	err := json.Unmarshal(m.Data, &l)
	if err == nil && (l.Version != leavingVersion || !booking.ValidID(l.Account) || l.Role != booking.User && l.Role != booking.Rider) {
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
			c.log.Warn("rides of an account that is deleted", "account", l.Account, "gone", l.Gone, "error", err)
		}
	}
	data, err := json.Marshal(a)
	if err == nil {
		err = m.Respond(data)
	}
	if err != nil {
		c.log.Warn("nobody is told of the rides of an account", "account", l.Account, "error", err)
	}
}
