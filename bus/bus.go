// Package bus is Pillion's use of NATS: it connects, provisions streams and buckets, keeps the ledger, and re-verifies every
// event before anything acts on it.
//
// Begin with [Connect], which returns at once and reconnects by itself. [Provision] makes the streams and buckets and belongs
// to one owner; everybody else waits for them. [OpenLedger] gives the booking.Log that commands are appended to, and
// [Ledger.Follow] feeds a board.Board with events that have been verified, in the ledger's order.
//
// Nothing here trusts what it reads: a message on a stream is a claim, and [Ledger] checks the token it carries as of the time
// the server stored it. Who may publish at all is a question of NATS permissions and not of this package.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/internal/fault"
)

// What a caller is told when the bus does not do as it should. All are worth trying again.
var (
	ErrUnavailable = fault.New(fault.Unavailable, "bus_unavailable",
		"The booking system cannot reach its message bus at the moment. Please try again in a few seconds.").After(2 * time.Second)
	// ErrUnreachable is said to operators, with the address and the reason.
	ErrUnreachable = fault.New(fault.Unavailable, "nats_unreachable",
		"NATS cannot be reached. See that it is running, and that --nats-url is right.").After(2 * time.Second)
	ErrNotLetIn = fault.New(fault.Unavailable, "not_let_in",
		"The NATS server rejected the key of this process, or requires none. See docs/security-nats.md.").After(2 * time.Second)
	ErrOutcomeUnknown = fault.New(fault.Unavailable, "outcome_unknown",
		"We could not confirm in time whether this was recorded.").After(2 * time.Second).Unsure(
		"GET /bookings shows it if it was. With an Idempotency-Key a request can be sent again without being done twice.")
	// errNotRecorded is ErrUnavailable of what was not sent, or was refused for the moment.
	errNotRecorded = ErrUnavailable.Saying(
		"The booking system cannot reach its message bus at the moment. Nothing was recorded. Please try again in a few seconds.")
	// ErrLedgerFull is for what begins something: a booking, another try of one that was given back, a rating.
	ErrLedgerFull = fault.New(fault.Unavailable, "ledger_full",
		"No new bookings can be taken at the moment: what room is left is kept for the rides that there are. Please try again later.").After(time.Minute)
	// ErrNoRoom is for everything else, and for everybody.
	ErrNoRoom = fault.New(fault.Unavailable, "no_room",
		"Nothing can be recorded at the moment, for there is no room left. Nothing was changed. Please try again in a minute.").After(time.Minute)
)

// Config says how to reach NATS. URL or InProcess is required.
type Config struct {
	URL       string                     // one or more nats:// or tls:// URLs, separated by commas
	InProcess nats.InProcessConnProvider // an embedded server; URL is ignored
	Name      string                     // shown in `nats server report connections`
	// CA is a file with the CAs whose servers are trusted, in PEM, read at each connect; with it nothing is sent that is not encrypted. Empty: the
	// CAs of the system, where the URL or the server asks for encryption.
	CA string
	// Key proves to NATS who this is: a server that knows the key lets it do what belongs to it, and one that asks for no keys at all is not
	// good enough for it. nil is for a server that is open, in tests.
	Key nkeys.KeyPair
	// Inbox is whose inbox answers come to: Key's owner, as the servers know it. Empty: anybody's.
	Inbox string
	// Token returns what a user or a rider proves with who they are, in place of Key: a token of their login that is good at that moment. It is asked for
	// before each connection, also one that is made again, because a connection ends with its token.
	Token func() string
	// Changed is told when a connection is made or lost, one call after the other. nil: nobody.
	Changed func(connected bool)
	// Trouble is told once, until there is a connection, why there is none, in a sentence for operators that says what to do.
	// nil: it is logged as a warning, once for all connections of Beside.
	Trouble func(error)
	Log     *slog.Logger
	// Registerer takes the package's counters; nil leaves them unregistered.
	Registerer prometheus.Registerer
	// Beside is another connection of this process, with which this one shares what belongs to the process; Registerer is
	// ignored then.
	Beside *Conn
}

// A process is what all connections of one process have in common.
type process struct {
	metrics *metrics
	past    past
	said    said
	batches chan struct{} // has a value for each batch under way
}

// A Conn is one connection to NATS with what the rest of the package needs around it. Close it.
type Conn struct {
	*process

	nc      *nats.Conn
	js      jetstream.JetStream
	log     *slog.Logger
	met     atomic.Bool // whether a server was ever reached
	link    *link
	begun   time.Time
	servers *servers // nil: there is one, in this process
	leases  leases
	writes  writes
	closed  chan struct{}
}

// Connect returns a connection that is made, and made again whenever it is lost, in the background: a service may start before
// its server. It fails only for settings that can never work. Where a server is there it is connected already; where nobody answers
// it returns after two seconds. The caller closes the Conn.
func Connect(c Config) (*Conn, error) {
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if c.InProcess == nil {
		if err := checkURLs(c.URL); err != nil {
			return nil, err
		}
	}
	conn := &Conn{log: log, begun: time.Now(), link: newLink(), closed: make(chan struct{})}
	if c.Beside != nil {
		conn.process = c.Beside.process
	} else {
		conn.process = &process{metrics: newMetrics(c.Registerer), batches: make(chan struct{}, maxBatches)}
	}
	trouble := c.Trouble
	if trouble == nil {
		trouble = func(err error) {
			if sentence := fault.From(err).Message; conn.said.first(sentence) {
				log.Warn(sentence)
			}
		}
	}
	changed := c.Changed
	if changed == nil {
		changed = func(bool) {}
	}
	linked := func(up bool) {
		conn.leases.asked.Clear() // another server may see another leader
		conn.link.set(up)
		if up {
			conn.said.forget()
			if conn.servers != nil {
				conn.servers.connected()
			}
		}
		changed(up)
	}
	opts := []nats.Option{
		nats.Name(c.Name),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // whoever is not known yet may be later
		nats.Timeout(dialPatience),
		// A server that is cut off, or does not run on, says nothing. Six seconds later another one is looked for: early enough for those whose requests
		// wait meanwhile.
		nats.PingInterval(2 * time.Second),
		nats.MaxPingsOutstanding(2),
		// Once what is sent to it fills what the system keeps, the client would hold its lock for a minute over the next write, and its pings wait for that too.
		nats.FlusherTimeout(2 * time.Second),
		nats.ReconnectOnFlusherError(),
		// A write that timed out must not be sent after the reconnect, when nobody waits for it any more.
		nats.ReconnectBufSize(-1),
		nats.DrainTimeout(time.Second),
		nats.ConnectHandler(func(nc *nats.Conn) {
			conn.met.Store(true)
			linked(true)
			if c.InProcess != nil {
				log.Debug("nats connected, in this process")
				return
			}
			log.Info("nats connected", "url", nc.ConnectedUrlRedacted())
			warnIfReadable(log, nc, c.CA != "")
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info("nats reconnected", "url", nc.ConnectedUrlRedacted())
			warnIfReadable(log, nc, c.CA != "")
			linked(true)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			linked(false)
			if err != nil {
				log.Warn("nats disconnected", "error", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			attrs := []any{"error", err}
			if sub != nil {
				attrs = append(attrs, "subject", sub.Subject)
			}
			log.Warn("nats error", attrs...)
		}),
		nats.ClosedHandler(func(*nats.Conn) {
			conn.link.set(true) // its calls say at once that it is closed
			close(conn.closed)
		}),
	}
	if c.InProcess != nil {
		opts = append(opts, nats.InProcessServer(c.InProcess))
	} else {
		opts = append(opts, encryption(c.CA)...)
		conn.servers = newServers(c.URL, log, trouble)
		opts = append(opts, nats.SetCustomDialer(conn.servers), nats.ReconnectToServer(conn.servers.next))
	}
	if c.Key != nil {
		public, err := c.Key.PublicKey()
		if err != nil {
			return nil, fmt.Errorf("connect to NATS: %w", err)
		}
		opts = append(opts, nats.Nkey(public, c.Key.Sign))
	}
	if c.Token != nil {
		opts = append(opts, nats.TokenHandler(c.Token))
	}
	if c.Inbox != "" {
		opts = append(opts, nats.CustomInboxPrefix(InboxPrefix(c.Inbox)))
	}
	nc, err := nats.Connect(c.URL, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	conn.nc, conn.js = nc, js
	if c.InProcess != nil {
		if nc.IsConnected() {
			conn.met.Store(true)
			conn.link.set(true)
		}
		return conn, nil
	}
	conn.servers.of(nc)
	if c.Beside != nil && !c.Beside.link.is() {
		return conn, nil // nobody has answered that one
	}
	select {
	case <-conn.link.now():
	case <-conn.servers.whole:
	case <-time.After(dialPatience):
	}
	return conn, nil
}

// said is what was logged of why there is no connection, so that those of one process do not all say the same.
type said struct{ sentences sync.Map }

func (s *said) first(sentence string) bool {
	_, before := s.sentences.LoadOrStore(sentence, true)
	return !before
}

func (s *said) forget() { s.sentences.Clear() }

// checkURLs refuses an address that no amount of reconnecting would mend.
func checkURLs(urls string) error {
	for _, s := range strings.Split(urls, ",") {
		u, err := url.Parse(strings.TrimSpace(s))
		if err != nil || u.Host == "" {
			return errBadURL
		}
		switch u.Scheme {
		case "nats", "tls":
		default:
			return errBadURL
		}
	}
	return nil
}

var errBadURL = fault.New(fault.Invalid, "nats_url",
	"The NATS URL must look like nats://host:4222 (several are separated by commas).")

// NATS returns the connection underneath, for what this package does not wrap. It stays owned by the Conn.
func (c *Conn) NATS() *nats.Conn { return c.nc }

// JetStream returns the JetStream context of the connection.
func (c *Conn) JetStream() jetstream.JetStream { return c.js }

// Ready returns nil where there is a connection, and otherwise why there is none: ErrUnreachable, ErrNotLetIn, ErrNotTrusted or
// ErrNotEncrypted, each in a sentence for operators that says what to do.
func (c *Conn) Ready(context.Context) error {
	switch {
	case c.isClosed():
		return ErrUnavailable.Because(nats.ErrConnectionClosed)
	case c.link.is():
		return nil
	case c.servers == nil:
		return ErrUnavailable.Because(errLinkDown)
	}
	return c.servers.why()
}

func (c *Conn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// Reach returns nil once there is a connection, or what Ready does: soon after every server was tried in vain, or when ctx ends.
// It is for whoever has nothing better to do without NATS than to say so.
func (c *Conn) Reach(ctx context.Context) error {
	up := c.link.now()
	soon := time.NewTimer(reachPatience - time.Since(c.begun))
	defer soon.Stop()
	var whole <-chan struct{}
	for {
		select {
		case <-up:
			return nil
		case <-ctx.Done():
			return c.Ready(ctx)
		case <-whole:
			return c.Ready(ctx)
		case <-soon.C:
			if c.servers == nil {
				return c.Ready(ctx)
			}
			whole = c.servers.whole
		}
	}
}

// reachable returns ErrUnavailable at once as long as no server has ever been reached: there is nothing to be patient with.
func (c *Conn) reachable() error {
	if !c.met.Load() {
		return ErrUnavailable.Because(errors.New("NATS has not been reached yet"))
	}
	return nil
}

// Close lets what is under way finish, then closes the connection, and returns when it is closed or ctx ends.
func (c *Conn) Close(ctx context.Context) error {
	if err := c.nc.Drain(); err != nil { // not connected: there is nothing to drain
		c.nc.Close()
	}
	select {
	case <-c.closed:
		return nil
	case <-ctx.Done():
		c.nc.Close()
		return fmt.Errorf("close NATS connection: %w", context.Cause(ctx))
	}
}

// unavailable wraps a failure of the bus for a caller, unless it already is a fault or the caller itself gave up.
func unavailable(op string, err error) error {
	var f *fault.Error
	if errors.As(err, &f) {
		return err
	}
	return ErrUnavailable.Because(fmt.Errorf("%s: %w", op, err))
}
