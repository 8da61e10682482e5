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
	Run      serve               `cmd:"" default:"withargs" help:"Run the service (the default)."`
	Accounts accountCommands     `cmd:"" help:"List and change accounts while authsvc is running."`
	Keys     keyCommands         `cmd:"" help:"List, rotate and retire the keys that sign tokens."`
	Health   program.HealthCheck `cmd:"" help:"Check whether authsvc is serving; for a container's health check."`
}

type serve struct {
	Addr setting.Addr   `name:"auth-addr" env:"AUTH_ADDR" default:"127.0.0.1:3000" placeholder:"HOST:PORT" group:"Addresses:" help:"HTTP address (default: ${default})."`
	Page setting.Switch `name:"page" env:"PILLION_PAGE" group:"Addresses:" help:"Also serve the page for people, /docs and /openapi.json, for a gateway that has the three services below /auth, /user and /rider."`
	setting.Serving
	setting.Keys
	Key setting.Text `name:"service-key" env:"SERVICE_KEY_FILE" placeholder:"FILE" group:"Storage:" help:"Seed of authsvc's own nkey, mode 0600, created if missing; the keys of its auth callout are stored beside it (default: services/authsvc.nk in the data folder)."`
}

// KeyPath returns the path of authsvc's own key.
func (s serve) KeyPath() string {
	if s.Key.Value != "" {
		return s.Key.Value
	}
	return filepath.Join(s.Data.Value, "services", "authsvc.nk")
}

func run(ctx context.Context, env program.Env) error {
	env.Args = withKeysLast(env.Args)
	return program.CommandLine{
		Description: "Accounts and tokens: POST /login, POST /register, and the keys that verify tokens.", Ops: "3010",
		Grammar: new(commands),
	}.Run(ctx, env)
}

// Run runs the service.
func (s serve) Run(ctx context.Context, env program.Env) error {
	return wiring.ServiceMain{
		Service: "authsvc",
		For:     "POST /login, POST /register, GET /public-key",
		HTTP:    program.ListenAddr{Name: "authsvc", Flag: "--auth-addr (AUTH_ADDR)", Addr: s.Addr.Value},
		Serving: s.Serving,
		Demo:    s.Demo.On,
		Key:     s.KeyPath(), TrustKey: s.TrustKeyPath(s.KeyPath()),
		Further: []string{access.Callout},
		Build: func(b *wiring.Base) ([]wiring.Component, error) {
			binding, err := wiring.BindingKey(s.TrustKeyPath(s.KeyPath()))
			if err != nil {
				return nil, err
			}
			store, err := accounts.Open(b.Conn, s.Accounts, binding)
			if err != nil {
				return nil, err
			}
			auth, err := b.Auth(s.Keys, s.HTTP, store, filepath.Dir(s.KeyPath()))
			if err == nil && s.Page.On {
				auth.Handler = b.Page(s.HTTP, s.Demo.On, auth)
			}
			return []wiring.Component{auth}, err
		},
	}.Run(ctx, env)
}
