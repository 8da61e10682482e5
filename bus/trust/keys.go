// Package trust brings to every service what it judges tokens by: signing keys, revocations,
// service identities, and whether the clock is right. It also writes the audit trail.
//
// Begin with [NewKeyWatch] and [NewRevocationWatch], whose Run methods keep them current, and pass
// both to token.NewVerifier. [ChangeKeys] and [Revoke] are the other side, for authsvc and
// operators.
//
// A watch answers only as long as the leader of its bucket confirms that it is complete. It never
// takes silence for "no news".
package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/retry"
	"github.com/example/pillion/token"
)

// A KeyWatch is the key set as verifiers see it. It follows the set in its bucket, so a change
// arrives within milliseconds, and a service can start while authsvc is down. As with a
// [RevocationWatch], the bucket's leader confirms several times a second that the set is complete,
// and at once when a token names an unknown key. It is a token.Keys.
//
// The time as of which the set is complete is the server's, like the times of events.
type KeyWatch struct {
	*token.RemoteKeys // looks for unknown keys at most once an interval
	conn              *bus.Conn
	epoch             *Epoch
	bucket            *bus.Bucket

	mu    sync.Mutex // held while known changes
	known atomic.Pointer[knownKeys]
}

var _ token.Keys = (*KeyWatch)(nil)

// knownKeys is what a watch knows. It is immutable.
type knownKeys struct {
	set      *token.KeySet // nil: there is none yet
	created  time.Time     // the creation of its bucket
	revision uint64        // of the set in it, readable or not
	asOf     time.Time     // when the leader confirmed it, by the server's clock
	// when the leader was asked for that, by this machine's clock; zero: never
	heard time.Time
}

const (
	keyPace  = 400 * time.Millisecond // between two questions to the leader
	keyAlive = 2 * time.Second        // after the last confirmation, the watch is lost
	// keyTrust is how long the last set is used after that. A request must not lead to an event
	// that is rejected later because a key had been retired unheard; and nobody may sign with a key
	// that others know to be retired, whose clock is right within token.ClockLeeway. Both make
	// token.RotationLead.
	keyTrust = token.EventLeeway - token.ChangeDelay
	// changePatience is how long one change of the set is retried, part of token.ChangeDelay.
	changePatience = 5 * time.Second
)

// ErrKeysLost says that the bucket's leader has not been heard from lately, so keys may have
// changed.
var ErrKeysLost = fault.New(fault.Unavailable, "keys_lost",
	"The list of signing keys may be out of date. Please try again in a moment.").After(time.Second)

// NewKeyWatch returns a watch that looks for unknown keys at most once an interval, and advances
// epoch when keys change the past. Call Run.
func NewKeyWatch(c *bus.Conn, interval time.Duration, epoch *Epoch) *KeyWatch {
	w := &KeyWatch{conn: c, epoch: epoch, bucket: c.Bucket(bus.KeysBucket)}
	w.known.Store(&knownKeys{})
	w.RemoteKeys = token.NewRemoteKeys(w.ask, interval, time.Now)
	return w
}

// Run watches the bucket until ctx ends, and then returns nil. It waits for NATS and for the
// bucket.
func (w *KeyWatch) Run(ctx context.Context) error {
	defer w.Close()
	var reader sync.WaitGroup
	defer reader.Wait()
	reader.Go(func() { w.follow(ctx) })

	tick := time.NewTicker(keyPace)
	defer tick.Stop()
	for {
		if _, err := w.ask(ctx); err != nil && ctx.Err() == nil {
			w.conn.Log().Debug("the leader of the keys does not answer", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// KeySet returns the last good set and the time, by the server's clock, as of which it is complete.
// Errors: token.ErrNoKeys; ErrKeysLost when the leader has not been heard from for keyTrust.
func (w *KeyWatch) KeySet() (*token.KeySet, time.Time, error) {
	k := w.known.Load()
	if k.heard.IsZero() {
		return nil, time.Time{}, token.ErrNoKeys
	}
	if silence := time.Since(k.heard); silence > keyTrust {
		return nil, time.Time{}, lost(silence)
	}
	return k.set, k.asOf, nil
}

// Ready returns nil as long as the watch is alive. Within 2 seconds of its loss it returns
// ErrKeysLost, and before the first set token.ErrNoKeys.
func (w *KeyWatch) Ready(context.Context) error {
	k := w.known.Load()
	if k.heard.IsZero() {
		return token.ErrNoKeys
	}
	if silence := time.Since(k.heard); silence > keyAlive {
		return lost(silence)
	}
	return nil
}

func lost(silence time.Duration) error {
	return ErrKeysLost.Because(fmt.Errorf("the bucket's leader was last heard from %v ago",
		silence.Round(time.Millisecond)))
}

// follow takes every change as it comes, until ctx ends.
func (w *KeyWatch) follow(ctx context.Context) {
	follow(ctx, w.conn, "key", w.bucket, func(info *jetstream.StreamInfo) (uint64, func(bus.Message) error) {
		return max(info.State.LastSeq, 1), func(m bus.Message) error {
			if m.Subject == w.bucket.Subject(bus.JWKSKey) {
				w.take(info.Created, m)
			}
			return nil
		}
	})
}

// ask returns the set from the leader. Only the leader can say that there is no newer one: an
// authsvc may lag as far behind as this process.
func (w *KeyWatch) ask(ctx context.Context) (*token.KeySet, error) {
	asked := time.Now()
	stream, err := w.conn.Stream(ctx, w.bucket.Stream())
	if err != nil {
		return nil, err
	}
	info := stream.CachedInfo()
	if info.TimeStamp.IsZero() {
		return nil, errors.New("the server does not tell the time; it is older than 2.10")
	}
	if k := w.known.Load(); !k.created.Equal(info.Created) || k.revision < info.State.LastSeq {
		m, err := w.conn.Last(ctx, w.bucket.Stream(), w.bucket.Subject(bus.JWKSKey))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil, token.ErrNoKeys // an earlier set stays in use for keyTrust
		}
		if err != nil {
			return nil, bus.Unavailable("read the key set", err)
		}
		w.take(info.Created, m)
	}
	return w.confirm(info.Created, info.TimeStamp, asked)
}

// take takes a set that was stored in the bucket created then, unless a newer one is known.
func (w *KeyWatch) take(created time.Time, m bus.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := *w.known.Load()
	if created.Before(k.created) || created.Equal(k.created) && m.Seq <= k.revision {
		return
	}
	k.created, k.revision = created, m.Seq
	set, err := keySetOf(m)
	if err != nil {
		w.conn.Log().Error("the key set in the bucket cannot be read; the last good one stays in use", "revision",
			m.Seq, "error", err)
		w.known.Store(&k)
		return
	}
	before := k.set
	k.set = set
	w.known.Store(&k)
	w.Offer(set) // wakes callers that wait for a change
	if set.ChangesThePast(before, m.StoredAt) {
		w.conn.Log().Warn("a key was retired as of an earlier time; boards are rebuilt", "revision", m.Seq)
		w.epoch.Advance()
	}
}

func keySetOf(m bus.Message) (*token.KeySet, error) {
	if op := m.Header.Get(bus.HeaderOperation); op != "" {
		return nil, errors.New("it was deleted")
	}
	return token.ParseJWKS(m.Data)
}

// confirm notes that the leader has nothing newer as of a time.
func (w *KeyWatch) confirm(created, asOf, asked time.Time) (*token.KeySet, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := *w.known.Load()
	if k.set == nil {
		return nil, token.ErrNoKeys
	}
	if created.Equal(k.created) && asOf.After(k.asOf) {
		begins := k.heard.IsZero()
		k.asOf, k.heard = asOf, asked
		w.known.Store(&k)
		if begins {
			w.Offer(k.set) // callers that wait have been woken before KeySet returned the set
		}
	}
	return k.set, nil
}

// ChangeKeys changes the set that every verifier watches. It calls change with the current set, or
// nil, and the time by the server's clock, and stores the set that change returns, unless that is
// the same. It returns the old and the new set. Where another process was faster, it calls change
// again. Errors: those of change, and of kind fault.Unavailable.
func ChangeKeys(
	ctx context.Context, c *bus.Conn, change func(set *token.KeySet, now time.Time) (*token.KeySet, error),
) (was, is *token.KeySet, err error) {
	if err := c.EverConnected(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, changePatience)
	defer cancel()
	var written *token.KeySet // by the last try, perhaps
	p := bus.Retries(changePatience)
	p.When = mayPass
	err = p.Do(ctx, func() error {
		have, revision, now, err := keySetNow(ctx, c)
		if err == nil && written != nil && have != nil && bytes.Equal(have.JWKS(), written.JWKS()) {
			is = written // the last try was stored
			return nil
		}
		if err == nil {
			was, written = have, nil
			if is, err = change(have, now); err != nil {
				return retry.Permanent(err)
			}
			if is == have {
				return nil
			}
			written = is
			_, err = c.Bucket(bus.KeysBucket).Update(ctx, bus.JWKSKey, is.JWKS(), revision)
		}
		return err
	})
	switch {
	case err == nil:
		return was, is, nil
	case errors.Is(err, bus.ErrStale), // others keep changing it
		ctx.Err() != nil && errors.Is(err, context.Cause(ctx)): // or this machine is too slow
		return nil, nil, bus.ErrUnavailable.Because(fmt.Errorf("change the key set: %w", err))
	}
	return nil, nil, err
}

// mayPass reports whether a guarded write is worth another try.
func mayPass(err error) bool { return errors.Is(err, bus.ErrStale) || retry.Unavailable(err) }

// keySetNow returns the stored set, or nil, with its revision and the server's time, from the
// leader.
func keySetNow(ctx context.Context, c *bus.Conn) (set *token.KeySet, revision uint64, now time.Time, err error) {
	bucket := c.Bucket(bus.KeysBucket)
	stream, err := c.Stream(ctx, bucket.Stream())
	if err != nil {
		return nil, 0, time.Time{}, bus.Unavailable("look at the key set", err)
	}
	now = stream.CachedInfo().TimeStamp
	data, revision, err := bucket.Get(ctx, bus.JWKSKey)
	if errors.Is(err, bus.ErrNoKey) {
		return nil, revision, now, nil
	}
	if err != nil {
		return nil, 0, time.Time{}, err
	}
	if set, err = token.ParseJWKS(data); err != nil {
		return nil, 0, time.Time{}, fmt.Errorf("read the key set: %w", err)
	}
	return set, revision, now, nil
}
