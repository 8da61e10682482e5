package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/keys"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/internal/retry"
	"github.com/example/pillion/token"
)

// keyCommands are the commands about the keys that sign tokens. They change the published set,
// which all services watch. The private keys stay with the running authsvc.
type keyCommands struct {
	List   listKeys   `cmd:"" help:"List the keys of the published set."`
	Rotate rotateKeys `cmd:"" help:"Activate the next key in ten seconds. No request fails."`
	Retire retireKeys `cmd:"" help:"Retire a compromised key everywhere, now: all tokens that it signed stop working."`
}

// keySet holds the settings of a command about the set.
type keySet struct {
	JSON                 setting.Switch `name:"json" help:"Print JSON, one key per line."`
	wiring.OperatorFlags `set:"log_level=warn"`
}

type listKeys struct{ keySet }

type rotateKeys struct{ keySet }

type retireKeys struct {
	Keys []string `arg:"" name:"kid" help:"Ids of the keys, as keys list shows them."`
	AsOf string   `name:"as-of" placeholder:"TIME" help:"Also reject the events that it signed since that time, such as 2026-03-01T08:00:00Z (default: now)."`
	keySet
}

// nextKeyTimeout is how long a rotation waits for the next key.
const nextKeyTimeout = 15 * time.Second

// open connects to NATS for one command.
func (s keySet) open(ctx context.Context, env program.Env, do func(context.Context, *bus.Conn) error) error {
	return connected(ctx, s.Operator(env, "authsvc keys"), do)
}

func (c listKeys) Run(ctx context.Context, env program.Env) error {
	return c.open(ctx, env, func(ctx context.Context, conn *bus.Conn) error {
		return c.change(ctx, env, conn, "",
			func(set *token.KeySet, _ time.Time) (*token.KeySet, error) { return set, nil })
	})
}

func (c rotateKeys) Run(ctx context.Context, env program.Env) error {
	return c.open(ctx, env, func(ctx context.Context, conn *bus.Conn) error {
		// Right after a rotation the running authsvc is still making the next key.
		untilNextKey := retry.Policy{
			First: 200 * time.Millisecond, Longest: 200 * time.Millisecond, Within: nextKeyTimeout,
			When: func(err error) bool { return errors.Is(err, token.ErrNoNextKey) },
		}
		return untilNextKey.Do(ctx, func() error { return c.change(ctx, env, conn, whoami(), (*token.KeySet).Rotate) })
	})
}

func (c retireKeys) Run(ctx context.Context, env program.Env) error {
	when, err := asOf(c.AsOf)
	if err != nil {
		return err
	}
	return c.open(ctx, env, func(ctx context.Context, conn *bus.Conn) error {
		return c.change(ctx, env, conn, whoami(), func(set *token.KeySet, now time.Time) (*token.KeySet, error) {
			if when.IsZero() {
				return set.Retire(now, now, c.Keys...)
			}
			return set.Retire(now, when, c.Keys...)
		})
	})
}

var errNoKeySet = fault.New(fault.NotFound, "no_key_set",
	"There are no keys yet. Start authsvc, which creates the first one.")

// change changes the set, writes the changes to the audit trail, and prints the keys.
func (s keySet) change(ctx context.Context, env program.Env, conn *bus.Conn, actor string,
	change func(*token.KeySet, time.Time) (*token.KeySet, error),
) error {
	var at time.Time
	was, is, err := trust.ChangeKeys(ctx, conn, func(set *token.KeySet, now time.Time) (*token.KeySet, error) {
		if set == nil {
			return nil, errNoKeySet
		}
		at = now
		return change(set, now)
	})
	if err != nil {
		return err
	}
	trail := trust.NewAuditTrail(conn, "/authsvc/operator")
	for _, c := range keys.Changes(was, is) {
		e := authsvc.EntryOfKey(c, actor)
		if err := trail.Write(ctx, e.What, e); err != nil {
			return fmt.Errorf("the keys were changed, but the audit trail has no entry of it: %w", err)
		}
	}
	return s.print(env, is, at)
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
	return table.Flush()
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
