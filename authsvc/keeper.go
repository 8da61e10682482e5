package authsvc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// KeySets is where the set of keys is that all verifiers watch.
type KeySets interface {
	token.Keys
	// Changed returns a channel that is closed at the next change of the set.
	Changed() <-chan struct{}
}

// A ChangeKeys changes the set that all verifiers watch: see [github.com/example/pillion/bus.Conn.ChangeKeys].
type ChangeKeys func(context.Context, func(set *token.KeySet, now time.Time) (*token.KeySet, error)) (was, is *token.KeySet, err error)

// KeeperConfig is what a KeyKeeper needs. Ring, Keys, Change, LedgerAge and Elsewhere are required.
type KeeperConfig struct {
	Ring   *KeyRing
	Keys   KeySets
	Change ChangeKeys
	// LedgerAge returns how long events are kept.
	LedgerAge func(context.Context) (time.Duration, error)
	// Elsewhere reports whether another instance publishes keys now. This one must not when it is asked.
	Elsewhere func(context.Context) (bool, error)

	Age       time.Duration // after which the active key is replaced; 0: never by itself
	Retention time.Duration // how long a retired key goes on verifying; 0: for as long as the ledger keeps events, and a day

	Audit      func(context.Context, Entry) // nil: nobody
	Log        *slog.Logger                 // default: discard
	Registerer prometheus.Registerer        // default: metrics that nobody sees
	Now        func() time.Time             // default: time.Now
}

// A KeyKeeper keeps the set of keys as it must be: one key that signs, a next one that waits, and those that sign no more for as long as
// their events are kept. Each instance of authsvc has one; they share the set and the folder of the ring, and whoever comes first
// does what is due. Call Prepare, then Run.
type KeyKeeper struct {
	c         KeeperConfig
	retention time.Duration // what Prepare has found
}

const (
	keeperPace  = time.Minute // between two looks at what is due, besides those at every change
	keeperRetry = time.Second // after one that failed
	// sweepAfter is how long a private half is kept once its key signs no more, and how old one must be that is in no set.
	sweepAfter = time.Hour
	// retentionSlack is how much longer than the ledger's age a key verifies: the last token that it signed may be used until it runs out.
	retentionSlack = token.MaxLife + token.EventLeeway
	forever        = 100 * 365 * 24 * time.Hour
)

// What is wrong with settings that only turns out when the ledger is there, and with instances that do not share their keys.
var (
	ErrRetention = fault.New(fault.Invalid, "key_retention", "Retired keys would be forgotten before the events that they signed.")
	ErrKeyAge    = fault.New(fault.Invalid, "key_age", "Keys would be replaced too often.")
	ErrElsewhere = fault.New(fault.Unavailable, "keys_elsewhere", "Another authsvc signs with a key that is not in this one's folder. Give all of them the same folder.")
)

// NewKeyKeeper returns a keeper, or an error that names every setting that is missing. It registers the metrics.
func NewKeyKeeper(c KeeperConfig) (*KeyKeeper, error) {
	var missing []error
	for _, need := range []struct {
		name  string
		given bool
	}{
		{"Ring", c.Ring != nil}, {"Keys", c.Keys != nil}, {"Change", c.Change != nil},
		{"LedgerAge", c.LedgerAge != nil}, {"Elsewhere", c.Elsewhere != nil},
	} {
		if !need.given {
			missing = append(missing, errors.New("key keeper: "+need.name+" is required"))
		}
	}
	if missing != nil {
		return nil, errors.Join(missing...)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Audit == nil {
		c.Audit = func(context.Context, Entry) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	k := &KeyKeeper{c: c}
	if c.Registerer != nil {
		for _, stage := range []token.Stage{token.Next, token.Active, token.Retired, token.Compromised} {
			c.Registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Namespace: "pillion", Name: "signing_keys", Help: "Keys of the published set, by stage.",
				ConstLabels: prometheus.Labels{"stage": string(stage)},
			}, func() float64 { return k.count(stage) }))
		}
		c.Registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "pillion", Name: "signing_key_age_seconds", Help: "How long the active key has been signing; 0 while there is none.",
		}, k.age))
	}
	return k, nil
}

// Prepare makes sure that there is an active key that this instance can sign with, and that retired keys are kept long enough. Where there is
// no set it begins one with the ring's first key. It answers ErrRetention and ErrKeyAge, the errors of [LoadOrCreateKey], ErrElsewhere
// while another instance has the keys, and faults of kind fault.Unavailable.
func (k *KeyKeeper) Prepare(ctx context.Context) error {
	if err := k.keep(ctx); err != nil {
		return err
	}
	first, there, err := k.c.Ring.First()
	if err != nil {
		return err
	}
	var made *token.Key
	own := func(make func() (token.Key, error)) (token.Key, error) {
		if made == nil {
			key, err := make()
			if err != nil {
				return token.Key{}, err
			}
			made = &key
		}
		return *made, nil
	}
	return k.change(ctx, func(set *token.KeySet, now time.Time) (*token.KeySet, error) {
		if set == nil {
			key, err := own(k.c.Ring.MakeFirst)
			if err != nil {
				return nil, err
			}
			return token.FirstSet(key, now)
		}
		_, known := set.Lookup(first.ID)
		active, signs := set.Active(now)
		if signs && (!there || known) {
			if _, err := k.c.Ring.Find(active.ID); !errors.Is(err, ErrKeyNotHere) {
				return set, err
			}
		}
		// The operator has put another first key in place, or the active one was lost, or there is none.
		if elsewhere, err := k.c.Elsewhere(ctx); err != nil {
			return nil, err
		} else if elsewhere && signs {
			return nil, ErrElsewhere
		}
		switch {
		case there && !known:
			return set.Adopt(first, now)
		case !there:
			first, err := own(k.c.Ring.MakeFirst)
			if err != nil {
				return nil, err
			}
			return set.Adopt(first, now)
		}
		key, err := own(k.c.Ring.Make)
		if err != nil {
			return nil, err
		}
		return set.Adopt(key, now)
	})
}

// keep finds out how long retired keys are kept.
func (k *KeyKeeper) keep(ctx context.Context) error {
	ledger, err := k.c.LedgerAge(ctx)
	if err != nil {
		return err
	}
	if ledger == 0 { // it keeps them for ever
		ledger = forever
	}
	k.retention = k.c.Retention
	if k.retention == 0 {
		k.retention = ledger + retentionSlack
	}
	if k.retention < ledger {
		return ErrRetention.Saying(fmt.Sprintf("--key-retention %s is shorter than the ledger's age of %s, so events would outlive the keys that verify them. "+
			"Make it that long at least, or leave it out.", k.retention, ledger))
	}
	if least := k.retention / (token.MaxKeys - 4); k.c.Age > 0 && k.c.Age < least {
		return ErrKeyAge.Saying(fmt.Sprintf("--key-age %s is too short: a set has room for %d keys, and each is kept for %s. Make it %s at least.",
			k.c.Age, token.MaxKeys, k.retention, least.Round(time.Minute)))
	}
	return nil
}

// Run does what is due until ctx ends, and then returns nil: a next key is made as soon as there is none, the active key is replaced
// when it is old, and keys are forgotten that no event needs any more.
func (k *KeyKeeper) Run(ctx context.Context) error {
	for {
		changed := k.c.Keys.Changed()
		wait := keeperPace
		if err := k.tend(ctx); err != nil && ctx.Err() == nil {
			level := slog.LevelWarn
			if fault.KindOf(err) == fault.Unavailable { // it will pass
				level, wait = slog.LevelDebug, keeperRetry
			}
			k.c.Log.Log(ctx, level, "the keys could not be tended", "error", err, "retry_in", wait)
		}
		select {
		case <-changed:
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// tend does what is due now.
func (k *KeyKeeper) tend(ctx context.Context) error {
	set, _, err := k.c.Keys.KeySet()
	if err != nil {
		return err
	}
	now := k.c.Now()
	if err := k.sweep(set, now); err != nil {
		k.c.Log.Warn("private keys could not be cleared away", "error", err)
	}
	_, signs := set.Active(now)
	if signs && set.HasNext() && !k.old(set, now) {
		if fewer, err := set.Forget(now.Add(-k.retention)); err != nil || fewer == set {
			return err
		}
	}
	var made *token.Key // by this instance, and not here before
	if !set.HasNext() {
		key, err := k.c.Ring.Make()
		if err != nil {
			return err
		}
		made = &key
	}
	err = k.change(ctx, func(set *token.KeySet, now time.Time) (*token.KeySet, error) {
		if set == nil {
			return nil, token.ErrNoKeys // somebody has deleted it; the next start makes one
		}
		return k.due(set, now, made)
	})
	if made == nil {
		return err
	}
	// Where another instance was faster, or nobody knows what has become of it, the set says by the time of the next sweep.
	if after, _, lookErr := k.c.Keys.KeySet(); err == nil && lookErr == nil {
		if _, used := after.Lookup(made.ID); !used {
			k.c.Log.Debug("another instance has made the next key", "unused", made.ID)
		}
	}
	return err
}

// due returns the set with everything done that is due.
func (k *KeyKeeper) due(set *token.KeySet, now time.Time, made *token.Key) (_ *token.KeySet, err error) {
	if set, err = set.Forget(now.Add(-k.retention)); err != nil {
		return nil, err
	}
	if made != nil {
		if set, err = set.WithNext(*made, now); err != nil {
			return nil, err
		}
	}
	if _, signs := set.Active(now); !signs && set.HasNext() || k.old(set, now) {
		return set.Rotate(now)
	}
	return set, nil
}

// old reports whether the active key has served its time, and another can take over.
func (k *KeyKeeper) old(set *token.KeySet, now time.Time) bool {
	active, ok := set.Active(now)
	return ok && k.c.Age > 0 && set.HasNext() && active.RetiredAt.IsZero() && !now.Before(active.ActiveFrom.Add(k.c.Age))
}

// sweep removes the private halves that sign no more: what is not there cannot be stolen.
func (k *KeyKeeper) sweep(set *token.KeySet, now time.Time) error {
	made, err := k.c.Ring.made()
	if err != nil {
		return err
	}
	var faults []error
	for kid, at := range made {
		key, known := set.Lookup(kid)
		switch {
		case !known && now.Sub(at) > sweepAfter:
		case known && key.Stage(now) == token.Retired && now.Sub(key.RetiredAt) > sweepAfter:
		case known && key.Stage(now) == token.Compromised:
		default:
			continue
		}
		faults = append(faults, k.c.Ring.Remove(kid))
	}
	return errors.Join(faults...)
}

// change changes the set and tells what has come of it.
func (k *KeyKeeper) change(ctx context.Context, change func(*token.KeySet, time.Time) (*token.KeySet, error)) error {
	was, is, err := k.c.Change(ctx, change)
	if err != nil {
		return err
	}
	for _, e := range KeyChanges(was, is, "") {
		k.c.Log.Info("signing key "+e.Reason, "kid", e.Key)
		k.c.Audit(ctx, e)
	}
	return nil
}

// KeyChanges returns the entries of the audit trail about what makes one set another. actor is the operator who gave the command, or empty.
func KeyChanges(was, is *token.KeySet, actor string) []Entry {
	var entries []Entry
	add := func(kid, change string) {
		entries = append(entries, Entry{V: 1, What: "key", Result: string(success), Reason: change, Key: kid, Actor: actor})
	}
	for _, k := range is.Keys() {
		var before token.Key
		known := false
		if was != nil {
			before, known = was.Lookup(k.ID)
		}
		if !known {
			add(k.ID, "published")
		}
		for _, t := range []struct {
			change  string
			was, is time.Time
		}{
			{"activated", before.ActiveFrom, k.ActiveFrom}, {"retired", before.RetiredAt, k.RetiredAt}, {"compromised", before.CompromisedAt, k.CompromisedAt},
		} {
			if !t.was.Equal(t.is) {
				add(k.ID, t.change)
			}
		}
	}
	if was != nil {
		for _, k := range was.Keys() {
			if _, stays := is.Lookup(k.ID); !stays {
				add(k.ID, "forgotten")
			}
		}
	}
	return entries
}

func (k *KeyKeeper) count(stage token.Stage) float64 {
	set, _, err := k.c.Keys.KeySet()
	if err != nil {
		return 0
	}
	n := 0
	for _, key := range set.Keys() {
		if key.Stage(k.c.Now()) == stage {
			n++
		}
	}
	return float64(n)
}

func (k *KeyKeeper) age() float64 {
	set, _, err := k.c.Keys.KeySet()
	if err != nil {
		return 0
	}
	active, ok := set.Active(k.c.Now())
	if !ok || active.ActiveFrom.IsZero() {
		return 0
	}
	return k.c.Now().Sub(active.ActiveFrom).Seconds()
}
