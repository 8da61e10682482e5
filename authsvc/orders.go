package authsvc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/example/pillion/authsvc/keys"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/retry"
	"github.com/example/pillion/token"
)

// An Order is an operator's command about one account, or about the keys. authsvc carries it out,
// and so does an operator's command that has authsvc's secrets.
type Order struct {
	Command string    `json:"command"` // a method of Operator, such as disable; or rotate or retire
	Who     string    `json:"who,omitempty"`
	Role    string    `json:"role,omitempty"`
	AsOf    time.Time `json:"as_of,omitzero"`
	Keys    []string  `json:"keys,omitempty"`  // kids
	Actor   string    `json:"actor,omitempty"` // who says that they give the order, for the audit trail
}

// An Outcome is what an order has done.
type Outcome struct {
	Account Account         `json:"account,omitzero"` // without secrets
	Code    string          `json:"code,omitempty"`   // that sets a new password
	JWKS    json.RawMessage `json:"jwks,omitempty"`   // the set after the change
	At      time.Time       `json:"at,omitzero"`      // when it was changed, by the server's clock
}

// Errors of Orders.
var (
	ErrUnknownOrder = fault.New(fault.Invalid, "unknown_order",
		"This authsvc does not know the command. Use the programs of one version.")
	errNoKeySet = fault.New(fault.NotFound, "no_key_set",
		"There are no keys yet. Start authsvc, which creates the first one.")
	// errRidesLeft says that the rides of a deleted account could not be ended. Its sentence names
	// the account.
	errRidesLeft = fault.New(fault.Unavailable, "rides_left", "The account was deleted.")
	errUnaudited = fault.New(fault.Unavailable, "unaudited", "The audit trail has no entry of the command.")
)

// Orders carries out orders. All fields are required.
type Orders struct {
	Operator   *Operator
	UpdateKeys keys.UpdateSet
	// Audit stores an entry of the audit trail.
	Audit func(context.Context, Entry) error
	// EndRides is as in Config.
	EndRides func(ctx context.Context, account string, role token.Role) error
}

// nextKeyPatience is how long a rotation waits for the next key.
const nextKeyPatience = 15 * time.Second

// Do carries out an order. Errors: ErrUnknownOrder, those of Operator and of token.KeySet, and of
// kind fault.Unavailable.
func (o *Orders) Do(ctx context.Context, order Order) (Outcome, error) {
	switch order.Command {
	case "rotate":
		// Right after a rotation the running authsvc is still making the next key.
		untilNextKey := retry.Policy{
			First: 200 * time.Millisecond, Longest: 200 * time.Millisecond, Within: nextKeyPatience,
			When: func(err error) bool { return errors.Is(err, token.ErrNoNextKey) },
		}
		return retry.Get(ctx, untilNextKey, func() (Outcome, error) {
			return o.changeKeys(ctx, order, (*token.KeySet).Rotate)
		})
	case "retire":
		return o.changeKeys(ctx, order, func(set *token.KeySet, now time.Time) (*token.KeySet, error) {
			if order.AsOf.IsZero() {
				return set.Retire(now, now, order.Keys...)
			}
			return set.Retire(now, order.AsOf, order.Keys...)
		})
	}
	return o.changeAccount(ctx, order)
}

func (o *Orders) changeKeys(
	ctx context.Context, order Order, change func(*token.KeySet, time.Time) (*token.KeySet, error),
) (Outcome, error) {
	var at time.Time
	was, is, err := o.UpdateKeys(ctx, func(set *token.KeySet, now time.Time) (*token.KeySet, error) {
		if set == nil {
			return nil, errNoKeySet
		}
		at = now
		return change(set, now)
	})
	if err != nil {
		return Outcome{}, err
	}
	for _, c := range keys.Changes(was, is) {
		if err := o.Audit(ctx, EntryOfKey(c, order.Actor)); err != nil {
			return Outcome{}, errUnaudited.Saying(
				"The keys were changed, but the audit trail has no entry of it.").Because(err)
		}
	}
	return Outcome{JWKS: is.JWKS(), At: at}, nil
}

func (o *Orders) changeAccount(ctx context.Context, order Order) (out Outcome, err error) {
	do := map[string]func(context.Context, Account) (Account, error){
		"disable": o.Operator.Disable, "enable": o.Operator.Enable, "approve": o.Operator.Approve,
		"delete": o.Operator.Delete,
		"revoke": func(ctx context.Context, a Account) (Account, error) { return o.Operator.Revoke(ctx, a, order.AsOf) },
		"reset-password": func(ctx context.Context, a Account) (Account, error) {
			out.Code, a, err = o.Operator.ResetPassword(ctx, a)
			return a, err
		},
	}[order.Command]
	if do == nil {
		return Outcome{}, ErrUnknownOrder
	}
	a, err := o.Operator.Find(ctx, order.Who, order.Role)
	if err != nil {
		return Outcome{}, err
	}
	if a, err = do(ctx, a); err != nil {
		return Outcome{}, err
	}
	if err := o.Audit(ctx, EntryOf(a, order.Command, order.Actor)); err != nil {
		sentence := "The account was changed, but the audit trail has no entry of it. Run the command again."
		if order.Command == "delete" {
			sentence = "The account was deleted, but the audit trail has no entry of it."
		}
		return Outcome{}, errUnaudited.Saying(sentence).Because(err)
	}
	if order.Command == "delete" {
		if err := o.EndRides(ctx, a.ID, a.Role); err != nil {
			return Outcome{}, errRidesLeft.Saying(ridesLeft(a)).Because(err)
		}
	}
	a.Hash = ""
	if a.Reset != "" {
		a.Reset = "set" // State looks at it
	}
	out.Account = a
	return out, nil
}

func ridesLeft(a Account) string {
	whose := "--user"
	if a.Role == token.Rider {
		whose = "--raider"
	}
	return "The account was deleted, but its rides could not be ended, because usersvc does not answer." +
		fmt.Sprintf(" List them with pillion bookings list %s %s, and end them with pillion bookings cancel.", whose, a.ID)
}
