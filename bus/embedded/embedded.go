// Package embedded runs a NATS server inside this process: for `make run`, for development and for tests. It is the only
// package that imports nats-server, so that a service that talks to a NATS server elsewhere does not carry one.
//
// [Start] returns a server that is ready; [Server.Stop] ends it in order. In between it is started anew by itself where a write to
// the disk has failed, as soon as the disk takes writes again.
package embedded

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/example/pillion/internal/fault"
)

// Config says where the server keeps its streams and where it listens. Dir is required.
type Config struct {
	Dir string
	// Addr is a host and a port to listen on; port 0 takes a free one. Empty: reachable from this process only.
	Addr string
	// SyncAlways makes JetStream fsync before each acknowledgement: nothing acknowledged is lost to a power cut. Otherwise it
	// does so every SyncInterval, and acknowledges before.
	SyncAlways   bool
	SyncInterval time.Duration
	Log          *slog.Logger
	// Access is a part of a server's configuration that says who may do what, in its own language; see package access. Empty: the server is
	// open to whoever reaches it.
	Access string
	// TLS is how clients that come over a socket are met; see package certfile. nil: unencrypted, which is for loopback only.
	TLS *tls.Config
}

// What can be wrong with a Config on this machine.
var (
	ErrAddr = fault.New(fault.Invalid, "nats_addr", "NATS cannot listen there.")
	ErrDir  = fault.New(fault.Invalid, "nats_dir", "The data folder cannot be used.")
	ErrData = fault.New(fault.Invalid, "nats_data", "The data in the data folder cannot be used.")
)

const (
	startPatience = 10 * time.Second
	maxMemory     = 64 << 20 // for consumer state; streams are on disk
	// maxStore is more than any disk has. The server sets the limits of all streams aside from it, full or not, and refuses to make
	// or to open one that does not fit. What the disk really has, [Server.Volume] says, and whoever writes looks at that.
	maxStore = 1 << 60
)

// A Server is a running NATS server. Stop it.
type Server struct {
	config Config
	port   int // where it listens
	lock   *flock.Flock

	mu     sync.RWMutex
	srv    *server.Server
	broken atomic.Pointer[error] // why it takes no writes; nil: it does, as far as is known

	cancel context.CancelFunc
	done   chan struct{} // closed when nobody mends it any more
}

// Start returns a server that accepts connections, with everything that is in the folder. ErrAddr, ErrDir and ErrData carry a
// sentence for whoever chose the setting.
func Start(c Config) (*Server, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{config: c, done: make(chan struct{})}
	if c.Addr != "" {
		host, port, err := listenAddr(c.Addr)
		if err != nil {
			return nil, err
		}
		if !loopback(host) && (c.TLS == nil || c.Access == "") {
			return nil, ErrAddr.Saying(fmt.Sprintf("NATS listens on %s, beyond this machine, only with TLS. Give it a certificate with --nats-tls-cert and --nats-tls-key, or an address on loopback with --nats-addr.", c.Addr))
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
	if err := errors.Join(s.enoughToBegin(), s.open()); err != nil {
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

// options returns what the server is started with, each time.
func (s *Server) options() (*server.Options, error) {
	c := s.config
	opts, err := options(c.Access)
	if err != nil {
		return nil, err
	}
	opts.ServerName = "pillion"
	opts.JetStream, opts.StoreDir, opts.JetStreamMaxMemory, opts.JetStreamMaxStore = true, c.Dir, maxMemory, maxStore
	opts.SyncAlways, opts.SyncInterval = c.SyncAlways, c.SyncInterval
	opts.DontListen, opts.DisableShortFirstPing = c.Addr == "", true
	if c.Addr != "" {
		opts.Host, _, _ = net.SplitHostPort(c.Addr)
		opts.Port = s.port
		encrypt(opts, c.TLS)
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
	log := logger{log: s.config.Log, fatal: make(chan string, 1)}
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
	if why == "" {
		why = fmt.Sprintf("it is not ready after %v", startPatience)
	}
	return ErrDir.Saying(fmt.Sprintf("NATS cannot start in the data folder %s: %s. %s", s.config.Dir, why, s.advice())).Because(errors.New(why))
}

// close ends the server.
func (s *Server) close() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}

// options returns options of a server that is closed in the way that access says.
func options(access string) (*server.Options, error) {
	opts := &server.Options{}
	if access != "" {
		if err := opts.ProcessConfigString(access); err != nil {
			return nil, fmt.Errorf("close NATS: %w", err)
		}
	}
	opts.NoSigs = true // signals are the program's
	return opts, nil
}

// tlsPatience is what a handshake may take, in seconds: on a busy machine far more than the usual two.
const tlsPatience = 10

func encrypt(opts *server.Options, c *tls.Config) {
	if c != nil {
		opts.TLS, opts.TLSConfig, opts.TLSTimeout = true, c, tlsPatience
	}
}

// loopback reports whether nobody on another machine can reach host.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// listenAddr splits addr and makes sure that it can be listened on, because the server itself would only log that it cannot.
func listenAddr(addr string) (host string, port int, err error) {
	say := func(why string, cause error) error {
		return ErrAddr.Saying(fmt.Sprintf("NATS cannot listen on %s: %s. Choose another with --nats-addr.", addr, why)).Because(cause)
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
		return "", 0, say(reason(err), err)
	}
	if err := l.Close(); err != nil {
		return "", 0, say(reason(err), err)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

// reason takes the last part of a network error, which says what is wrong without repeating where.
func reason(err error) string {
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		return sys.Err.Error()
	}
	return err.Error()
}

// lockDir keeps a second process out of the folder, which would ruin both.
func lockDir(dir string) (*flock.Flock, error) {
	say := func(why string, cause error) error {
		return ErrDir.Saying(fmt.Sprintf("The data folder %s cannot be used: %s. Choose another with --data.", dir, why)).Because(cause)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			return nil, say(path.Err.Error(), err)
		}
		return nil, say(err.Error(), err)
	}
	lock := flock.New(filepath.Join(dir, "lock"), flock.SetPermissions(0o600))
	locked, err := lock.TryLock()
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			return nil, say(path.Err.Error(), err)
		}
		return nil, say(err.Error(), err)
	}
	if !locked {
		return nil, say("another program is using it", nil)
	}
	return lock, nil
}

// Provider returns what bus.Connect takes to reach the server without a socket.
func (s *Server) Provider() nats.InProcessConnProvider { return s }

// InProcessConn connects without a socket.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.srv.InProcessConn()
}

// URL returns where the server is reached from this machine, with the port it has taken.
func (s *Server) URL() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	u, err := url.Parse(s.srv.ClientURL())
	if err != nil {
		return s.srv.ClientURL()
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsUnspecified() {
		u.Host = net.JoinHostPort("127.0.0.1", u.Port())
	}
	return u.String()
}

// Stop ends the server and returns when its streams are closed. Close connections first.
func (s *Server) Stop() error {
	s.cancel()
	<-s.done
	s.close()
	return s.lock.Unlock()
}

// logger hands the server's own words to slog. Its notices are details to us.
type logger struct {
	log   *slog.Logger
	fatal chan string // takes why the server ends before it has begun; nil: nobody asks
}

var _ server.Logger = logger{}

func (l logger) Noticef(format string, v ...any) { l.log.Debug("nats: " + fmt.Sprintf(format, v...)) }
func (l logger) Debugf(format string, v ...any)  { l.log.Debug("nats: " + fmt.Sprintf(format, v...)) }
func (l logger) Tracef(string, ...any)           {} // the protocol itself, tokens included
func (l logger) Warnf(format string, v ...any)   { l.log.Warn("nats: " + fmt.Sprintf(format, v...)) }
func (l logger) Errorf(format string, v ...any)  { l.log.Error("nats: " + fmt.Sprintf(format, v...)) }
func (l logger) Fatalf(format string, v ...any)  { l.log.Error("nats: " + fmt.Sprintf(format, v...)) }
