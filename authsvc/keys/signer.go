package keys

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// A Signer issues tokens with the key that is active at that moment. It is safe for concurrent
// use.
//
// It must not sign with a key that verifiers know to be retired. So its token.Keys must fail once
// it has not heard of changes for longer than token.RotationLead less token.ClockLeeway; nobody
// can log in here until it has.
type Signer struct {
	ring   *Ring
	keys   token.Keys
	config token.IssuerConfig

	mu      sync.Mutex
	issuers map[string]*token.Issuer // by kid
}

// ErrNoSigningKey says that no token can be signed at the moment.
var ErrNoSigningKey = fault.New(fault.Unavailable, "no_signing_key",
	"Nobody can log in right now because the signing key is unknown. Please try again in a moment.").After(time.Second)

// NewSigner returns a Signer that signs with the private keys of ring. The active key is the one
// that keys names. Tokens are as config says, except for its Key.
func NewSigner(ring *Ring, keys token.Keys, config token.IssuerConfig) *Signer {
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Signer{ring: ring, keys: keys, config: config, issuers: make(map[string]*token.Issuer)}
}

// Issue signs a token and returns it with the claims that its verification will give. Errors:
// token.ErrGrant, ErrNoSigningKey, and ErrNotHere when only other instances can sign.
func (s *Signer) Issue(g token.Grant) (signed string, c token.Claims, err error) {
	now := s.config.Now()
	issuer, err := s.active(now)
	if err != nil {
		return "", token.Claims{}, err
	}
	return issuer.IssueAt(g, now)
}

// Ready returns nil as long as tokens can be signed.
func (s *Signer) Ready() error {
	_, err := s.active(s.config.Now())
	return err
}

// active returns the issuer with the key that is active at a time.
func (s *Signer) active(now time.Time) (*token.Issuer, error) {
	set, _, err := s.keys.KeySet()
	if err != nil {
		return nil, ErrNoSigningKey.Because(err)
	}
	key, ok := set.Active(now)
	if !ok {
		return nil, ErrNoSigningKey.Because(errors.New("no key is active"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if issuer, ok := s.issuers[key.ID]; ok {
		return issuer, nil
	}
	private, err := s.ring.Find(key.ID)
	if err != nil {
		return nil, ErrNotHere.Because(err) // also for a damaged file: a client cannot repair it
	}
	config := s.config
	config.Key = private
	issuer, err := token.NewIssuer(config)
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", key.ID, err)
	}
	s.issuers[key.ID] = issuer
	return issuer, nil
}
