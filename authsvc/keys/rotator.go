package keys

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// A SetWatch follows the published set of keys, which all verifiers watch.
type SetWatch interface {
	token.Keys
	// Changed returns a channel that is closed at the next change of the set.
	Changed() <-chan struct{}
}

// An UpdateSet changes the published set: see ChangeKeys of an Authority of package trust.
type UpdateSet func(context.Context, func(set *token.KeySet, now time.Time) (*token.KeySet, error)) (was,
	is *token.KeySet, err error)

// RotatorConfig holds the settings of a Rotator. Ring, Watch, Update, LedgerAge and Elsewhere are
// required.
type RotatorConfig struct {
	Ring   *Ring
	Watch  SetWatch
	Update UpdateSet
	// LedgerAge returns how long the ledger keeps events; 0: for ever.
	LedgerAge func(context.Context) (time.Duration, error)
	// Elsewhere reports whether another instance publishes keys now. This one must not do so
	// meanwhile.
	Elsewhere func(context.Context) (bool, error)

	MaxAge time.Duration // the active key is replaced after that; 0: only by an operator
	// Retention is how long a retired key verifies; 0: as long as the ledger keeps events, and a
	// day.
	Retention time.Duration

	// OnChange is called for each change that this Rotator makes. It must not block. Optional.
	OnChange   func(context.Context, Change)
	Log        *slog.Logger          // default: discard
	Registerer prometheus.Registerer // default: the metrics are not exported
	Now        func() time.Time      // default: time.Now
}

// A Rotator keeps the published set of keys complete: one key signs, the next one waits, and
// retired ones verify as long as the ledger keeps their events. Each instance of authsvc runs
// one. They share the set and the folder of the ring, and whichever is first does what is due.
// Call Prepare, then Run.
type Rotator struct {
	c         RotatorConfig
	retention time.Duration // set by Prepare
}

const (
	reconcileEvery = time.Minute // besides at every change of the set
	reconcileRetry = time.Second // after a failure that will pass
	// removeAfter is how long a private key stays on disk after its key has retired. A key that
	// is in no set is removed at that age.
	removeAfter = time.Hour
	// retentionSlack is how much longer than the ledger's age a key verifies: until the last
	// token that it signed has expired.
	retentionSlack = token.MaxLife + token.EventLeeway
	forever        = 100 * 365 * 24 * time.Hour
)

// Errors of [Rotator.Prepare].
var (
	ErrRetention = fault.New(fault.Invalid, "key_retention",
		"Retired keys would be forgotten before the events that they signed.")
	ErrAge       = fault.New(fault.Invalid, "key_age", "Keys would be replaced too often.")
	ErrElsewhere = fault.New(fault.Unavailable, "keys_elsewhere",
		"Another authsvc signs with a key that this one's folder lacks. Give all of them the same folder.")
)

// NewRotator returns a Rotator, or an error that names every missing setting. It registers the
// metrics.
func NewRotator(c RotatorConfig) (*Rotator, error) {
	err := errors.Join(fault.Required("Ring", c.Ring != nil), fault.Required("Watch", c.Watch != nil),
		fault.Required("Update", c.Update != nil), fault.Required("LedgerAge", c.LedgerAge != nil),
		fault.Required("Elsewhere", c.Elsewhere != nil))
	if err != nil {
		return nil, fmt.Errorf("key rotator: %w", err)
	}
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if c.OnChange == nil {
		c.OnChange = func(context.Context, Change) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	r := &Rotator{c: c}
	f := promauto.With(c.Registerer)
	for _, stage := range []token.Stage{token.Next, token.Active, token.Retired, token.Compromised} {
		f.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "pillion", Name: "signing_keys", Help: "Keys of the published set, by stage.",
			ConstLabels: prometheus.Labels{"stage": string(stage)},
		}, func() float64 { return r.count(stage) })
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "pillion", Name: "signing_key_age_seconds",
		Help: "How long the active key has been signing; 0 while no key is active.",
	}, r.age)
	f.NewGauge(prometheus.GaugeOpts{
		Namespace: "pillion", Name: "signing_key_max_age_seconds",
		Help: "At which age the active key is replaced; 0: only by an operator.",
	}).Set(c.MaxAge.Seconds())
	return r, nil
}

// Prepare makes sure that a key is active which this instance can sign with, and checks that
// retired keys are kept long enough. If no set is published, it publishes one with the ring's
// first key. Errors: ErrRetention, ErrAge, those of [LoadOrCreate], ErrElsewhere while another
// instance has the keys, and faults of kind fault.Unavailable.
func (r *Rotator) Prepare(ctx context.Context) error {
	if err := r.setRetention(ctx); err != nil {
		return err
	}
	first, exists, err := r.c.Ring.First()
	if err != nil {
		return err
	}
	var made *token.Key // the update may run several times, but makes one key
	once := func(make func() (token.Key, error)) (token.Key, error) {
		if made == nil {
			key, err := make()
			if err != nil {
				return token.Key{}, err
			}
			made = &key
		}
		return *made, nil
	}
	return r.update(ctx, func(set *token.KeySet, now time.Time) (*token.KeySet, error) {
		if set == nil {
			key, err := once(r.c.Ring.MakeFirst)
			if err != nil {
				return nil, err
			}
			return token.FirstSet(key, now)
		}
		_, known := set.Lookup(first.ID)
		active, signs := set.Active(now)
		if signs && (!exists || known) {
			if _, err := r.c.Ring.Find(active.ID); !errors.Is(err, ErrNotHere) {
				return set, err
			}
		}
		// The operator has put another first key in place, the active key was lost, or none is
		// active.
		if elsewhere, err := r.c.Elsewhere(ctx); err != nil {
			return nil, err
		} else if elsewhere && signs {
			return nil, ErrElsewhere
		}
		if exists && !known {
			return set.Adopt(first, now)
		}
		make := r.c.Ring.Make
		if !exists {
			make = r.c.Ring.MakeFirst
		}
		key, err := once(make)
		if err != nil {
			return nil, err
		}
		return set.Adopt(key, now)
	})
}

// setRetention determines how long retired keys verify, and checks it against the other settings.
func (r *Rotator) setRetention(ctx context.Context) error {
	ledger, err := r.c.LedgerAge(ctx)
	if err != nil {
		return err
	}
	ledger = cmp.Or(ledger, forever)
	r.retention = r.c.Retention
	r.retention = cmp.Or(r.retention, ledger+retentionSlack)
	if r.retention < ledger {
		return ErrRetention.Sayingf("--key-retention %s is shorter than the ledger's age of %s, "+
			"so events would outlive the keys that verify them. "+
			"Make it at least that long, or leave it out.", r.retention, ledger)
	}
	if least := r.retention / (token.MaxKeys - 4); r.c.MaxAge > 0 && r.c.MaxAge < least {
		return ErrAge.Sayingf("--key-age %s is too short: "+
			"a set has room for %d keys, and each is kept for %s. Make it at least %s.",
			r.c.MaxAge, token.MaxKeys, r.retention, least.Round(time.Minute))
	}
	return nil
}

// Run keeps the set complete until ctx ends, and then returns nil. It makes a next key whenever
// there is none, replaces the active key at its maximum age, and forgets keys that no event needs
// any more.
func (r *Rotator) Run(ctx context.Context) error {
	for {
		changed := r.c.Watch.Changed()
		wait := reconcileEvery
		if err := r.reconcile(ctx); err != nil && ctx.Err() == nil {
			level := slog.LevelWarn
			if fault.KindOf(err) == fault.Unavailable {
				level, wait = slog.LevelDebug, reconcileRetry
			}
			r.c.Log.Log(ctx, level, "cannot reconcile the signing keys", "error", err, "retry_in", wait)
		}
		select {
		case <-changed:
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// reconcile does what is due now.
func (r *Rotator) reconcile(ctx context.Context) error {
	set, _, err := r.c.Watch.KeySet()
	if err != nil {
		return err
	}
	now := r.c.Now()
	if err := r.removePrivate(set, now); err != nil {
		r.c.Log.Warn("cannot remove private keys that are no longer needed", "error", err)
	}
	_, signs := set.Active(now)
	if signs && set.HasNext() && !r.tooOld(set, now) {
		if fewer, err := set.Forget(now.Add(-r.retention)); err != nil || fewer == set {
			return err
		}
	}
	var made *token.Key // by this instance, just now
	if !set.HasNext() {
		key, err := r.c.Ring.Make()
		if err != nil {
			return err
		}
		made = &key
	}
	err = r.update(ctx, func(set *token.KeySet, now time.Time) (*token.KeySet, error) {
		if set == nil {
			return nil, token.ErrNoKeys // somebody has deleted it; the next start publishes one
		}
		return r.complete(set, now, made)
	})
	if made == nil {
		return err
	}
	// Another instance may have been faster. removePrivate removes the unused key later.
	if after, _, lookErr := r.c.Watch.KeySet(); err == nil && lookErr == nil {
		if _, used := after.Lookup(made.ID); !used {
			r.c.Log.Debug("another instance has made the next key", "unused", made.ID)
		}
	}
	return err
}

// complete returns the set without expired keys, with the next key, and rotated if that is due.
func (r *Rotator) complete(set *token.KeySet, now time.Time, next *token.Key) (_ *token.KeySet, err error) {
	if set, err = set.Forget(now.Add(-r.retention)); err != nil {
		return nil, err
	}
	if next != nil {
		if set, err = set.WithNext(*next, now); err != nil {
			return nil, err
		}
	}
	if _, signs := set.Active(now); !signs && set.HasNext() || r.tooOld(set, now) {
		return set.Rotate(now)
	}
	return set, nil
}

// tooOld reports whether the active key has reached its maximum age and another can take over.
func (r *Rotator) tooOld(set *token.KeySet, now time.Time) bool {
	active, ok := set.Active(now)
	return ok && r.c.MaxAge > 0 && set.HasNext() && active.RetiredAt.IsZero() &&
		!now.Before(active.ActiveFrom.Add(r.c.MaxAge))
}

// removePrivate removes the private halves of keys that will not sign again, so that nobody can
// steal them.
func (r *Rotator) removePrivate(set *token.KeySet, now time.Time) error {
	made, err := r.c.Ring.made()
	if err != nil {
		return err
	}
	var failed []error
	for kid, at := range made {
		key, known := set.Lookup(kid)
		switch {
		case !known && now.Sub(at) > removeAfter:
		case known && key.Stage(now) == token.Retired && now.Sub(key.RetiredAt) > removeAfter:
		case known && key.Stage(now) == token.Compromised:
		default:
			continue
		}
		failed = append(failed, r.c.Ring.Remove(kid))
	}
	return errors.Join(failed...)
}

// update changes the published set, then logs and reports every change.
func (r *Rotator) update(ctx context.Context, change func(*token.KeySet, time.Time) (*token.KeySet, error)) error {
	was, is, err := r.c.Update(ctx, change)
	if err != nil {
		return err
	}
	for _, c := range Changes(was, is) {
		r.c.Log.Info("signing key "+c.What, "kid", c.Key)
		r.c.OnChange(ctx, c)
	}
	return nil
}

// count returns how many keys of the set are in a stage.
func (r *Rotator) count(stage token.Stage) float64 {
	set, _, err := r.c.Watch.KeySet()
	if err != nil {
		return 0
	}
	n := 0
	for _, key := range set.Keys() {
		if key.Stage(r.c.Now()) == stage {
			n++
		}
	}
	return float64(n)
}

// age returns for how many seconds the active key has been signing.
func (r *Rotator) age() float64 {
	set, _, err := r.c.Watch.KeySet()
	if err != nil {
		return 0
	}
	active, ok := set.Active(r.c.Now())
	if !ok || active.ActiveFrom.IsZero() {
		return 0
	}
	return r.c.Now().Sub(active.ActiveFrom).Seconds()
}
