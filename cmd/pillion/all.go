package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/cmd/internal/accounts"
	"github.com/example/pillion/cmd/internal/otlp"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/trialca"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/trustkey"
	"github.com/example/pillion/web/live"
)

// all is the default command. It runs the three services in one process.
type all struct {
	AuthAddr  setting.Addr `name:"auth-addr" env:"AUTH_ADDR" default:"127.0.0.1:3000" placeholder:"HOST:PORT" group:"Addresses:" help:"HTTP address of authsvc (default: ${default})."`
	UserAddr  setting.Addr `name:"user-addr" env:"USER_ADDR" default:"127.0.0.1:3001" placeholder:"HOST:PORT" group:"Addresses:" help:"HTTP address of usersvc (default: ${default})."`
	RiderAddr setting.Addr `name:"rider-addr" env:"RIDER_ADDR" default:"127.0.0.1:3002" placeholder:"HOST:PORT" group:"Addresses:" help:"HTTP address of ridersvc (default: ${default})."`
	Addr      setting.Addr `name:"addr" env:"PILLION_ADDR" default:"127.0.0.1:8080" off:"no such address" placeholder:"HOST:PORT" group:"Addresses:" help:"HTTP address of all services at once: a page for people, the services as /auth, /user and /rider, and their API reference as /docs; off means none (default: ${default})."`
	setting.Board
	setting.Ops

	NATSURL  setting.NATSURL `name:"nats-url" env:"NATS_URL" placeholder:"URL" group:"NATS:" help:"Remote NATS server to use instead of the embedded one; its streams must exist already (default: none)."`
	NATSCA   setting.Text    `name:"nats-ca" env:"NATS_CA_FILE" placeholder:"FILE" group:"NATS:" help:"CA certificates of the servers of --nats-url, PEM; this makes TLS mandatory (default: the system's CAs, if the server or tls:// requires TLS)."`
	NATSAddr setting.Addr    `name:"nats-addr" env:"NATS_ADDR" default:"127.0.0.1:4222" placeholder:"HOST:PORT" group:"NATS:" help:"Address of the embedded NATS server; other machines can be let in only with --nats-tls-cert (default: ${default})."`
	NATSCert setting.Text    `name:"nats-tls-cert" env:"NATS_TLS_CERT_FILE" placeholder:"FILE" group:"TLS:" help:"Certificate for TLS of the embedded NATS server, PEM; it is reloaded when it changes (default: none)."`
	NATSKey  setting.Text    `name:"nats-tls-key" env:"NATS_TLS_KEY_FILE" placeholder:"FILE" group:"TLS:" help:"Its private key, PEM, mode 0600."`
	Sync     setting.Sync    `name:"sync" env:"PILLION_SYNC" default:"always" placeholder:"WHEN" group:"NATS:" help:"When the embedded NATS server syncs to disk: always, which means before each acknowledgement, or at an interval (default: ${default})."`

	setting.Ledger
	setting.Keys
	City setting.Switch `name:"city" env:"PILLION_CITY" group:"Tokens:" help:"With --demo: also play a small city, whose users book and whose riders ride."`
	setting.Trust
	setting.Rides
	setting.Bookings
	setting.Fleet
	setting.Arrival
	setting.Snapshots
	setting.HTTP
	setting.TLS
	setting.Streams
	setting.Log
	setting.Profile

	ignoredURL bool // whether NATS_URL is set but not used, because of --demo
}

// Adjust makes --demo ignore NATS_URL, so that accounts with a known password are created in the
// embedded NATS server only. Users of the nats CLI often have NATS_URL in their environment. The
// flag --nats-url overrides this.
func (c *commands) Adjust(given func(flag string) bool) {
	all := &c.Run
	if all.Demo.On && all.NATSURL != (setting.NATSURL{}) && !given("nats-url") {
		all.NATSURL, all.ignoredURL = setting.NATSURL{}, true
	}
}

// provisionTimeout bounds the creation of streams on the embedded server.
const provisionTimeout = 20 * time.Second

// Run binds the addresses, starts the embedded NATS server, creates the streams, and serves until
// ctx ends. It stops everything in reverse order.
func (c all) Run(ctx context.Context, env program.Env) (err error) {
	log := env.Logger(c.Log)
	if c.City.On && !c.Demo.On {
		return errCity
	}
	if c.ignoredURL {
		log.Warn("Ignoring NATS_URL: --demo uses the embedded NATS server. Use --nats-url to choose another one. " +
			"The nats CLI still uses NATS_URL.")
	}
	httpCert := wiring.HTTPCertificate(c.TLS.Cert.Value, c.TLS.Key.Value)
	natsCert := wiring.NATSCertificate(c.NATSCert.Value, c.NATSKey.Value)
	if err := errors.Join(httpCert.Load(log), natsCert.Load(log)); err != nil {
		return err
	}
	listeners, err := c.bind(log)
	if err != nil {
		return err
	}
	defer program.Close(listeners)
	ops, front := listeners[0], listeners[1:]
	exposure := wiring.Exposure{Profile: c.Profile, Demo: c.Demo.On, Clients: front,
		Encrypted: c.TLS.Cert.Value != "", Ops: ops}
	if err := exposure.Check(log); err != nil {
		return err
	}

	kinds := 1 // of listeners, which share the limit on open files
	var store wiring.Store
	natsURL, at := c.NATSURL.Value, bus.Config{URL: c.NATSURL.Value, CA: c.NATSCA.Value}
	if natsURL == "" {
		kinds = 2
		if err := refuseMoved(c.Data.Value); err != nil {
			return err
		}
		keys, err := access.LoadOrCreate(c.ServicesDir())
		if err != nil {
			return err
		}
		server, err := embedded.Start(embedded.Config{
			Dir: filepath.Join(c.Data.Value, "nats"), Addr: c.NATSAddr.Value,
			SyncAlways: c.Sync.Always, SyncInterval: c.Sync.Interval, Log: log,
			Access: access.Conf(keys, c.openFeed()), TLS: natsCert.Server(),
			MaxConnections: wiring.MaxConnections(c.HTTP, kinds),
		})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, server.Stop()) }()
		natsURL, at.InProcess, store = server.URL(), server.Provider(), server
		if err := c.provision(ctx, log, at, server.Volume); err != nil {
			return err
		}
	}
	base, err := c.base(log, at)
	if err != nil {
		return err
	}
	defer base.Close()
	base.Store, base.Syncs = store, store != nil && c.Sync.Always
	served := httpCert.HTTP(base.Limit(c.HTTP, wiring.MaxConnections(c.HTTP, kinds), front))
	base.Watch("http", httpCert)
	if store != nil {
		base.Watch("nats", natsCert)
	}
	parts, err := c.components(base)
	if err != nil {
		return err
	}
	env.Banner(c.Log, c.addresses(served, ops, natsURL), c.try(served))
	endpoints, components := c.served(base, served, parts)
	return wiring.Serve(ctx, base, ops, c.PProf.On, endpoints, components...)
}

// served returns what is served on each address, and the components of the process.
func (c all) served(base *wiring.Base, at []net.Listener, parts parts) ([]wiring.Endpoint, []wiring.Component) {
	endpoints := []wiring.Endpoint{
		{Listener: at[0], Handler: parts.auth.Handler},
		{Listener: at[1], Handler: parts.user.Handler},
		{Listener: at[2], Handler: parts.rider.Handler},
	}
	components := []wiring.Component{parts.auth, parts.rides.Component(), parts.user, parts.rider}
	var onBoard live.City
	if c.Demo.On {
		people, inside := newCity(base, parts, c.City.On)
		endpoints = append(endpoints, inside...)
		components = append(components, wiring.Component{Tasks: []program.Task{people.run}})
		onBoard = people
	}
	if len(at) > 3 {
		board := parts.rides.Board(c.HTTP, c.Streams, c.maySeeBoard(), onBoard)
		components = append(components, board)
		door := base.Door(c.HTTP, c.Demo.On, parts.auth, parts.user, parts.rider, board)
		endpoints = append(endpoints, wiring.Endpoint{Listener: at[3], Handler: door})
	}
	return endpoints, components
}

// usualAddr is the default of --addr.
const usualAddr = "127.0.0.1:8080"

// bind listens on all addresses: for operators, for each service, and, if there is one, for all
// services at once. Nobody has asked for the usual one of these, so it may be taken.
func (c all) bind(log *slog.Logger) ([]net.Listener, error) {
	addrs := []program.ListenAddr{
		wiring.OpsAddr(c.OpsAddr.Value),
		{Name: "authsvc", Flag: "--auth-addr (AUTH_ADDR)", Addr: c.AuthAddr.Value},
		{Name: "usersvc", Flag: "--user-addr (USER_ADDR)", Addr: c.UserAddr.Value},
		{Name: "ridersvc", Flag: "--rider-addr (RIDER_ADDR)", Addr: c.RiderAddr.Value},
	}
	door := program.ListenAddr{Name: "The address of all services",
		Flag: "--addr (PILLION_ADDR), or none with --addr=off", Addr: c.Addr.Value}
	if c.Addr.Value != "" && c.Addr.Value != usualAddr {
		addrs = append(addrs, door)
	}
	listeners, err := program.Bind(addrs...)
	if err != nil || c.Addr.Value != usualAddr {
		return listeners, err
	}
	usual, err := program.Bind(door)
	if err != nil {
		log.Warn("there is no address of all services, and each has its own", "because", fault.From(err).Message)
	}
	return append(listeners, usual...), nil
}

// openFeed reports whether the demo feed needs no login: with --demo, and from this machine only.
func (c all) openFeed() bool { return c.Demo.On && c.NATSAddr.Loopback() }

// base connects each service with its own identity. The shared board reads through usersvc's
// connection.
func (c all) base(log *slog.Logger, at bus.Config) (*wiring.Base, error) {
	key := c.trustKey()
	if _, err := trustkey.LoadOrCreate(key); err != nil {
		return nil, err
	}
	var as []bus.Config
	for _, service := range []string{access.Usersvc, access.Ridersvc, access.Authsvc, access.Callout} {
		one, err := wiring.As(at, service, access.KeyFile(c.ServicesDir(), service))
		if err != nil {
			return nil, err
		}
		as = append(as, one)
	}
	tracer, flush, err := otlp.Start("pillion", log)
	if err != nil {
		return nil, err
	}
	as[0].Tracer = tracer
	base, err := wiring.NewBase(log, c.AnchorPath(key), as[0], as[1:]...)
	if err != nil {
		return nil, err
	}
	base.Flush = flush
	return base, nil
}

// trustKey returns the file of the trust key.
func (c all) trustKey() string {
	return c.TrustKeyPath(access.KeyFile(c.ServicesDir(), access.Authsvc))
}

// provision creates the streams of the embedded server.
func (c all) provision(ctx context.Context, log *slog.Logger, at bus.Config, disk bus.Disk) error {
	o := wiring.Operator{Log: log, At: at, Key: access.KeyFile(c.ServicesDir(), access.Operator)}
	return o.Connecting(ctx, func(conn *bus.Conn) error {
		ctx, cancel := context.WithTimeout(ctx, provisionTimeout)
		defer cancel()
		p := plan(c.Ledger)
		p.Disk = disk
		return bus.Provision(ctx, conn, p)
	})
}

// maySeeBoard returns who may see the board: everybody in a demonstration, and otherwise some
// accounts. It returns nil if nobody may.
func (c all) maySeeBoard() func(token.Claims) bool {
	if c.Demo.On {
		return func(token.Claims) bool { return true }
	}
	if readers := c.Board.Readers.Value; readers != nil {
		return func(claims token.Claims) bool { return slices.Contains(readers, claims.Subject) }
	}
	return nil
}

// parts are the three services, and what two of them share.
type parts struct {
	auth, user, rider wiring.Component
	rides             *wiring.Rides
}

// components returns the parts of the process.
func (c all) components(b *wiring.Base) (p parts, err error) {
	binding, err := wiring.BindingKey(c.trustKey())
	if err != nil {
		return
	}
	store, err := accounts.Open(b.Of(access.Authsvc).Conn, c.Accounts, binding)
	if err != nil {
		return
	}
	if p.auth, err = b.Auth(c.Keys, c.HTTP, store, c.ServicesDir()); err != nil {
		return
	}
	key := filepath.Join(c.ServicesDir(), "usersvc.nk")
	if p.rides, err = b.Rides(c.Rides, c.Fleet, c.SecretPath(key)); err != nil {
		return
	}
	if err = p.rides.UseSnapshots(c.Snapshots); err != nil {
		return
	}
	if p.user, err = p.rides.User(c.Bookings, c.HTTP, c.Streams, key); err != nil {
		return
	}
	p.rider, err = p.rides.Rider(c.HTTP, c.Arrival, c.Streams, filepath.Join(c.ServicesDir(), "ridersvc.nk"))
	return p, err
}

// addresses returns the lines of the banner.
func (c all) addresses(at []net.Listener, ops net.Listener, natsURL string) []program.Address {
	watch := "nats"
	if natsURL != "nats://127.0.0.1:4222" || c.ignoredURL { // the default of the nats CLI
		watch += " -s " + here(natsURL)
	}
	if ca := beside(c.NATSCert.Value); ca != "" {
		watch += " --tlsca " + ca
	}
	if !c.openFeed() {
		watch += " --nkey " + access.KeyFile(c.ServicesDir(), access.Operator)
	}
	watch += " sub 'booking.>'"
	a := []program.Address{
		{Name: "authsvc", URL: wiring.URL(at[0]), For: "POST /login, POST /register, GET /public-key"},
		{Name: "usersvc", URL: wiring.URL(at[1]), For: "POST /book, GET /bookings"},
		{Name: "ridersvc", URL: wiring.URL(at[2]), For: "GET /open-bookings, POST /accept-booking"},
	}
	if len(at) > 3 {
		a = append(a, program.Address{Name: "all", URL: wiring.URL(at[3]),
			For: "the page for people; /auth, /user, /rider, /docs"})
	}
	// another process listens at a remote address, and the URL may contain a password
	if c.NATSURL.Value == "" {
		a = append(a, program.Address{Name: "nats", URL: natsURL, For: watch})
	}
	return append(a, program.Address{Name: "ops", URL: wiring.URL(ops), For: "/healthz /readyz /metrics"})
}

// here returns the URL by which this machine reaches an address, which may be that of all
// interfaces.
func here(url string) string {
	return strings.NewReplacer("//0.0.0.0:", "//127.0.0.1:", "//[::]:", "//127.0.0.1:").Replace(url)
}

// beside returns the CA that `pillion certs init` has created beside a certificate, or "" if there
// is none.
func beside(cert string) string {
	ca := filepath.Join(filepath.Dir(cert), trialca.CACert)
	if _, err := os.Stat(ca); cert == "" || err != nil {
		return ""
	}
	return ca
}

// try returns three commands to try: log in, book and accept. Without the demo accounts the first
// one registers a user.
func (c all) try(at []net.Listener) []string {
	auth, user, rider := here(wiring.URL(at[0])), here(wiring.URL(at[1])), here(wiring.URL(at[2]))
	curl := `curl -s -w '\n'`
	if ca := beside(c.TLS.Cert.Value); ca != "" {
		curl += " --cacert " + ca
	}
	post := func(call, body string) string {
		return fmt.Sprintf(curl+` -X POST %s%s -H 'Content-Type: application/json' -d '%s'`, auth, call, body)
	}
	login := func(email, password, role string) string {
		return "$(" + post("/login", fmt.Sprintf(`{"email":%q,"password":%q,"role":%q}`, email, password, role)) +
			` | sed 's/.*"token":"\([^"]*\)".*/\1/')`
	}
	book := fmt.Sprintf(curl+` -X POST %s/book -H "Authorization: Bearer $USER_TOKEN" -d '{}'`, user)
	if !c.Demo.On {
		const email, password = "you@example.com", "correct horse battery"
		return []string{
			post("/register", fmt.Sprintf(`{"email":%q,"password":%q,"role":"user"}`, email, password)),
			"USER_TOKEN=" + login(email, password, "user"),
			book,
		}
	}
	return []string{
		"USER_TOKEN=" + login("john@example.com", "password123", "user"),
		book,
		fmt.Sprintf(curl+` -X POST %s/accept-booking -H "Authorization: Bearer %s" -d '{}'`,
			rider, login("rider@example.com", "password123", "raider")),
	}
}
