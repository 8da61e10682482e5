// Package embedded runs a NATS server in this process, for `make run`, development and tests. Call
// [Start], which returns a server that accepts connections, and [Server.Stop] at the end.
//
// NATS stops accepting writes when one has failed. The package then restarts the server as soon as
// the disk can be written to again. It is the only package besides tests that imports nats-server,
// so a service that uses an external NATS does not contain a server.
package embedded

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/ration"
)

// Config is the configuration of a Server. Only Dir is required.
type Config struct {
	Dir string // the data folder
	// Addr is the host and port to listen on; port 0 picks a free one. Empty: reachable from this
	// process only.
	Addr string
	// SyncAlways makes JetStream fsync before each acknowledgement, so that a power cut loses
	// nothing that was acknowledged. Otherwise it acknowledges first, and syncs every SyncInterval.
	SyncAlways   bool
	SyncInterval time.Duration
	Log          *slog.Logger
	// Access is the part of a server's configuration with accounts and permissions; see package
	// access. Empty: every client may do everything.
	Access string
	// TLS is the TLS configuration for clients that connect over a socket; see package certfile.
	// nil: unencrypted, which is allowed on loopback only.
	TLS *tls.Config
	// MaxConnections bounds the connections of clients over sockets. 0: as many as NATS allows.
	// Connections of this process come on top, and take no file.
	MaxConnections int
}

// Errors of [Start] about the configuration. Their messages name the setting and the remedy.
var (
	ErrAddr = fault.New(fault.Invalid, "nats_addr", "NATS cannot listen there.")
	ErrDir  = fault.New(fault.Invalid, "nats_dir", "The data folder cannot be used.")
	ErrData = fault.New(fault.Invalid, "nats_data", "The data in the data folder cannot be used.")
)

const (
	startPatience = 10 * time.Second
	maxMemory     = 64 << 20 // for the state of consumers; streams are on disk
	// maxStore is more than the size of any disk. The server reserves the size limits of all
	// streams from it, and neither creates nor opens a stream for which too little is left. Writers
	// check the space on the real disk instead; see [Server.Volume].
	maxStore = 1 << 60
)

// A Server is a running NATS server. Stop it.
type Server struct {
	config Config
	port   int // that it listens on
	lock   *flock.Flock

	mu     sync.RWMutex
	srv    *server.Server
	broken atomic.Pointer[error] // why it cannot write; nil: no write is known to have failed

	cancel context.CancelFunc
	done   chan struct{} // closed when mend has returned
}

// Start returns a server that accepts connections and has opened all streams in the folder. Errors
// about the configuration are ErrAddr, ErrDir and ErrData. The caller must call [Server.Stop].
func Start(c Config) (*Server, error) {
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	s := &Server{config: c, done: make(chan struct{})}
	if c.Addr != "" {
		host, port, err := listenAddr(c.Addr)
		if err != nil {
			return nil, err
		}
		if !loopback(host) && (c.TLS == nil || c.Access == "") {
			return nil,
				ErrAddr.Sayingf("NATS requires TLS to listen on %s, which other machines can reach. "+
					"Give it "+
					"a certificate with --nats-tls-cert and --nats-tls-key, or a loopback address with --nats-addr.",
					c.Addr)
		}
		s.port = port
	}
	if _, err := s.options(); err != nil {
		return nil, err
	}
	lock, err := lockDir(c.Dir)
	if err != nil {
		return nil, err
	}
	s.lock = lock
	if err := errors.Join(s.checkSpace(), s.open()); err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	if c.Addr != "" {
		s.port = s.srv.Addr().(*net.TCPAddr).Port
	}
	if err := s.intact(); err != nil {
		s.close()
		return nil, errors.Join(err, lock.Unlock())
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go s.mend(ctx)
	return s, nil
}

// options returns the server's options. Each start needs new ones.
func (s *Server) options() (*server.Options, error) {
	c := s.config
	opts := &server.Options{}
	if c.Access != "" {
		if err := opts.ProcessConfigString(c.Access); err != nil {
			return nil, fmt.Errorf("configure access to NATS: %w", err)
		}
	}
	opts.NoSigs = true // the program handles signals
	opts.ServerName = "pillion"
	opts.JetStream, opts.StoreDir, opts.JetStreamMaxMemory, opts.JetStreamMaxStore = true, c.Dir, maxMemory, maxStore
	opts.SyncAlways, opts.SyncInterval = c.SyncAlways, c.SyncInterval
	if opts.MaxConn = c.MaxConnections; opts.MaxConn > 0 {
		opts.MaxConn += ownConnections
	}
	opts.DontListen, opts.DisableShortFirstPing = c.Addr == "", true
	if c.Addr != "" {
		opts.Host, _, _ = net.SplitHostPort(c.Addr)
		opts.Port = s.port
		if c.TLS != nil {
			opts.TLS, opts.TLSConfig, opts.TLSTimeout = true, c.TLS, tlsPatience
		}
	}
	return opts, nil
}

// open starts the server.
func (s *Server) open() error {
	opts, err := s.options()
	if err != nil {
		return err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("start NATS: %w", err)
	}
	log := logger{log: s.config.Log, clients: new(ration.Lines), fatal: make(chan string, 1)}
	srv.SetLoggerV2(log, false, false, false)
	srv.Start()
	var why string
	for over := time.Now().Add(startPatience); time.Now().Before(over) && why == ""; {
		if srv.ReadyForConnections(100 * time.Millisecond) {
			s.mu.Lock()
			s.srv = srv
			s.mu.Unlock()
			return nil
		}
		select {
		case why = <-log.fatal:
		default:
		}
	}
	srv.Shutdown()
	srv.WaitForShutdown()
	why = cmp.Or(why, fmt.Sprintf("it is not ready after %v", startPatience))
	return ErrDir.Sayingf(
		"NATS cannot start in the data folder %s: %s. %s", s.config.Dir, why, s.advice()).Because(errors.New(why))
}

// close ends the server.
func (s *Server) close() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}

// tlsPatience is how long a TLS handshake may take, in seconds. NATS allows two, which is too short
// on a busy machine.
const tlsPatience = 10

// loopback reports whether host is reachable from this machine only.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// listenAddr splits addr and checks that a server can listen there, because NATS would only log
// that it cannot.
func listenAddr(addr string) (host string, port int, err error) {
	say := func(why string, cause error) error {
		return ErrAddr.Sayingf(
			"NATS cannot listen on %s: %s. Choose another address with --nats-addr (NATS_ADDR).", addr,
			why).Because(cause)
	}
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, say("it must be a host and a port", err)
	}
	port, err = strconv.Atoi(service)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, say("the port must be a number from 0 to 65535", err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", 0, say(fault.Reason(err), err)
	}
	if err := l.Close(); err != nil {
		return "", 0, say(fault.Reason(err), err)
	}
	port = cmp.Or(port, server.RANDOM_PORT)
	return host, port, nil
}

// lockDir keeps other processes out of the folder, because two servers would corrupt it.
func lockDir(dir string) (*flock.Flock, error) {
	say := func(why string, cause error) error {
		return ErrDir.Sayingf(
			"The data folder %s cannot be used: %s. Choose another with --data.", dir, why).Because(cause)
	}
	lock := flock.New(filepath.Join(dir, "lock"), flock.SetPermissions(0o600))
	err, locked := os.MkdirAll(dir, 0o700), false
	if err == nil {
		locked, err = lock.TryLock()
	}
	switch {
	case err != nil:
		return nil, say(fault.Reason(err), err)
	case !locked:
		return nil, say("another program is using it", nil)
	}
	return lock, nil
}

// Provider returns s for [bus.Config], to connect without a socket.
func (s *Server) Provider() nats.InProcessConnProvider { return s }

// ownConnections is how many connections this process may have: one for each service and the
// callout, one for the operator, and some that are being replaced.
const ownConnections = 16

// InProcessConn returns a new connection to the server without a socket. NATS counts those like all
// others, so after a restart strangers may have taken their places. Then the newest strangers go.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.makeRoom(); err != nil {
		return nil, err
	}
	return s.srv.InProcessConn()
}

// makeRoom closes the newest connections over sockets, if there is no place for another one.
func (s *Server) makeRoom() error {
	most := s.config.MaxConnections + ownConnections
	if s.config.MaxConnections == 0 || s.srv.NumClients() < most {
		return nil
	}
	all, err := s.srv.Connz(&server.ConnzOptions{Sort: server.ByCid, Limit: most})
	if err != nil {
		return fmt.Errorf("list the connections to NATS: %w", err)
	}
	strangers := slices.DeleteFunc(all.Conns, func(c *server.ConnInfo) bool { return c.IP == "" })
	slices.SortFunc(strangers, func(a, b *server.ConnInfo) int { return cmp.Compare(b.Cid, a.Cid) })
	for _, c := range strangers[:min(ownConnections, len(strangers))] {
		_ = s.srv.DisconnectClientByID(c.Cid) // it may have gone
	}
	return nil
}

// URL returns the URL of the address on which the server listens. It may be that of all interfaces.
func (s *Server) URL() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.srv.ClientURL()
}

// Stop ends the server and returns when its streams are closed. Close connections first.
func (s *Server) Stop() error {
	s.cancel()
	<-s.done
	s.close()
	return s.lock.Unlock()
}

// A logger writes the server's log to slog, without tokens: the server quotes what a client sends
// as its user, for example. It demotes notices to debug messages, and errors of one client to
// warnings, because an error is for an operator, and anyone who may connect can cause those. For
// the same reason it writes one a second. What a client in this process is refused is a fault of
// ours, and is always written.
type logger struct {
	log     *slog.Logger
	clients *ration.Lines
	fatal   chan string // receives why the server fails to start
}

var _ server.Logger = logger{}

func (l logger) Noticef(format string, v ...any) { l.log.Debug(text(format, v)) }
func (l logger) Debugf(format string, v ...any)  { l.log.Debug(text(format, v)) }
func (l logger) Tracef(string, ...any)           {} // the protocol, which contains tokens
func (l logger) Warnf(format string, v ...any) {
	if strings.Contains(format, aboutClient) || strings.HasPrefix(format, byCallout) {
		l.client(format, v)
		return
	}
	l.log.Warn(text(format, v))
}

func (l logger) Errorf(format string, v ...any) {
	if strings.Contains(format, aboutClient) {
		l.client(format, v)
		return
	}
	l.log.Error(text(format, v))
}

// client logs a line that a client has caused.
func (l logger) client(format string, v []any) {
	if strings.HasPrefix(format, inProcess) {
		l.log.Warn(text(format, v))
	} else if missed, ok := l.clients.Next(time.Now()); ok && missed > 0 {
		l.log.Warn(text(format, v), "unlogged", missed)
	} else if ok {
		l.log.Warn(text(format, v))
	}
}

// How the server begins what it says about a client, about one in this process, which has no
// address, and about one that the callout has refused.
const (
	aboutClient = " - cid:"
	inProcess   = "pipe" + aboutClient
	byCallout   = "Auth callout service returned an error"
)

func (l logger) Fatalf(format string, v ...any) { l.log.Error(text(format, v)) }

// text returns a message for the log.
func text(format string, v []any) string {
	return "nats: " + tokenShape.ReplaceAllString(fmt.Sprintf(format, v...), "(token)")
}

// tokenShape matches a JWT, and the beginning of one.
var tokenShape = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}[A-Za-z0-9_.-]*`)
