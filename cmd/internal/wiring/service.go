package wiring

import (
	"context"
	"net"
	"path/filepath"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
)

// A ServiceMain runs one service against a remote NATS server.
type ServiceMain struct {
	Service string // "usersvc"
	For     string // its purpose, for the banner
	HTTP    program.ListenAddr
	OpsAddr string
	TLS     setting.TLS
	NATS    setting.Remote
	Key     string // the file with the service's key
	// other identities of the process, with a key in the same folder and a connection each
	Further []string
	Log     setting.Log
	PProf   bool
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
	listeners, err := program.Bind(s.HTTP, OpsAddr(s.OpsAddr))
	if err != nil {
		return err
	}
	defer program.Close(listeners)
	remote := At(s.NATS, "")
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
	base, err := NewBase(log, at, further...)
	if err != nil {
		return err
	}
	defer base.Close()
	components, err := s.Build(base)
	if err != nil {
		return err
	}
	base.Watch("http", certificate)
	front, ops := certificate.HTTP(listeners[:1])[0], listeners[1]
	env.Banner(s.Log, []program.Address{
		{Name: s.Service, URL: URL(front), For: s.For},
		{Name: "ops", URL: URL(ops), For: "/healthz /readyz /metrics"},
	}, nil)
	endpoint := Endpoint{Listener: front, Handler: components[0].Handler}
	return Serve(ctx, base, ops, s.PProf, []Endpoint{endpoint}, components...)
}

// URL returns the URL of the address on which ln listens. It may be that of all interfaces.
func URL(ln net.Listener) string {
	if _, ok := ln.(https); ok {
		return "https://" + ln.Addr().String()
	}
	return "http://" + ln.Addr().String()
}
