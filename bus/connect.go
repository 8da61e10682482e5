package bus

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/tracing"
)

// Config says how to reach NATS. URL or InProcess is required.
type Config struct {
	URL       string                     // one or more nats:// or tls:// URLs, separated by commas
	InProcess nats.InProcessConnProvider // an embedded server; URL is ignored
	Name      string                     // shown in `nats server report connections`
	// CA is a PEM file with the trusted CAs, read at each connect. With it the connection is always
	// encrypted. Empty: the system's CAs, where the URL or the server asks for encryption.
	CA string
	// Key identifies this process to NATS. A server that asks for no keys is refused. nil is for
	// open servers, in tests.
	Key nkeys.KeyPair
	// Inbox names whose inbox receives answers: Key's owner, as the servers know it. Empty: the
	// shared inbox of open servers.
	Inbox string
	// Token returns the login token of a user or rider, who connect with it in place of Key. Each
	// connect and reconnect asks for a new one, because a connection ends with its token.
	Token func() string
	// Changed is called when the connection is made or lost, one call after the other. nil: none.
	Changed func(connected bool)
	// Trouble receives the reason why there is no connection, once until there is one, in a
	// sentence that tells operators what to do. nil: the reason is logged as a warning, once for
	// all connections of ShareMetricsWith.
	Trouble func(error)
	Log     *slog.Logger
	Tracer  *tracing.Tracer // makes the spans of messages; nil: none
	// Registerer takes the counters of the packages that use this connection. nil: none.
	Registerer prometheus.Registerer
	// ShareMetricsWith is another connection of this process. Both then share a registry and a
	// tracer, and log the same trouble once. Registerer and Tracer are ignored.
	ShareMetricsWith *Conn
}

// Connect returns a connection that is made, and remade whenever it is lost, in the background: a
// service may start before its server. Only settings that can never work are an error. Connect
// waits up to two seconds for the first connection. The caller closes the Conn.
func Connect(c Config) (*Conn, error) {
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if c.Changed == nil {
		c.Changed = func(bool) {}
	}
	if c.InProcess == nil {
		if err := checkURLs(c.URL); err != nil {
			return nil, err
		}
	}
	conn := &Conn{
		log: c.Log, tracer: c.Tracer, registerer: c.Registerer, logged: new(loggedOnce),
		begun: time.Now(), state: newConnState(), closed: make(chan struct{}),
	}
	if c.ShareMetricsWith != nil {
		other := c.ShareMetricsWith
		conn.registerer, conn.logged, conn.tracer = other.registerer, other.logged, other.tracer
	}
	opts := append(conn.handlers(c), reconnecting()...)
	if c.InProcess != nil {
		opts = append(opts, nats.InProcessServer(c.InProcess))
	} else {
		conn.servers = newServers(c.URL, c.Log, conn.trouble(c))
		opts = append(opts, encryption(c.CA)...)
		opts = append(opts, nats.SetCustomDialer(conn.servers), nats.ReconnectToServer(conn.servers.next))
	}
	proof, err := credentials(c)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	nc, err := nats.Connect(c.URL, append(opts, proof...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	if conn.js, err = jetstream.New(nc); err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	conn.nc = nc
	conn.awaitFirst(c.ShareMetricsWith)
	return conn, nil
}

// awaitFirst waits a while for the first connection, unless the sibling has waited in vain already.
func (c *Conn) awaitFirst(sibling *Conn) {
	if c.servers == nil {
		if c.nc.IsConnected() {
			c.setUp(true)
		}
		return
	}
	c.servers.use(c.nc)
	if sibling != nil && !sibling.IsUp() {
		return
	}
	select {
	case <-c.state.whenUp():
	case <-c.servers.allTried:
	case <-time.After(dialPatience):
	}
}

// setUp notes that the connection is up or lost.
func (c *Conn) setUp(up bool) {
	c.leases.asked.Clear() // another server may see another leader
	if up {
		c.state.mu.Lock()
		c.everConnected = true
		c.state.mu.Unlock()
		c.logged.forget()
		if c.servers != nil {
			c.servers.connected()
		}
	}
	c.state.setUp(up)
}

// trouble returns the function that reports why there is no connection.
func (c *Conn) trouble(config Config) func(error) {
	if config.Trouble != nil {
		return config.Trouble
	}
	return func(err error) {
		if sentence := fault.From(err).Message; c.logged.first(sentence) {
			c.log.Warn(sentence)
		}
	}
}

// handlers returns the options that follow what happens to the connection.
func (c *Conn) handlers(config Config) []nats.Option {
	changed := func(up bool) {
		c.setUp(up)
		config.Changed(up)
	}
	up := func(message string, nc *nats.Conn) {
		changed(true)
		if config.InProcess != nil {
			c.log.Debug(message + ", in this process")
			return
		}
		c.log.Info(message, "url", nc.ConnectedUrlRedacted())
		warnIfReadable(c.log, nc, config.CA != "")
	}
	return []nats.Option{
		nats.Name(config.Name),
		nats.ConnectHandler(func(nc *nats.Conn) { up("nats connected", nc) }),
		nats.ReconnectHandler(func(nc *nats.Conn) { up("nats reconnected", nc) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			changed(false)
			if err != nil {
				c.log.Warn("nats disconnected", "error", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			attrs := []any{"error", err}
			if sub != nil {
				attrs = append(attrs, "subject", sub.Subject)
			}
			c.log.Warn("nats error", attrs...)
		}),
		nats.ClosedHandler(func(*nats.Conn) {
			c.state.setUp(true) // so that calls reach the client, which says that it is closed
			close(c.closed)
		}),
	}
}

// reconnecting returns the options by which a connection never gives up.
func reconnecting() []nats.Option {
	return []nats.Option{
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // a key that is unknown now may be known later
		nats.Timeout(dialPatience),
		// A server that is cut off or frozen says nothing. Six seconds later the client looks for
		// another one, while requests still wait.
		nats.PingInterval(2 * time.Second),
		nats.MaxPingsOutstanding(2),
		// With the system's send buffer full, the client would hold its lock for a minute over the
		// next write, and its pings would wait too.
		nats.FlusherTimeout(2 * time.Second),
		nats.ReconnectOnFlusherError(),
		// A write that timed out must not be sent after a reconnect, when nobody waits for it.
		nats.ReconnectBufSize(-1),
		nats.DrainTimeout(time.Second),
	}
}

// credentials returns the options that identify this process.
func credentials(c Config) ([]nats.Option, error) {
	var opts []nats.Option
	if c.Key != nil {
		public, err := c.Key.PublicKey()
		if err != nil {
			return nil, err
		}
		opts = append(opts, nats.Nkey(public, c.Key.Sign))
	}
	if c.Token != nil {
		opts = append(opts, nats.TokenHandler(c.Token))
	}
	if c.Inbox != "" {
		opts = append(opts, nats.CustomInboxPrefix(InboxPrefix(c.Inbox)))
	}
	return opts, nil
}

var errBadURL = fault.New(fault.Invalid, "nats_url",
	"The NATS URL must look like nats://host:4222 (several are separated by commas).")

// checkURLs returns errBadURL for addresses that can never work.
func checkURLs(urls string) error {
	for one := range strings.SplitSeq(urls, ",") {
		u, err := url.Parse(strings.TrimSpace(one))
		if err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls" {
			return errBadURL
		}
	}
	return nil
}
