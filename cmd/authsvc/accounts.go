package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/user"
	"text/tabwriter"
	"time"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/orders"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/cmd/internal/accounts"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/jsontime"
)

// accountCommands are the commands about accounts. They read the store directly, and have authsvc
// make changes.
type accountCommands struct {
	List    listAccounts  `cmd:"" help:"List accounts."`
	Show    oneAccount    `cmd:"" help:"Show one account."`
	Disable oneAccount    `cmd:"" help:"Bar an account: no login, no refresh, and its tokens stop working."`
	Enable  oneAccount    `cmd:"" help:"Let the owner of a disabled account log in again."`
	Approve oneAccount    `cmd:"" help:"Approve a pending account, so that its owner can log in (see --approve-riders)."`
	Delete  oneAccount    `cmd:"" help:"Delete an account for good. Its bookings stay in the ledger (see docs/privacy.md)."`
	Revoke  revokeAccount `cmd:"" help:"End all sessions of an account, now or as of an earlier time."`
	Reset   oneAccount    `cmd:"" name:"reset-password" help:"Void the password, and print a code that POST /password accepts once within an hour."`
	Copy    copyAccounts  `cmd:"" help:"Copy all accounts from one store to another and verify the copies. Stop authsvc first."`
}

// stores are the settings that say where accounts are stored.
type stores struct {
	Accounts             setting.AccountsAt `name:"accounts" env:"ACCOUNTS" default:"nats" placeholder:"WHERE" help:"Where accounts are stored: nats, or PostgreSQL at postgres://user:password@host/database (default: ${default})."`
	JSON                 setting.Switch     `name:"json" help:"Print JSON, one account per line."`
	wiring.OperatorFlags `set:"log_level=warn"`
}

type listAccounts struct {
	Role  setting.Choice `name:"role" default:"" oneof:"user raider rider" help:"List only users, or only raiders."`
	State setting.Choice `name:"state" default:"" oneof:"active pending disabled reset" help:"List only active, pending, disabled or reset accounts."`
	stores
}

type oneAccount struct {
	Who  string         `arg:"" name:"who" help:"Email or id of the account."`
	Role setting.Choice `name:"role" default:"" oneof:"user raider rider" help:"user or raider, if the email has both."`
	stores
	giveOrders
}

type revokeAccount struct {
	AsOf string `name:"as-of" placeholder:"TIME" help:"Also reject what was done with its tokens since that time, such as 2026-03-01T08:00:00Z (default: now)."`
	oneAccount
}

var errTime = fault.New(fault.Invalid, "as_of", "--as-of must be a time such as 2026-03-01T08:00:00Z.")

// commandTimeout bounds one command.
const commandTimeout = 30 * time.Second

// connected connects to NATS for one command and bounds its time.
func connected(ctx context.Context, o wiring.Operator, do func(context.Context, *bus.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return o.WithStreams(ctx, do)
}

// read opens the store of accounts for one command that changes nothing.
func (s stores) read(ctx context.Context, env program.Env, do func(context.Context, *authsvc.Operator) error) error {
	return connected(ctx, s.Operator(env, "authsvc accounts"), func(ctx context.Context, conn *bus.Conn) error {
		return withStore(ctx, conn, s.Accounts, nil, func(store wiring.Accounts) error {
			return do(ctx, authsvc.NewOperator(store, nil, time.Now))
		})
	})
}

// withStore opens the store of accounts at a place, and closes it afterwards. See [accounts.Open]
// for binding.
func withStore(
	ctx context.Context, conn *bus.Conn, at setting.AccountsAt, binding []byte, do func(wiring.Accounts) error,
) error {
	store, err := accounts.Open(conn, at, binding)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.Prepare(ctx); err != nil {
		return err
	}
	return do(store)
}

// asOf returns the time of the flag --as-of, or zero without the flag.
func asOf(raw string) (time.Time, error) {
	if raw == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, raw)
	if err != nil {
		return time.Time{}, errTime
	}
	return t, nil
}

func (c listAccounts) Run(ctx context.Context, env program.Env) error {
	role := c.Role.Value
	if role == "rider" {
		role = "raider"
	}
	return c.read(ctx, env, func(ctx context.Context, o *authsvc.Operator) error {
		p := newPrinter(env, c.JSON.On)
		err := o.Each(ctx, func(a authsvc.Account) error {
			if role != "" && role != string(a.Role) || c.State.Value != "" && a.State() != c.State.Value {
				return nil
			}
			return p.print(a, a.State())
		})
		return errors.Join(err, p.flush())
	})
}

// Run runs the command of that name.
func (c oneAccount) Run(ctx context.Context, env program.Env, command program.CommandName) error {
	return c.do(ctx, env, string(command), "")
}

// Run ends the sessions as of a time.
func (c revokeAccount) Run(ctx context.Context, env program.Env) error {
	return c.do(ctx, env, "revoke", c.AsOf)
}

func (c oneAccount) do(ctx context.Context, env program.Env, command, since string) error {
	when, err := asOf(since)
	if err != nil {
		return err
	}
	p := newPrinter(env, c.JSON.On)
	if command == "show" {
		return c.read(ctx, env, func(ctx context.Context, o *authsvc.Operator) error {
			a, err := o.Find(ctx, c.Who, c.Role.Value)
			if err != nil {
				return err
			}
			return errors.Join(p.print(a, a.State()), p.flush())
		})
	}
	var out orders.Outcome
	err = connected(ctx, c.Operator(env, "authsvc accounts"), func(ctx context.Context, conn *bus.Conn) error {
		out, err = c.give(ctx, conn, c.Accounts, orders.Order{
			Command: command, Who: c.Who, Role: c.Role.Value, AsOf: when, Actor: whoami(),
		})
		return err
	})
	if err != nil {
		return err
	}
	a := out.Account
	state := a.State()
	if command == "delete" {
		state = "deleted"
	}
	if err := errors.Join(p.print(a, state), p.flush()); err != nil || out.Code == "" {
		return err
	}
	_, err = fmt.Fprintf(env.Stdout,
		"code: %s\nGive it to the account's owner, who can set a new password with it until %s:\n"+
			`curl -X POST http://localhost:3000/password -H 'Content-Type: application/json' -d '{"email":%q,"role":%q,"code":"…","new":"…"}'`+"\n",
		out.Code, a.ResetUntil.Format(time.RFC3339), a.Email, a.Role)
	return err
}

// whoami returns the name of the user who runs the command.
func whoami() string {
	u, err := user.Current()
	if err != nil {
		return "unknown"
	}
	return u.Username
}

// A printer prints accounts, as a table or as JSON.
type printer struct {
	table *tabwriter.Writer
	json  *json.Encoder
	begun bool // whether an account was printed
}

func newPrinter(env program.Env, asJSON bool) *printer {
	if asJSON {
		return &printer{json: json.NewEncoder(env.Stdout)}
	}
	return &printer{table: tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)}
}

// accountLine is what an operator sees of an account: everything but its secrets.
type accountLine struct {
	ID      string        `json:"id"`
	Email   string        `json:"email"`
	Role    string        `json:"role"`
	State   string        `json:"state"`
	Demo    bool          `json:"demo,omitempty"`
	Created jsontime.Time `json:"created"`
}

func (p *printer) print(a authsvc.Account, state string) error {
	if p.json != nil {
		return p.json.Encode(accountLine{a.ID, a.EmailAsEntered, string(a.Role), state, a.Demo,
			jsontime.Time(a.Created)})
	}
	if !p.begun {
		p.begun = true
		if _, err := fmt.Fprintln(p.table, "ID\tEMAIL\tROLE\tSTATE\tCREATED"); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(p.table, "%s\t%s\t%s\t%s\t%s\n", a.ID, a.EmailAsEntered, a.Role, state,
		a.Created.Format(time.RFC3339))
	return err
}

func (p *printer) flush() error {
	if p.table == nil {
		return nil
	}
	if !p.begun {
		_, _ = fmt.Fprintln(p.table, "There are no such accounts.") // Flush returns the error
	}
	return p.table.Flush()
}
