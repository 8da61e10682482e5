package token

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// DefaultCacheSize is how many verified tokens a Verifier remembers, where Config does not say: about 10 MB when full.
const DefaultCacheSize = 16384

// Config is what a Verifier is made of. Only Keys must be set.
type Config struct {
	Keys      Keys
	Issuer    string           // iss; default "pillion"
	Audience  string           // aud; default "pillion"
	Type      string           // typ of the header of a request's token, exactly; default "JWT"
	CacheSize int              // verified tokens to remember; default DefaultCacheSize
	Now       func() time.Time // default time.Now
	// Clock returns why Now cannot be gone by, such as ErrClock with a cause, or nil where it can; nil: it always can.
	Clock func() error
	// Revocations is asked at every use of a token, remembered or not, whether it was taken back; nil: none ever is.
	Revocations Revocations
	Registerer  prometheus.Registerer // nil: the counters are not registered
}

// A fingerprint is the SHA-256 of a whole token. As the key of the cache, it keeps tokens out of memory.
type fingerprint [sha256.Size]byte

// fingerprintOf returns the fingerprint of a token of at most MaxSize bytes. It copies the token to the
// stack: []byte(raw) would allocate.
func fingerprintOf(raw string) fingerprint {
	var buf [MaxSize]byte
	return sha256.Sum256(buf[:copy(buf[:], raw)])
}

// A Verifier verifies tokens. It is safe for concurrent use and holds nothing that must be closed.
type Verifier struct {
	keys        Keys
	expected    expectedClaims
	cache       *lru.Cache[fingerprint, *parsedToken]
	now         func() time.Time
	clock       func() error                  // or nil
	revocations Revocations                   // or nil
	refused     map[string]prometheus.Counter // by reason
}

// NewVerifier returns a Verifier, or ErrSettings for a configuration that cannot work, all its faults joined. Verifiers that
// share a Registerer share the counters.
func NewVerifier(c Config) (*Verifier, error) {
	var faults []error
	if c.Keys == nil {
		faults = append(faults, ErrSettings.Because(errors.New("Keys is not set")))
	}
	if c.CacheSize < 0 {
		faults = append(faults, ErrSettings.Because(fmt.Errorf("CacheSize is %d", c.CacheSize)))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	if c.CacheSize == 0 {
		c.CacheSize = DefaultCacheSize
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	cache, err := lru.New[fingerprint, *parsedToken](c.CacheSize)
	if err != nil {
		return nil, ErrSettings.Because(err)
	}
	refused, err := refusedCounters(c.Registerer)
	if err != nil {
		return nil, ErrSettings.Because(err)
	}
	return &Verifier{
		keys:        c.Keys,
		expected:    expectedOf(c.Type, c.Issuer, c.Audience),
		cache:       cache,
		now:         c.Now,
		clock:       c.Clock,
		revocations: c.Revocations,
		refused:     refused,
	}, nil
}

// refusedCounters returns one counter a reason, all there from the start so that a rate can be taken of the first refusal.
func refusedCounters(r prometheus.Registerer) (map[string]prometheus.Counter, error) {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "pillion", Subsystem: "tokens", Name: "refused_total",
		Help: "Tokens of requests that were refused or could not be judged, by reason.",
	}, []string{"reason"})
	if r != nil {
		var there prometheus.AlreadyRegisteredError
		if err := r.Register(vec); errors.As(err, &there) {
			shared, ok := there.ExistingCollector.(*prometheus.CounterVec)
			if !ok {
				return nil, err
			}
			vec = shared
		} else if err != nil {
			return nil, err
		}
	}
	counters := make(map[string]prometheus.Counter)
	for _, reason := range reasons() {
		counters[string(reason)] = vec.WithLabelValues(string(reason))
	}
	return counters, nil
}

// Verify verifies the token of a request, now: exp without leeway, iat and nbf at most ClockLeeway ahead. It answers ErrInvalid,
// ErrClock while what Config.Clock returns says so, ErrNoKeys when there is no key set at all, ErrNoRevocations when it was not told, ever or lately, which tokens were taken back, or
// ErrUndecided when ctx ended while it waited for a key set, with zero Claims.
func (v *Verifier) Verify(ctx context.Context, raw string) (Claims, error) {
	claims, err := v.verifyNow(ctx, raw)
	if err != nil {
		v.refused[Reason(err)].Inc()
	}
	return claims, err
}

func (v *Verifier) verifyNow(ctx context.Context, raw string) (Claims, error) {
	if v.clock != nil {
		if err := v.clock(); err != nil {
			return Claims{}, err
		}
	}
	return v.verify(ctx, raw, instant{at: v.now(), early: seconds(ClockLeeway)})
}

// VerifyAt verifies the token of an event that was stored at a time: whether it was valid then, with EventLeeway on exp, nbf,
// iat and the retirement of its key. It may be a ServiceType too. Whoever asks gets the same answer, whenever: ErrInvalid is for good. ErrUndecided and
// ErrNoKeys mean that it cannot be said yet: keep the event and ask again.
//
// A key id is unknown for good only to a set that is known to be complete as of ClockLeeway after the event was stored, or was
// fetched during this call. A token that was taken back, or whose key was compromised, is refused for events stored later than EventLeeway
// after that, and nothing is said of an event before the keys and the revocations as of EventLeeway before it are known to be complete.
func (v *Verifier) VerifyAt(ctx context.Context, raw string, at time.Time) (Claims, error) {
	leeway := seconds(EventLeeway)
	return v.verify(ctx, raw, instant{at: at, event: true, late: leeway, early: leeway, retired: leeway})
}

// A instant is when a token has to be valid, and by how many seconds each of its times may miss that.
type instant struct {
	at                   time.Time
	event                bool
	late, early, retired int64
}

// seconds returns d in seconds.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// verify goes from what is cheap to what is dear, and asks for other keys only when nothing else is wrong with a token.
func (v *Verifier) verify(ctx context.Context, raw string, m instant) (Claims, error) {
	h, err := v.keySnapshot(ctx)
	if err != nil {
		return Claims{}, err
	}
	if len(raw) > MaxSize { // before hashing a megabyte
		return Claims{}, refuse(malformed, "it is longer than 4096 bytes")
	}
	print := fingerprintOf(raw)
	s, cached := v.cache.Get(print)
	var signed signedText
	if !cached {
		if s, signed, err = v.expected.parse(raw); err != nil {
			return Claims{}, err
		}
	}
	if !m.event && s.service != (v.expected.typ == ServiceType) {
		return Claims{}, refuse(wrongType, "typ is another kind of token")
	}
	if err := v.judge(s, m); err != nil {
		return Claims{}, err
	}
	key, known := h.set.Lookup(s.claims.KeyID)
	if !known {
		if key, err = v.seek(ctx, s.claims.KeyID, m, h); err != nil {
			return Claims{}, err
		}
	} else if h.behind(m) {
		if key, err = v.catchUp(ctx, s.claims.KeyID, m); err != nil {
			return Claims{}, err
		}
	}
	switch {
	case !key.RetiredAt.IsZero() && s.iat > key.RetiredAt.Unix()+m.retired:
		return Claims{}, refuse(retiredKey, "iat is after its key retired")
	case !key.CompromisedAt.IsZero() && (!m.event || m.at.After(key.CompromisedAt.Add(EventLeeway))):
		return Claims{}, refuse(compromisedKey, "others may have signed with its key by then")
	}
	if !cached {
		if err := signed.verify(key); err != nil {
			return Claims{}, err
		}
		v.cache.Add(print, s)
	}
	if v.revocations != nil { // last, so that nothing forged ever waits for them
		if err := v.standing(s, m); err != nil {
			return Claims{}, err
		}
	}
	return s.claims, nil
}

// judge compares what a token says with a instant and with whom it must be from and for.
//
// A time in whole seconds is past a instant exactly when it is past the instant's whole seconds, so integers are enough.
func (v *Verifier) judge(s *parsedToken, m instant) error {
	now := m.at.Unix()
	switch {
	case s.claims.Issuer != v.expected.issuer:
		return refuse(issuer, "iss is not ours")
	case s.claims.Audience != v.expected.audience:
		return refuse(audience, "aud is not us")
	case now >= s.exp+m.late:
		return refuse(expired, "exp has passed")
	case s.iat > now+m.early:
		return refuse(notYetValid, "iat is still to come")
	case s.nbf > now+m.early:
		return refuse(notYetValid, "nbf is still to come")
	}
	return nil
}

// A keySnapshot is the set at keySnapshot: as of when it is complete, and whether it was asked for, with success, during this call.
type keySnapshot struct {
	set       *KeySet
	asOf      time.Time
	refreshed bool
}

// keySnapshot returns the set there is, and asks for one when there has never been any.
func (v *Verifier) keySnapshot(ctx context.Context) (h keySnapshot, err error) {
	h.set, h.asOf, err = v.keys.KeySet()
	if err != nil {
		h.refreshed = v.keys.Refresh(ctx)
		h.set, h.asOf, err = v.keys.KeySet()
	}
	if err != nil && !errors.Is(err, ErrNoKeys) {
		err = ErrNoKeys.Saying("Tokens cannot be checked at the instant, because it is not known which keys are good. Please try again.").Because(err)
	}
	return h, err
}

// isFinal reports whether a key that h lacks is unknown for good to a token that had to be valid at m.
func (h keySnapshot) isFinal(m instant) bool {
	return h.refreshed || h.asOf.After(m.at.Add(ClockLeeway))
}

// behind reports whether h may lack a change of its keys that decides about an event at m.
func (h keySnapshot) behind(m instant) bool {
	return m.event && !h.refreshed && h.asOf.Before(m.at.Add(ChangeDelay-EventLeeway))
}

// catchUp looks for a key in a set that is not behind m.
func (v *Verifier) catchUp(ctx context.Context, kid string, m instant) (Key, error) {
	refreshed := v.keys.Refresh(ctx)
	h, err := v.keySnapshot(ctx)
	if err != nil {
		return Key{}, err
	}
	h.refreshed = refreshed
	if key, ok := h.set.Lookup(kid); ok && !h.behind(m) {
		return key, nil
	}
	if ctx.Err() != nil {
		return Key{}, ErrUndecided.Because(ctx.Err())
	}
	return Key{}, ErrUndecided.Because(errKeysBehind)
}

// seek looks for a key that the set at keySnapshot lacks in a newer one.
func (v *Verifier) seek(ctx context.Context, kid string, m instant, h keySnapshot) (Key, error) {
	unknown := refuse(unknownKey, "kid names no key")
	if m.event && h.isFinal(m) {
		return Key{}, unknown
	}
	refreshed := v.keys.Refresh(ctx)
	h, err := v.keySnapshot(ctx)
	if err != nil {
		return Key{}, err
	}
	if key, ok := h.set.Lookup(kid); ok {
		return key, nil
	}
	h.refreshed = refreshed
	switch {
	case m.event && h.isFinal(m):
		return Key{}, unknown
	case ctx.Err() != nil:
		return Key{}, ErrUndecided.Because(ctx.Err())
	case m.event:
		return Key{}, ErrUndecided
	}
	return Key{}, unknown
}
