package wiring

import (
	"context"
	"errors"
	"net"
	"path/filepath"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
)

// A ServiceMain is a program with one service in it, against a NATS server elsewhere.
type ServiceMain struct {
	Service string // "usersvc"
	For     string // what it is for, in a few words
	HTTP    program.Place
	OpsAddr string
	TLS     setting.TLS
	NATS    setting.Remote
	Key     string   // the file with what it proves with who it is
	Further []string // who else it is, with a key beside that one and a connection each
	Log     setting.Log
	PProf   bool
	Build   func(*Base) ([]Component, error) // the first one has the HTTP calls
}

// OpsPlace is where a program's ops address is bound.
func OpsPlace(addr string) program.Place {
	return program.Place{Name: "The ops address", Flag: "--ops-addr", Addr: addr}
}

// Run runs the program until ctx ends. It binds its addresses first, so that it can say that it is not ready.
func (s ServiceMain) Run(ctx context.Context, env program.Env) (err error) {
	log := env.Logger(s.Log)
	shown := HTTPCertificate(s.TLS.Cert.Value, s.TLS.Key.Value)
	if err := shown.Load(log); err != nil {
		return err
	}
	listeners, err := program.Bind(s.HTTP, OpsPlace(s.OpsAddr))
	if err != nil {
		return err
	}
	defer program.Close(listeners)
	at, err := As(s.at(), s.Service, s.Key)
	if err != nil {
		return err
	}
	var further []bus.Config
	for _, who := range s.Further {
		one, err := As(s.at(), who, access.KeyFile(filepath.Dir(s.Key), who))
		if err != nil {
			return err
		}
		further = append(further, one)
	}
	base, err := NewBase(log, at, further...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, base.Close()) }()
	parts, err := s.Build(base)
	if err != nil {
		return err
	}
	base.Watch("http", shown)
	front, ops := shown.HTTP(listeners[:1])[0], listeners[1]
	if err := program.Banner(env.Stdout, log, s.Service+" "+program.Version(), []program.Address{
		{Name: s.Service, URL: URL(front), For: s.For},
		{Name: "ops", URL: URL(ops), For: "/healthz /readyz /metrics"},
	}, nil); err != nil {
		return err
	}
	return Serve(ctx, base, ops, s.PProf, []Endpoint{{Listener: front, Handler: parts[0].Handler}}, parts...)
}

// at is where NATS is.
func (s ServiceMain) at() bus.Config { return At(s.NATS, "") }

// URL is where ln can be reached from this machine.
func URL(ln net.Listener) string {
	scheme := "http://"
	if _, ok := ln.(https); ok {
		scheme = "https://"
	}
	addr, ok := ln.Addr().(*net.TCPAddr)
	if ok && addr.IP.IsUnspecified() {
		addr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: addr.Port}
		return scheme + addr.String()
	}
	return scheme + ln.Addr().String()
}
