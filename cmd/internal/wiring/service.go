package wiring

import (
	"cmp"
	"context"
	"net"
	"path/filepath"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/cmd/internal/otlp"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/token/trustkey"
)

// A ServiceMain runs one service against a remote NATS server.
type ServiceMain struct {
	Service string // "usersvc"
	For     string // its purpose, for the banner
	HTTP    program.ListenAddr
	setting.Serving
	Demo bool   // whether it makes the demo accounts
	Key  string // the file with the service's key
	// the file of the trust key, if the service signs with it
	TrustKey string
	// other identities of the process, with a key in the same folder and a connection each
	Further []string
	Build   func(*Base) ([]Component, error) // the first one serves HTTP
}

// OpsAddr returns the ops address of a program, for [program.Bind].
func OpsAddr(addr string) program.ListenAddr {
	return program.ListenAddr{Name: "The ops address", Flag: "--ops-addr (OPS_ADDR)", Addr: addr}
}

// Run runs the program until ctx ends. It binds its addresses first, so that readiness checks are
// answered from the start.
func (s ServiceMain) Run(ctx context.Context, env program.Env) error {
	log := env.Logger(s.Log)
	certificate := HTTPCertificate(s.TLS.Cert.Value, s.TLS.Key.Value)
	if err := certificate.Load(log); err != nil {
		return err
	}
	listeners, err := program.Bind(s.HTTP, OpsAddr(s.OpsAddr.Value))
	if err != nil {
		return err
	}
	defer program.Close(listeners)
	exposure := Exposure{Profile: s.Profile, Demo: s.Demo, Clients: listeners[:1], Encrypted: s.TLS.Cert.Value != "",
		Ops: listeners[1]}
	if err := exposure.Check(log); err != nil {
		return err
	}
	remote := At(s.Remote, "")
	at, err := As(remote, s.Service, s.Key)
	if err != nil {
		return err
	}
	var further []bus.Config
	for _, who := range s.Further {
		one, err := As(remote, who, access.KeyFile(filepath.Dir(s.Key), who))
		if err != nil {
			return err
		}
		further = append(further, one)
	}
	if s.TrustKey != "" { // its public half may be missing, too
		if _, err := trustkey.LoadOrCreate(s.TrustKey); err != nil {
			return err
		}
	}
	tracer, flush, err := otlp.Start(env.Name, log)
	if err != nil {
		return err
	}
	at.Tracer = tracer
	base, err := NewBase(log, s.AnchorPath(cmp.Or(s.TrustKey, s.Key)), at, further...)
	if err != nil {
		return err
	}
	base.Flush = flush
	defer base.Close()
	components, err := s.Build(base)
	if err != nil {
		return err
	}
	base.Watch("http", certificate)
	limited := base.Limit(s.Serving.HTTP, MaxConnections(s.Serving.HTTP, 1), listeners[:1])
	front, ops := certificate.HTTP(limited)[0], listeners[1]
	env.Banner(s.Log, []program.Address{
		{Name: s.Service, URL: URL(front), For: s.For},
		{Name: "ops", URL: URL(ops), For: "/healthz /readyz /metrics"},
	}, nil)
	endpoint := Endpoint{Listener: front, Handler: components[0].Handler}
	return Serve(ctx, base, ops, s.PProf.On, []Endpoint{endpoint}, components...)
}

// RideService has the settings that usersvc and ridersvc have in common.
type RideService struct {
	setting.Serving
	setting.Rides
	setting.Fleet
	setting.ServiceKey
	setting.Snapshots
	setting.Streams
}

// Serve runs m, with these settings and the component that build makes for it.
func (s RideService) Serve(
	ctx context.Context, env program.Env, m ServiceMain, build func(*Rides, string) (Component, error),
) error {
	m.Serving, m.Key = s.Serving, s.Path(m.Service)
	m.Build = func(b *Base) ([]Component, error) {
		rides, err := b.Rides(s.Rides, s.Fleet, s.SecretPath(m.Key))
		if err != nil {
			return nil, err
		}
		if err := rides.UseSnapshots(s.Snapshots); err != nil {
			return nil, err
		}
		service, err := build(rides, m.Key)
		return []Component{service, rides.Component()}, err
	}
	return m.Run(ctx, env)
}

// URL returns the URL of the address on which ln listens. It may be that of all interfaces.
func URL(ln net.Listener) string {
	if _, ok := ln.(https); ok {
		return "https://" + ln.Addr().String()
	}
	return "http://" + ln.Addr().String()
}
