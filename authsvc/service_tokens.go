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

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// ServiceTokens issues tokens to Pillion's own services, which act with them when the system does
// something by itself. A folder says which services may have one: <service>.pub contains the
// public nkeys of a service, one per line. It is read at each request, so a new service or key
// needs no restart. ServiceTokens is safe for concurrent use.
type ServiceTokens struct {
	dir    string
	issuer Issuer
	audit  func(context.Context, Entry)
	now    func() time.Time

	mu     sync.Mutex
	nonces *simplelru.LRU[string, struct{}]
}

const (
	// serviceClock is how far the clocks of a service and of authsvc may differ.
	serviceClock = 30 * time.Second
	// serviceNonces is how many requests are remembered, which is more than come in twice
	// serviceClock. A replay at another instance, or after that many, reveals nothing: the answer
	// is sealed for the original sender.
	serviceNonces = 4096
	maxPublicKeys = 16 << 10 // bytes of a .pub file
)

// Reasons to refuse a service token. The caller is a service of Pillion, so it may learn them.
var (
	ErrServiceUnknown = fault.New(fault.Forbidden, "service_unknown",
		"authsvc does not know this key of the service. Put the service's .pub file into the folder that --services names.")
	ErrServiceClock = fault.New(fault.Forbidden, "service_clock",
		"The clocks of this service and of authsvc differ by more than 30 seconds. Synchronise them with a time server.")
	ErrServiceReplay = fault.New(fault.Forbidden, "service_replay", "This request has been made before.")
)

// serviceName matches the names of services. None of them is a path to another folder.
var serviceName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// NewServiceTokens returns the tokens of the services in a folder, which need not exist yet.
// issuer must issue tokens of token.ServiceType. audit may be nil; now defaults to time.Now.
func NewServiceTokens(dir string, issuer Issuer, audit func(context.Context, Entry),
	now func() time.Time) *ServiceTokens {
	if audit == nil {
		audit = func(context.Context, Entry) {}
	}
	if now == nil {
		now = time.Now
	}
	nonces, err := simplelru.NewLRU[string, struct{}](serviceNonces, nil)
	if err != nil {
		panic(err) // impossible with a size
	}
	return &ServiceTokens{dir: dir, issuer: issuer, audit: audit, now: now, nonces: nonces}
}

// Token returns a token for the service that has signed r. Errors: ErrServiceUnknown,
// ErrServiceClock, ErrServiceReplay, and those of the issuer.
func (s *ServiceTokens) Token(ctx context.Context, r trust.ServiceRequest) (string, error) {
	raw, err := s.issue(r)
	e := Entry{V: 1, What: "service", Result: string(success), Account: token.ServiceID(r.Service),
		Role: string(token.Service), Actor: r.Service}
	switch f := fault.From(err); {
	case errors.Is(err, ErrServiceUnknown): // its name is not proved
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
		return "", ErrServiceClock.Because(fmt.Errorf("the service's clock is %v behind", d))
	}
	if s.seen(r.Nonce) {
		return "", ErrServiceReplay
	}
	raw, _, err = s.issuer.Issue(token.Grant{Subject: token.ServiceID(r.Service), Role: token.Service})
	return raw, err
}

// seen reports whether a nonce was used before, and remembers it.
func (s *ServiceTokens) seen(nonce string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nonces.Contains(nonce) {
		return true
	}
	s.nonces.Add(nonce, struct{}{})
	return false
}

// publicKeys returns the public keys of a service, or ErrServiceUnknown.
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
		return nil, fmt.Errorf("read the public keys of %s: %s is not a regular file of at most %d bytes", service,
			path, maxPublicKeys)
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
