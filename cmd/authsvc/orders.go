package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/example/pillion/authsvc/orders"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
	"github.com/example/pillion/token/trustkey"
)

// giveOrders holds the settings of who carries out a command that changes something.
type giveOrders struct {
	TrustKey setting.Text `name:"trust-key" placeholder:"FILE" help:"authsvc's trust key, with accounts.secret beside it: carry out the command here, although authsvc is away (default: authsvc carries it out)."`
}

// give has authsvc carry out an order. With the trust key it carries it out itself, on the accounts
// at a place.
func (o giveOrders) give(
	ctx context.Context, conn *bus.Conn, at setting.AccountsAt, order orders.Order,
) (out orders.Outcome, err error) {
	if o.TrustKey.Value != "" {
		key, err := trustkey.Load(o.TrustKey.Value)
		if err != nil {
			return orders.Outcome{}, err
		}
		binding, err := wiring.BindingKey(o.TrustKey.Value)
		if err != nil {
			return orders.Outcome{}, err
		}
		err = withStore(ctx, conn, at, binding, func(store wiring.Accounts) (err error) {
			out, err = wiring.Orders(conn, store, trust.NewAuthority(conn, key, "")).Do(ctx, order)
			return err
		})
		return out, err
	}
	data, err := json.Marshal(order)
	if err == nil {
		data, err = trust.AskAuth(ctx, conn, data)
	}
	if err != nil {
		return orders.Outcome{}, err
	}
	if err := json.Unmarshal(data, &out); err != nil {
		return orders.Outcome{}, fmt.Errorf("read authsvc's answer: %w", err)
	}
	return out, nil
}
