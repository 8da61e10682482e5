package authsvc

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// An Issuer issues tokens. *token.Issuer is one that has a single key, and [Signer] one whose keys are replaced.
type Issuer interface {
	// Issue signs a token, and returns it with the claims that its verification will give.
	Issue(g token.Grant) (signed string, c token.Claims, err error)
}

var (
	_ Issuer = (*token.Issuer)(nil)
	_ Issuer = (*Signer)(nil)
)

// A Signer issues tokens with whatever key is active when it is asked. It is safe for concurrent use.
//
// It must not sign with a key that others know to be retired. So keys must answer with an error once it has not heard of changes for
// longer than token.RotationLead less token.ClockLeeway: nobody can log in here then.
type Signer struct {
	ring   *KeyRing
	keys   token.Keys
	config token.IssuerConfig

	mu      sync.Mutex
	issuers map[string]*token.Issuer // by kid
}

// ErrNoSigningKey is that no token can be signed at the moment.
var ErrNoSigningKey = fault.New(fault.Unavailable, "no_signing_key",
	"Nobody can log in at the moment, because it is not known which key signs. Please try again in a moment.").After(time.Second)

// NewSigner returns a Signer whose tokens are as config says, but for its Key, and are signed with the keys of ring that keys calls active.
func NewSigner(ring *KeyRing, keys token.Keys, config token.IssuerConfig) *Signer {
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Signer{ring: ring, keys: keys, config: config, issuers: make(map[string]*token.Issuer)}
}

// Issue implements Issuer. Besides token.ErrGrant it answers ErrNoSigningKey, and ErrKeyNotHere where other instances could sign.
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
		return nil, ErrKeyNotHere.Because(err) // a damaged file, too, is nothing that a client can do about
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
