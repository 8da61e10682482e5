// Command authsvc runs the service for accounts, logins, tokens and the keys that verify them. It
// also has the commands with which an operator manages accounts and keys.
package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/cmd/internal/accounts"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
)

func main() { os.Exit(program.Main("authsvc", run)) }

// commands is the command line.
type commands struct {
	setting.Version
	Run      serve           `cmd:"" default:"withargs" help:"Run the service (the default)."`
	Accounts accountCommands `cmd:"" help:"List and change accounts while authsvc is running."`
	Keys     keyCommands     `cmd:"" help:"List, rotate and retire the keys that sign tokens."`
	Health   health          `cmd:"" help:"Check whether authsvc is serving; for a container's health check."`
}

type serve struct {
	Addr setting.Addr `name:"auth-addr" env:"AUTH_ADDR" default:"127.0.0.1:3000" placeholder:"HOST:PORT" group:"Addresses:" help:"HTTP address (default: ${default})."`
	health
	setting.Remote
	setting.Keys
	setting.HTTP
	setting.TLS
	setting.Log
	setting.Profile
	Key setting.Text `name:"service-key" env:"SERVICE_KEY_FILE" placeholder:"FILE" group:"Storage:" help:"Seed of authsvc's own nkey, mode 0600, created if missing; the keys of its auth callout are stored beside it (default: services/authsvc.nk in the data folder)."`
}

// KeyPath returns the path of authsvc's own key.
func (s serve) KeyPath() string {
	if s.Key.Value != "" {
		return s.Key.Value
	}
	return filepath.Join(s.Data.Value, "services", "authsvc.nk")
}

type health struct {
	OpsAddr setting.Addr `name:"ops-addr" env:"OPS_ADDR" default:"127.0.0.1:3010" placeholder:"HOST:PORT" group:"Addresses:" help:"Address of /healthz, /readyz and /metrics (default: ${default})."`
}

func run(ctx context.Context, env program.Env) error {
	var c commands
	command, err := setting.Parse(setting.Program{
		Name: env.Name, Version: program.Version(), Stdout: env.Stdout,
		Description: "Accounts and tokens: POST /login, POST /register, and the keys that verify tokens.",
	}, &c, withKeysLast(env.Args))
	if err != nil {
		return err
	}
	switch command {
	case "health":
		return program.Health(ctx, c.Health.OpsAddr.Value)
	case "keys list":
		return c.Keys.List.run(ctx, env)
	case "keys rotate":
		return c.Keys.Rotate.run(ctx, env)
	case "keys retire":
		return c.Keys.Retire.run(ctx, env)
	case "accounts copy":
		return c.Accounts.Copy.run(ctx, env)
	case "accounts list":
		return c.Accounts.List.run(ctx, env)
	case "accounts revoke":
		return c.Accounts.Revoke.run(ctx, env, "revoke", c.Accounts.Revoke.AsOf)
	case "accounts show":
		return c.Accounts.Show.run(ctx, env, "show", "")
	case "accounts disable":
		return c.Accounts.Disable.run(ctx, env, "disable", "")
	case "accounts delete":
		return c.Accounts.Delete.run(ctx, env, "delete", "")
	case "accounts enable":
		return c.Accounts.Enable.run(ctx, env, "enable", "")
	case "accounts approve":
		return c.Accounts.Approve.run(ctx, env, "approve", "")
	case "accounts reset-password":
		return c.Accounts.Reset.run(ctx, env, "reset-password", "")
	}
	s := c.Run
	return wiring.ServiceMain{
		Service: "authsvc",
		For:     "POST /login, POST /register, GET /public-key",
		HTTP:    program.ListenAddr{Name: "authsvc", Flag: "--auth-addr (AUTH_ADDR)", Addr: s.Addr.Value},
		OpsAddr: s.OpsAddr.Value,
		TLS:     s.TLS,
		NATS:    s.Remote,
		Key:     s.KeyPath(),
		Further: []string{access.Callout},
		Log:     s.Log,
		PProf:   s.PProf.On,
		Build: func(b *wiring.Base) ([]wiring.Component, error) {
			store, err := accounts.Open(b.Conn, s.Accounts)
			if err != nil {
				return nil, err
			}
			auth, err := b.Auth(s.Keys, s.HTTP, store, filepath.Dir(s.KeyPath()))
			return []wiring.Component{auth}, err
		},
	}.Run(ctx, env)
}
