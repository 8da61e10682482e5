package bus

import (
	"cmp"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/internal/fault"
)

const (
	dialPatience  = 2 * time.Second        // to reach one server, and then for its first bytes
	serverPause   = 10 * time.Millisecond  // before the next server of the pool
	poolPause     = 200 * time.Millisecond // before the first server again
	poolJitter    = 500 * time.Millisecond // at most, added to poolPause
	reachPatience = 2 * time.Second        // after Connect, for a server to appear
)

// servers chooses the server that a connection tries next, and remembers why each one failed. The
// client remembers only the last reason, which may matter least, and cannot be asked while it
// tries.
type servers struct {
	urls   string // as configured, without passwords
	log    *slog.Logger
	report func(error) // is reported once why there is no connection

	mu       sync.Mutex
	nc       *nats.Conn
	pool     map[string]bool // host:port of all servers; nil: none was tried yet
	trying   string          // the server of this try, or of the connection
	tries    int             // in all
	round    int             // tries since the last pause
	failed   map[string]error
	allTried chan struct{} // closed once every server has failed
	reported bool
}

func newServers(urls string, log *slog.Logger, report func(error)) *servers {
	return &servers{urls: redacted(urls), log: log, report: report, failed: map[string]error{},
		allTried: make(chan struct{})}
}

// use sets the connection that the servers are for.
func (s *servers) use(nc *nats.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nc = nc
}

// redacted returns URLs without passwords.
func redacted(urls string) string {
	var shown []string
	for one := range strings.SplitSeq(urls, ",") {
		if u, err := url.Parse(strings.TrimSpace(one)); err == nil {
			shown = append(shown, u.Scheme+"://"+u.Host)
		}
	}
	return strings.Join(shown, ", ")
}

var errNotBegun = errors.New("the first try is made in the background")

// Dial implements nats.CustomDialer. It refuses the tries that nats.Connect would make before it
// returns, each of which takes seconds where nobody answers.
func (s *servers) Dial(network, address string) (net.Conn, error) {
	s.mu.Lock()
	if s.pool == nil {
		s.mu.Unlock()
		return nil, errNotBegun
	}
	server, dialer := s.trying, net.Dialer{Timeout: dialPatience}
	if s.tries <= len(s.pool) { // the first round: no server is known to be there
		dialer.Timeout /= time.Duration(len(s.pool))
	}
	s.mu.Unlock()
	conn, err := dialer.Dial(network, address)
	if err != nil {
		s.note(server, err)
	}
	return conn, err
}

// next implements nats.ReconnectToServerHandler: one server after the other, and a pause after each
// round.
func (s *servers) next(pool []nats.Server, _ nats.ServerInfo) (*nats.Server, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nc != nil && s.trying != "" {
		// The client releases its lock only when it waits, which it does next.
		go func(server string, nc *nats.Conn) { s.note(server, nc.LastError()) }(s.trying, s.nc)
	}
	chosen := 0
	s.pool = make(map[string]bool, len(pool))
	for i := range pool {
		s.pool[pool[i].URL.Host] = true
		if pool[i].URL.Host == s.trying {
			chosen = (i + 1) % len(pool)
		}
	}
	s.trying = pool[chosen].URL.Host
	s.tries++
	s.round++
	switch {
	case s.tries == 1:
		return &pool[chosen], 0
	case s.round <= len(pool):
		return &pool[chosen], serverPause
	}
	s.round = 1
	return &pool[chosen], poolPause + rand.N(poolJitter) //nolint:gosec // so that clients do not come back all at once
}

// note remembers why a server could not be used.
func (s *servers) note(server string, err error) {
	if err == nil {
		return
	}
	s.log.Debug("a NATS server cannot be used", "server", server, "error", err)
	if trouble := s.fail(server, err); trouble != nil {
		s.report(trouble)
	}
}

// fail returns why there is no connection, once, when every server has failed.
func (s *servers) fail(server string, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed[server] = err
	for one := range s.pool {
		if s.failed[one] == nil {
			return nil
		}
	}
	select {
	case <-s.allTried:
	default:
		close(s.allTried)
	}
	if s.reported {
		return nil
	}
	s.reported = true
	return s.trouble()
}

// connected forgets the failures.
func (s *servers) connected() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.failed)
	s.round, s.reported = 1, false // the server of the connection has been tried
}

// why returns what is wrong, in a sentence that tells operators what to do.
func (s *servers) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble()
}

// trouble is why, with the mutex held. The server that let the connection come furthest decides: a
// rejected key says more than another server's missing address.
func (s *servers) trouble() error {
	var server string
	var err error
	for one, failed := range s.failed {
		if c := cmp.Compare(progress(failed), progress(err)); c > 0 || c == 0 && one < server {
			server, err = one, failed
		}
	}
	at := "NATS at " + s.urls
	because := reason(err)
	if len(s.pool) > 1 {
		because = server + ": " + because
	}
	switch f := untrusted(err); {
	case err == nil:
		return ErrUnreachable.Saying(at + " has not answered yet.")
	case f != nil:
		return f.Sayingf("%s (%s, %s)", f.Message, at, because)
	case rejected(err):
		return ErrNotLetIn.Sayingf("%s (%s)", ErrNotLetIn.Message, at)
	case progress(err) == answered:
		return ErrUnreachable.Sayingf("What answers at %s cannot be used as NATS: %s. See that "+
			"--nats-url is right.", s.urls, because)
	}
	return ErrUnreachable.Sayingf("%s cannot be reached: %s. See that it is running, and that "+
		"--nats-url is right.", at, because)
}

// How far a server let a connection come.
const (
	nowhere  = iota // not tried
	unknown         // its name cannot be resolved
	silent          // nobody answers
	answered        // something answers
	turned          // it rejects this process, or cannot be trusted
)

func progress(err error) int {
	var name *net.DNSError
	var dial *net.OpError
	switch {
	case err == nil:
		return nowhere
	case errors.As(err, &name):
		return unknown
	case rejected(err) || untrusted(err) != nil:
		return turned
	case errors.As(err, &dial) && dial.Op == "dial":
		return silent
	}
	return answered
}

func rejected(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrNkeysNotSupported)
}

// reason returns the core of an error, without what led to it.
func reason(err error) string {
	var f *fault.Error
	var name *net.DNSError
	var errno syscall.Errno
	var timeout net.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &f):
		return strings.TrimSuffix(f.Message, ".")
	case errors.As(err, &name):
		return name.Err
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, nats.ErrTimeout):
		return "no answer in time"
	}
	return strings.TrimPrefix(err.Error(), "nats: ")
}
