// Package embedded runs a NATS server inside this process: for `make run`, for development and for tests. It is the only
// package that imports nats-server, so that a service that talks to a NATS server elsewhere does not carry one.
//
// [Start] returns a server that is ready; [Server.Stop] ends it in order.
package embedded

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"pillion/fault"
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
)

const (
	startPatience = 10 * time.Second
	maxMemory     = 64 << 20 // for consumer state; streams are on disk
)

// A Server is a running NATS server. Stop it.
type Server struct {
	srv  *server.Server
	lock *flock.Flock
}

// Start returns a server that accepts connections. ErrAddr and ErrDir carry a sentence for whoever chose the setting.
func Start(c Config) (*Server, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	opts, err := options(c.Access)
	if err != nil {
		return nil, err
	}
	opts.ServerName = "pillion"
	opts.JetStream, opts.StoreDir, opts.JetStreamMaxMemory = true, c.Dir, maxMemory
	opts.SyncAlways, opts.SyncInterval = c.SyncAlways, c.SyncInterval
	opts.DontListen, opts.DisableShortFirstPing = c.Addr == "", true
	if c.Addr != "" {
		host, port, err := listenAddr(c.Addr)
		if err != nil {
			return nil, err
		}
		if !loopback(host) && (c.TLS == nil || c.Access == "") {
			return nil, ErrAddr.Saying(fmt.Sprintf("NATS listens on %s, beyond this machine, only with TLS. Give it a certificate with --nats-tls-cert and --nats-tls-key, or an address on loopback with --nats-addr.", c.Addr))
		}
		opts.Host, opts.Port = host, port
		encrypt(opts, c.TLS)
	}
	lock, err := lockDir(c.Dir)
	if err != nil {
		return nil, err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start NATS: %w", err), lock.Unlock())
	}
	srv.SetLoggerV2(logger{c.Log}, false, false, false)
	srv.Start()
	if !srv.ReadyForConnections(startPatience) {
		srv.Shutdown()
		return nil, errors.Join(fmt.Errorf("start NATS: not ready after %v", startPatience), lock.Unlock())
	}
	return &Server{srv: srv, lock: lock}, nil
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
func (s *Server) Provider() nats.InProcessConnProvider { return s.srv }

// URL returns where the server is reached from this machine, with the port it has taken.
func (s *Server) URL() string {
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
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
	return s.lock.Unlock()
}

// logger hands the server's own words to slog. Its notices are details to us.
type logger struct{ log *slog.Logger }

var _ server.Logger = logger{}

func (l logger) Noticef(format string, v ...any) { l.log.Debug("nats: " + fmt.Sprintf(format, v...)) }
func (l logger) Debugf(format string, v ...any)  { l.log.Debug("nats: " + fmt.Sprintf(format, v...)) }
func (l logger) Tracef(string, ...any)           {} // the protocol itself, tokens included
func (l logger) Warnf(format string, v ...any)   { l.log.Warn("nats: " + fmt.Sprintf(format, v...)) }
func (l logger) Errorf(format string, v ...any)  { l.log.Error("nats: " + fmt.Sprintf(format, v...)) }
func (l logger) Fatalf(format string, v ...any)  { l.log.Error("nats: " + fmt.Sprintf(format, v...)) }
