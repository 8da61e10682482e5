package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/example/pillion/authsvc/orders"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/trustkey"
)

// keyCommands are the commands about the keys that sign tokens. They have authsvc change the
// published set, which all services watch.
type keyCommands struct {
	List   listKeys   `cmd:"" help:"List the keys of the published set."`
	Rotate rotateKeys `cmd:"" help:"Activate the next key in ten seconds. No request fails."`
	Retire retireKeys `cmd:"" help:"Retire a compromised key everywhere, now: all tokens that it signed stop working."`
	Close  closeRule  `cmd:"" name:"close-old-rule" help:"Once every service is new: refuse the events that builds without event tokens write from now on."`
}

// keySet holds the settings of a command about the set.
type keySet struct {
	JSON                 setting.Switch `name:"json" help:"Print JSON, one key per line."`
	wiring.OperatorFlags `set:"log_level=warn"`
}

// changeKeys holds the settings of a command that changes the set.
type changeKeys struct {
	keySet
	giveOrders
}

type listKeys struct{ keySet }

type rotateKeys struct{ changeKeys }

type retireKeys struct {
	Keys []string `arg:"" name:"kid" help:"Ids of the keys, as keys list shows them."`
	AsOf string   `name:"as-of" placeholder:"TIME" help:"Also reject the events that it signed since that time, such as 2026-03-01T08:00:00Z (default: now)."`
	changeKeys
}

type closeRule struct{ changeKeys }

// open connects to NATS for one command.
func (s keySet) open(ctx context.Context, env program.Env, do func(context.Context, *bus.Conn) error) error {
	return connected(ctx, s.Operator(env, "authsvc keys"), do)
}

func (c listKeys) Run(ctx context.Context, env program.Env) error {
	return c.open(ctx, env, func(ctx context.Context, conn *bus.Conn) error {
		anchor, err := trustkey.LoadAnchor(c.AnchorPath(c.Path(access.Operator)), nil)
		if err == nil {
			err = anchor.Ready()
		}
		if err != nil {
			return err
		}
		watch := trust.NewKeyWatch(conn, anchor, 0, new(trust.Epoch))
		watch.Refresh(ctx)
		set, at, err := watch.KeySet()
		if err != nil {
			return watch.Ready(ctx)
		}
		return c.print(env, set, at)
	})
}

func (c rotateKeys) Run(ctx context.Context, env program.Env) error {
	return c.change(ctx, env, orders.Order{Command: "rotate"})
}

func (c retireKeys) Run(ctx context.Context, env program.Env) error {
	when, err := asOf(c.AsOf)
	if err != nil {
		return err
	}
	return c.change(ctx, env, orders.Order{Command: "retire", Keys: c.Keys, AsOf: when})
}

func (c closeRule) Run(ctx context.Context, env program.Env) error {
	return c.change(ctx, env, orders.Order{Command: "close-old-rule"})
}

// change has the set changed, and prints the keys.
func (s changeKeys) change(ctx context.Context, env program.Env, order orders.Order) error {
	return s.open(ctx, env, func(ctx context.Context, conn *bus.Conn) error {
		order.Actor = whoami()
		out, err := s.give(ctx, conn, setting.AccountsAt{}, order)
		if err != nil {
			return err
		}
		set, err := token.ParseJWKS(out.JWKS)
		if err != nil {
			return err
		}
		return s.print(env, set, out.At)
	})
}

// keyLine is what an operator sees of a key.
type keyLine struct {
	ID            string         `json:"kid"`
	Stage         token.Stage    `json:"stage"`
	Bits          int            `json:"bits"`
	PublishedAt   *jsontime.Time `json:"published_at,omitempty"`
	ActiveFrom    *jsontime.Time `json:"active_from,omitempty"`
	RetiredAt     *jsontime.Time `json:"retired_at,omitempty"`
	CompromisedAt *jsontime.Time `json:"compromised_at,omitempty"`
}

// print prints the keys with their stages at a time.
func (s keySet) print(env program.Env, set *token.KeySet, now time.Time) error {
	text := func(t *jsontime.Time) string {
		if t == nil {
			return "-"
		}
		return time.Time(*t).Format(time.RFC3339)
	}
	table := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
	if !s.JSON.On {
		// Flush returns the error
		_, _ = fmt.Fprintln(table, "KID\tSTAGE\tBITS\tPUBLISHED\tACTIVE FROM\tRETIRED\tCOMPROMISED")
	}
	encoder := json.NewEncoder(env.Stdout)
	for _, k := range set.Keys() {
		l := keyLine{
			ID: k.ID, Stage: k.Stage(now), Bits: k.Public.N.BitLen(),
			PublishedAt: jsontime.Optional(k.PublishedAt), ActiveFrom: jsontime.Optional(k.ActiveFrom),
			RetiredAt: jsontime.Optional(k.RetiredAt), CompromisedAt: jsontime.Optional(k.CompromisedAt),
		}
		if s.JSON.On {
			if err := encoder.Encode(l); err != nil {
				return err
			}
			continue
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", l.ID, l.Stage, l.Bits,
			text(l.PublishedAt), text(l.ActiveFrom), text(l.RetiredAt), text(l.CompromisedAt))
	}
	if s.JSON.On {
		return nil
	}
	if err := table.Flush(); err != nil {
		return err
	}
	rule := "holds. Once every service is new, end it: authsvc keys close-old-rule"
	if until, closed := set.OldRuleUntil(); closed {
		rule = fmt.Sprintf("has ended with message %d of the ledger.", until)
	}
	_, err := fmt.Fprintln(env.Stdout, "The old rule, for events without event tokens,", rule)
	return err
}

// withKeysLast moves key ids behind "--". One id in sixty-four begins with a hyphen (a
// thumbprint, RFC 7638, in base64url), and would be read as an unknown flag.
func withKeysLast(args []string) []string {
	if len(args) == 0 || args[0] != "keys" || slices.Contains(args, "--") {
		return args
	}
	var ids, others []string
	for _, a := range args {
		if sum, err := base64.RawURLEncoding.DecodeString(a); err == nil && len(sum) == sha256.Size && a[0] == '-' {
			ids = append(ids, a)
		} else {
			others = append(others, a)
		}
	}
	if ids == nil {
		return args
	}
	return append(append(others, "--"), ids...)
}
