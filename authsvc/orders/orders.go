// Package orders carries out what operators command: changes of accounts and of the signing keys.
//
// authsvc takes an [Order] over NATS and gives it to a [Handler]. An operator's command that has
// authsvc's secrets uses a Handler of its own.
package orders

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/keys"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/retry"
	"github.com/example/pillion/token"
)

// An Order is an operator's command about one account, or about the keys.
type Order struct {
	Command string    `json:"command"` // disable, for example
	Who     string    `json:"who,omitempty"`
	Role    string    `json:"role,omitempty"`
	AsOf    time.Time `json:"as_of,omitzero"`
	Keys    []string  `json:"keys,omitempty"`  // kids
	Actor   string    `json:"actor,omitempty"` // for the audit trail
}

// An Outcome is what an order has done.
type Outcome struct {
	Account authsvc.Account `json:"account,omitzero"` // without secrets
	Code    string          `json:"code,omitempty"`   // that sets a new password
	JWKS    json.RawMessage `json:"jwks,omitempty"`   // the set after the change
	At      time.Time       `json:"at,omitzero"`      // when it was changed, by the server's clock
}

// Errors of Handler.
var (
	ErrUnknown = fault.New(fault.Invalid, "unknown_order",
		"This authsvc does not know the command. Use the programs of one version.")
	errNoKeySet = fault.New(fault.NotFound, "no_key_set",
		"There are no keys yet. Start authsvc, which creates the first one.")
	// errRidesLeft says that the rides of a deleted account could not be ended. Its sentence names
	// the account.
	errRidesLeft = fault.New(fault.Unavailable, "rides_left", "The account was deleted.")
	errUnaudited = fault.New(fault.Unavailable, "unaudited", "The audit trail has no entry of the command.")
)

// A Handler carries out orders. All fields are required.
type Handler struct {
	Operator   *authsvc.Operator
	UpdateKeys keys.UpdateSet
	// CloseOldRule returns the set with the old rule ended at the end of the ledger.
	CloseOldRule func(context.Context, *token.KeySet) (*token.KeySet, error)
	// Audit stores an entry of the audit trail.
	Audit func(context.Context, authsvc.Entry) error
	// EndRides is as in authsvc.Config.
	EndRides func(ctx context.Context, account string, role token.Role) error
}

// nextKeyPatience is how long a rotation waits for the next key.
const nextKeyPatience = 15 * time.Second

// Do carries out an order. Errors: ErrUnknown, those of authsvc.Operator and of token.KeySet, and
// of kind fault.Unavailable.
func (h *Handler) Do(ctx context.Context, order Order) (Outcome, error) {
	switch order.Command {
	case "rotate":
		// Right after a rotation the running authsvc is still making the next key.
		untilNextKey := retry.Policy{
			First: 200 * time.Millisecond, Longest: 200 * time.Millisecond, Within: nextKeyPatience,
			When: func(err error) bool { return errors.Is(err, token.ErrNoNextKey) },
		}
		return retry.Get(ctx, untilNextKey, func() (Outcome, error) {
			return h.changeKeys(ctx, order, (*token.KeySet).Rotate)
		})
	case "retire":
		return h.changeKeys(ctx, order, func(set *token.KeySet, now time.Time) (*token.KeySet, error) {
			if order.AsOf.IsZero() {
				return set.Retire(now, now, order.Keys...)
			}
			return set.Retire(now, order.AsOf, order.Keys...)
		})
	case "close-old-rule":
		return h.changeKeys(ctx, order, func(set *token.KeySet, _ time.Time) (*token.KeySet, error) {
			return h.CloseOldRule(ctx, set)
		})
	}
	return h.changeAccount(ctx, order)
}

func (h *Handler) changeKeys(
	ctx context.Context, order Order, change func(*token.KeySet, time.Time) (*token.KeySet, error),
) (Outcome, error) {
	var at time.Time
	was, is, err := h.UpdateKeys(ctx, func(set *token.KeySet, now time.Time) (*token.KeySet, error) {
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
		if err := h.Audit(ctx, authsvc.EntryOfKey(c, order.Actor)); err != nil {
			return Outcome{}, errUnaudited.Saying(
				"The keys were changed, but the audit trail has no entry of it.").Because(err)
		}
	}
	return Outcome{JWKS: is.JWKS(), At: at}, nil
}

func (h *Handler) changeAccount(ctx context.Context, order Order) (out Outcome, err error) {
	type change func(context.Context, authsvc.Account) (authsvc.Account, error)
	do := map[string]change{
		"disable": h.Operator.Disable, "enable": h.Operator.Enable, "approve": h.Operator.Approve,
		"delete": h.Operator.Delete,
		"revoke": func(ctx context.Context, a authsvc.Account) (authsvc.Account, error) {
			return h.Operator.Revoke(ctx, a, order.AsOf)
		},
		"reset-password": func(ctx context.Context, a authsvc.Account) (authsvc.Account, error) {
			out.Code, a, err = h.Operator.ResetPassword(ctx, a)
			return a, err
		},
	}[order.Command]
	if do == nil {
		return Outcome{}, ErrUnknown
	}
	a, err := h.Operator.Find(ctx, order.Who, order.Role)
	if err != nil {
		return Outcome{}, err
	}
	if a, err = do(ctx, a); err != nil {
		return Outcome{}, err
	}
	if err := h.Audit(ctx, authsvc.EntryOf(a, order.Command, order.Actor)); err != nil {
		sentence := "The account was changed, but the audit trail has no entry of it. Run the command again."
		if order.Command == "delete" {
			sentence = "The account was deleted, but the audit trail has no entry of it."
		}
		return Outcome{}, errUnaudited.Saying(sentence).Because(err)
	}
	if order.Command == "delete" {
		if err := h.EndRides(ctx, a.ID, a.Role); err != nil {
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

func ridesLeft(a authsvc.Account) string {
	whose := "--user"
	if a.Role == token.Rider {
		whose = "--raider"
	}
	return fmt.Sprintf("The account was deleted, but not all of its rides could be ended. "+
		"List them with pillion bookings list %s %s, and end them with pillion bookings cancel.", whose, a.ID)
}
