package token

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// DefaultCacheSize is the default of Config.CacheSize: about 25 MB when full.
const DefaultCacheSize = 16384

// Config is what a Verifier needs. Only Keys is required.
type Config struct {
	Keys      Keys
	Issuer    string           // iss; default "pillion"
	Audience  string           // aud; default "pillion"
	Type      string           // typ in the header of a request's token; default "JWT"
	CacheSize int              // verified tokens to remember; default DefaultCacheSize
	Now       func() time.Time // default time.Now
	// Clock returns why Now is not reliable, such as ErrClock with a cause, or nil. A nil Clock
	// always trusts Now.
	Clock func() error
	// Revocations is consulted at each use of a token, cached or not. nil: no token is ever
	// revoked.
	Revocations Revocations
	Registerer  prometheus.Registerer // nil: the counters are not registered
}

// A fingerprint is the SHA-256 of a whole token. As the key of the cache, it keeps tokens out of
// memory.
type fingerprint [sha256.Size]byte

// fingerprintOf returns the fingerprint of a token of at most MaxSize bytes. It copies the token to
// the stack: []byte(raw) would allocate.
func fingerprintOf(raw string) fingerprint {
	var buf [MaxSize]byte
	return sha256.Sum256(buf[:copy(buf[:], raw)])
}

// A Verifier verifies tokens. It is safe for concurrent use, and needs no closing.
type Verifier struct {
	keys        Keys
	expected    expectedClaims
	cache       *lru.Cache[fingerprint, *parsedToken]
	now         func() time.Time
	clock       func() error                  // or nil
	revocations Revocations                   // or nil
	refused     map[string]prometheus.Counter // by reason
}

// NewVerifier returns a Verifier, or an ErrSettings for each fault of the configuration, joined.
// Verifiers that share a Registerer share the counters.
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
	c.CacheSize = cmp.Or(c.CacheSize, DefaultCacheSize)
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

// refusedCounters returns a counter for each reason. All exist from the start, so that rate() sees
// the first refusal.
func refusedCounters(r prometheus.Registerer) (map[string]prometheus.Counter, error) {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "pillion", Subsystem: "tokens", Name: "refused_total",
		Help: "Tokens of requests that were refused or could not be verified, by reason.",
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
		counters[reason] = vec.WithLabelValues(reason)
	}
	return counters, nil
}

// Verify verifies the token of a request, now. exp has no leeway. iat and nbf may be ahead by
// ClockLeeway. On error the Claims are zero. Errors:
//   - ErrInvalid: the token is invalid, for good.
//   - ErrClock: Config.Clock does not trust the clock.
//   - ErrNoKeys: there has never been a key set.
//   - ErrNoRevocations: the revocations are missing or too old.
//   - ErrUndecided: ctx ended during the wait for a newer key set.
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
	takes := access
	if v.expected.typ == ServiceType {
		takes = service
	}
	return v.verify(ctx, raw, verifyTime{at: v.now(), takes: takes, early: seconds(ClockLeeway)})
}

// VerifyAt verifies the event token of an event as of the time when the event was stored, with
// EventLeeway for exp, nbf, iat and the retirement of the key. Every caller gets the same verdict
// at any time: ErrInvalid is final. ErrUndecided and ErrNoKeys are not: keep the event and ask
// again.
//
// A key id is finally unknown only to a set that is complete as of ClockLeeway after the event was
// stored, or that was fetched during the call. A revocation, or the compromise of a key, counts for
// events stored more than EventLeeway after it. There is no verdict before the keys and the
// revocations are complete as of EventLeeway before the event.
func (v *Verifier) VerifyAt(ctx context.Context, raw string, at time.Time) (Claims, error) {
	return v.verify(ctx, raw, storedAt(at, event))
}

// VerifyAccessAt is VerifyAt by the old rule, for the events of builds that had no event tokens:
// they carry the access token of their actor, or the token of the service. It refuses an event
// whose sequence in the ledger is behind [KeySet.OldRuleUntil].
func (v *Verifier) VerifyAccessAt(ctx context.Context, raw string, at time.Time, seq uint64) (Claims, error) {
	claims, err := v.verify(ctx, raw, storedAt(at, access|service))
	if err != nil {
		return Claims{}, err
	}
	keys, err := v.keySnapshot(ctx) // no older than the one that verify has found good enough
	if err != nil {
		return Claims{}, err
	}
	if until, closed := keys.set.OldRuleUntil(); closed && seq > until {
		return Claims{}, refuse(oldRule, "the old rule had ended when its event was stored")
	}
	return claims, nil
}

// storedAt returns the time at which the token of an event must be valid, by its storing.
func storedAt(at time.Time, takes kind) verifyTime {
	leeway := seconds(EventLeeway)
	return verifyTime{at: at, takes: takes, event: true, late: leeway, early: leeway, retired: leeway}
}

// A verifyTime is the time at which a token must be valid, with the leeways of its times in
// seconds.
type verifyTime struct {
	at                   time.Time
	takes                kind // the kinds of token that are valid there
	event                bool
	late, early, retired int64
}

// seconds returns d in seconds.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// verify makes the cheap checks first. It asks for newer keys only if the token passes all other
// checks.
func (v *Verifier) verify(ctx context.Context, raw string, m verifyTime) (Claims, error) {
	keys, err := v.keySnapshot(ctx)
	if err != nil {
		return Claims{}, err
	}
	if len(raw) > MaxSize { // do not hash a megabyte
		return Claims{}, refuse(malformed, "it is longer than 4096 bytes")
	}
	sum := fingerprintOf(raw)
	s, cached := v.cache.Get(sum)
	var signed signedText
	if !cached {
		if s, signed, err = v.expected.parse(raw); err != nil {
			return Claims{}, err
		}
	}
	if m.takes&s.kind == 0 {
		return Claims{}, refuse(wrongType, "typ is another kind of token")
	}
	if err := v.checkClaims(s, m); err != nil {
		return Claims{}, err
	}
	key, known := keys.set.Lookup(s.claims.KeyID)
	if !known {
		if key, err = v.findKey(ctx, s.claims.KeyID, m, keys); err != nil {
			return Claims{}, err
		}
	} else if keys.isBehind(m) {
		if key, err = v.refreshedKey(ctx, s.claims.KeyID, m); err != nil {
			return Claims{}, err
		}
	}
	switch {
	case !key.RetiredAt.IsZero() && s.iat > key.RetiredAt.Unix()+m.retired:
		return Claims{}, refuse(retiredKey, "iat is after its key retired")
	case !key.CompromisedAt.IsZero() && (!m.event || m.at.After(key.CompromisedAt.Add(EventLeeway))):
		return Claims{}, refuse(compromisedKey, "its key was compromised by then")
	}
	if !cached {
		if err := signed.verify(key); err != nil {
			return Claims{}, err
		}
		if err := v.checkEventToken(s.claims, key); err != nil {
			return Claims{}, err
		}
		v.cache.Add(sum, s)
	}
	if v.revocations != nil { // last: a forged token never waits for them
		if err := v.checkRevocations(s, m); err != nil {
			return Claims{}, err
		}
	}
	return s.claims, nil
}

// checkEventToken checks the event token of a token with claims c, if it has one: it must say the
// same, and have a signature by the same key. So it is valid for as long as the outer token is, and
// an event that is stored with it will not be refused. It is remembered, because this process will
// meet it in the event.
func (v *Verifier) checkEventToken(c Claims, key Key) error {
	raw := string(c.Event)
	if raw == "" {
		return nil
	}
	inner, signed, err := v.expected.parse(raw)
	if err != nil {
		return err
	}
	c.Event, c.Email, c.Audience = "", "", v.expected.ledger
	if inner.kind != event || inner.claims != c {
		return refuse(malformed, "its event token says something else")
	}
	if err := signed.verify(key); err != nil {
		return err
	}
	v.cache.Add(fingerprintOf(raw), inner)
	return nil
}

// checkClaims checks iss, aud and the times of a token. The claims have whole seconds, so the
// fraction of m.at makes no difference.
func (v *Verifier) checkClaims(s *parsedToken, m verifyTime) error {
	now, us := m.at.Unix(), v.expected.audience
	if s.kind == event {
		us = v.expected.ledger
	}
	switch {
	case s.claims.Issuer != v.expected.issuer:
		return refuse(issuer, "iss is not ours")
	case s.claims.Audience != us:
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

// A keySnapshot is a key set as the verifier has it.
type keySnapshot struct {
	set       *KeySet
	asOf      time.Time // the set includes every change before
	refreshed bool      // the set was fetched during this call
}

// keySnapshot returns the present key set. If there has never been one, it waits for one.
func (v *Verifier) keySnapshot(ctx context.Context) (h keySnapshot, err error) {
	h.set, h.asOf, err = v.keys.KeySet()
	if err != nil {
		h.refreshed = v.keys.Refresh(ctx)
		h.set, h.asOf, err = v.keys.KeySet()
	}
	if err != nil && !errors.Is(err, ErrNoKeys) {
		err = ErrNoKeys.Saying("Tokens cannot be verified at the moment: the signing keys are unavailable. " +
			"Please try again.").Because(err)
	}
	return h, err
}

// isFinalAt reports whether a key that h lacks will stay unknown at m.
func (h keySnapshot) isFinalAt(m verifyTime) bool {
	return h.refreshed || h.asOf.After(m.at.Add(ClockLeeway))
}

// isBehind reports whether h may lack a change of its keys that affects an event at m.
func (h keySnapshot) isBehind(m verifyTime) bool {
	return m.event && !h.refreshed && h.asOf.Before(m.at.Add(ChangeDelay-EventLeeway))
}

// refreshedKey returns a key from a set that is not behind m.
func (v *Verifier) refreshedKey(ctx context.Context, kid string, m verifyTime) (Key, error) {
	refreshed := v.keys.Refresh(ctx)
	h, err := v.keySnapshot(ctx)
	if err != nil {
		return Key{}, err
	}
	h.refreshed = refreshed
	if key, ok := h.set.Lookup(kid); ok && !h.isBehind(m) {
		return key, nil
	}
	if ctx.Err() != nil {
		return Key{}, ErrUndecided.Because(ctx.Err())
	}
	return Key{}, ErrUndecided.Because(errKeysBehind)
}

// findKey looks in a newer set for a key that h lacks.
func (v *Verifier) findKey(ctx context.Context, kid string, m verifyTime, h keySnapshot) (Key, error) {
	unknown := refuse(unknownKey, "kid names no key")
	if m.event && h.isFinalAt(m) {
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
	case m.event && h.isFinalAt(m):
		return Key{}, unknown
	case ctx.Err() != nil:
		return Key{}, ErrUndecided.Because(ctx.Err())
	case m.event:
		return Key{}, ErrUndecided
	}
	return Key{}, unknown
}
