package main

import (
	"context"
	"fmt"
	"io"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/cmd/internal/accounts"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
	"github.com/example/pillion/internal/fault"
)

// copyAccounts is the command that copies accounts between stores.
type copyAccounts struct {
	From                 setting.AccountsAt `name:"from" required:"" placeholder:"WHERE" help:"Source: nats, or postgres://user:password@host/database."`
	To                   setting.AccountsAt `name:"to" required:"" placeholder:"WHERE" help:"Destination: nats, or postgres://user:password@host/database."`
	TrustKey             setting.Text       `name:"trust-key" placeholder:"FILE" help:"authsvc's trust key, with accounts.secret beside it; required for accounts in NATS."`
	wiring.OperatorFlags `set:"log_level=warn"`
}

var (
	errNoBinding = fault.New(fault.Invalid, "no_trust_key",
		"authsvc binds the accounts in NATS with a secret. Give its trust key with --trust-key.")
	errSameStore = fault.New(fault.Invalid, "same_store", "--from and --to are the same place. Name two.")
)

func (c copyAccounts) Run(ctx context.Context, env program.Env) error {
	if c.From.PostgreSQL == c.To.PostgreSQL {
		return errSameStore
	}
	return c.Operator(env, "authsvc accounts copy").WithStreams(ctx, func(ctx context.Context, conn *bus.Conn) error {
		return c.copy(ctx, env.Stdout, conn)
	})
}

func (c copyAccounts) copy(ctx context.Context, out io.Writer, conn *bus.Conn) (err error) {
	var binding []byte
	switch {
	case c.TrustKey.Value != "":
		if binding, err = wiring.BindingKey(c.TrustKey.Value); err != nil {
			return err
		}
	case c.From.PostgreSQL == "" || c.To.PostgreSQL == "":
		return errNoBinding
	}
	var stores [2]wiring.Accounts
	for i, at := range []setting.AccountsAt{c.From, c.To} {
		if stores[i], err = accounts.Open(conn, at, binding); err != nil {
			return err
		}
		defer stores[i].Close()
		if err := stores[i].Prepare(ctx); err != nil {
			return err
		}
	}
	report, err := authsvc.CopyAccounts(ctx, stores[0], stores[1])
	if printed := printReport(out, report); err == nil {
		err = printed
	}
	if err == nil && len(report.Differ) > 0 {
		return fmt.Errorf("%d accounts already exist in the destination and differ; they were left unchanged",
			len(report.Differ))
	}
	return err
}

func printReport(w io.Writer, r authsvc.CopyReport) error {
	for _, a := range r.Differ {
		if _, err := fmt.Fprintf(w, "differs: %s\n", a); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%d copied, %d had been copied before, %d differ.\n", r.Copied, r.Existing, len(r.Differ))
	return err
}
