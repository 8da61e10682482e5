package authsvc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"

	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// ServiceTokens gives our own processes the tokens that they act with when the system does something by itself. Who may have one is said by
// a folder: <service>.pub has the public nkeys of a service, one a line, usually one. It is read at each request, so a new service, or
// a new key, needs no restart. It is safe for concurrent use.
type ServiceTokens struct {
	dir    string
	issuer Issuer
	audit  func(context.Context, Entry)
	now    func() time.Time

	mu     sync.Mutex
	nonces *expirable.LRU[string, struct{}]
}

const (
	// serviceClock is how far a service's clock may be from ours.
	serviceClock = 30 * time.Second
	// serviceNonces bounds how many requests are remembered. One that is repeated elsewhere, or later than that, gives away nothing: the
	// answer is sealed for whoever made the first one.
	serviceNonces = 4096
	maxPublicKeys = 16 << 10 // bytes of a file
)

// Why a service gets no token. It is one of ours, so it is told.
var (
	ErrServiceUnknown = fault.New(fault.Forbidden, "service_unknown",
		"authsvc does not know this service by that key. Put the service's .pub file into the folder that --services names.")
	ErrServiceClock = fault.New(fault.Forbidden, "service_clock",
		"The clocks of this service and of authsvc are more than 30 seconds apart. Set them by a time server.")
	ErrServiceReplay = fault.New(fault.Forbidden, "service_replay", "This request has been made before.")
)

// serviceName is what a service can be called, so that it is a file name and nothing else.
var serviceName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// NewServiceTokens returns the tokens of the services in a folder, which need not exist yet, signed by issuer, which must be one of
// token.ServiceType. audit and now may be nil: nobody, and time.Now.
func NewServiceTokens(dir string, issuer Issuer, audit func(context.Context, Entry), now func() time.Time) *ServiceTokens {
	if audit == nil {
		audit = func(context.Context, Entry) {}
	}
	if now == nil {
		now = time.Now
	}
	return &ServiceTokens{
		dir: dir, issuer: issuer, audit: audit, now: now,
		nonces: expirable.NewLRU[string, struct{}](serviceNonces, nil, 2*serviceClock),
	}
}

// Token returns a token for the service that has signed r. It answers ErrServiceUnknown, ErrServiceClock, ErrServiceReplay, and the
// errors of the issuer.
func (s *ServiceTokens) Token(ctx context.Context, r trust.ServiceRequest) (string, error) {
	raw, err := s.issue(r)
	e := Entry{V: 1, What: "service", Result: string(success), Account: token.ServiceID(r.Service), Role: string(token.Service), Actor: r.Service}
	switch f := fault.From(err); {
	case errors.Is(err, ErrServiceUnknown): // then its name is a stranger's word
		e.Result, e.Reason, e.Account, e.Actor = string(refused), f.Code, "", ""
	case err != nil:
		e.Result, e.Reason = string(refused), f.Code
	}
	s.audit(ctx, e)
	return raw, err
}

func (s *ServiceTokens) issue(r trust.ServiceRequest) (raw string, err error) {
	keys, err := s.publicKeys(r.Service)
	if err != nil {
		return "", err
	}
	known := false
	for _, k := range keys {
		known = known || r.SignedBy(k)
	}
	if !known {
		return "", ErrServiceUnknown
	}
	if d := s.now().Sub(r.At); d > serviceClock || d < -serviceClock {
		return "", ErrServiceClock.Because(fmt.Errorf("it is %v behind", d))
	}
	if s.seen(r.Nonce) {
		return "", ErrServiceReplay
	}
	raw, _, err = s.issuer.Issue(token.Grant{Subject: token.ServiceID(r.Service), Role: token.Service})
	return raw, err
}

// seen reports whether a nonce has been seen before, and remembers it.
func (s *ServiceTokens) seen(nonce string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nonces.Contains(nonce) {
		return true
	}
	s.nonces.Add(nonce, struct{}{})
	return false
}

// publicKeys returns the keys of a service: none for one that is not known.
func (s *ServiceTokens) publicKeys(service string) ([]string, error) {
	if !serviceName.MatchString(service) {
		return nil, ErrServiceUnknown
	}
	path := filepath.Join(s.dir, service+".pub")
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, ErrServiceUnknown.Because(err)
	case err != nil:
		return nil, fmt.Errorf("read the public keys of %s: %w", service, err)
	case !info.Mode().IsRegular() || info.Size() > maxPublicKeys:
		return nil, fmt.Errorf("read the public keys of %s: %s is no such file", service, path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the public keys of %s: %w", service, err)
	}
	var keys []string
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		if line := strings.TrimSpace(lines.Text()); line != "" {
			keys = append(keys, line)
		}
	}
	return keys, nil
}
