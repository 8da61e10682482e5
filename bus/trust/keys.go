// Package trust brings to every service what it judges tokens by: signing keys, revocations,
// service identities, and whether the clock is right. It also writes the audit trail.
//
// Begin with [NewKeyWatch] and [NewRevocationWatch], whose Run methods keep them current, and pass
// both to token.NewVerifier. An [Authority] is the other side, for authsvc and operators.
//
// A watch believes what the trust key has signed, and nothing else that is in its bucket. It
// answers only as long as the leader of the bucket confirms that it is complete, and never takes
// silence for "no news".
package trust

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/trustkey"
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
	anchor            *trustkey.Anchor
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
	revision uint64        // of the set in it, trusted or not
	refused  error         // why that one is not trusted; nil: it is
	forgets  bool          // that one says less of the old rule than the one before it
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
)

// ErrKeysLost says that the bucket's leader has not been heard from lately, so keys may have
// changed.
var ErrKeysLost = fault.New(fault.Unavailable, "keys_lost",
	"The list of signing keys may be out of date. Please try again in a moment.").After(time.Second)

// ErrUntrusted says that something in a bucket is not what the trust key has signed.
var ErrUntrusted = fault.New(fault.Unavailable, "untrusted",
	"What NATS says of keys and revocations was not signed by the trust key. Please try again in a moment.",
).After(time.Second)

// NewKeyWatch returns a watch that looks for unknown keys at most once an interval, and advances
// epoch when keys change the past. Call Run.
func NewKeyWatch(c *bus.Conn, anchor *trustkey.Anchor, interval time.Duration, epoch *Epoch) *KeyWatch {
	w := &KeyWatch{conn: c, anchor: anchor, epoch: epoch, bucket: c.Bucket(bus.KeysBucket)}
	w.known.Store(&knownKeys{})
	w.RemoteKeys = token.NewRemoteKeys(w.ask, interval, time.Now)
	return w
}

// Run watches the bucket until ctx ends, and then returns nil. It waits for the anchor, for NATS
// and for the bucket.
func (w *KeyWatch) Run(ctx context.Context) error {
	defer w.Close()
	if w.anchor.Await(ctx) != nil {
		return nil
	}
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
// ErrKeysLost, before the first set token.ErrNoKeys, and ErrUntrusted while the set in the bucket
// is not the trust key's. What is there may conceal a newer set, so the last good one is then used
// for keyTrust and no longer.
func (w *KeyWatch) Ready(context.Context) error {
	k := w.known.Load()
	if k.refused != nil {
		return ErrUntrusted.Because(fmt.Errorf("the key set of revision %d: %w", k.revision, k.refused))
	}
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

// forgotten reports whether the set in the bucket has forgotten the end of the old rule.
func (w *KeyWatch) forgotten() bool { return w.known.Load().forgets }

// follow takes every change as it comes, until ctx ends.
func (w *KeyWatch) follow(ctx context.Context) {
	Follow(ctx, w.conn, "key", w.bucket, func(created time.Time, last uint64) (uint64, func(bus.Message) error) {
		return max(last, 1), func(m bus.Message) error {
			if m.Subject == w.bucket.Subject(bus.JWKSKey) {
				w.take(created, m)
			}
			return nil
		}
	})
}

// ask returns the set from the leader. Only the leader can say that there is no newer one: an
// authsvc may lag as far behind as this process.
func (w *KeyWatch) ask(ctx context.Context) (*token.KeySet, error) {
	if w.anchor.Ready() != nil {
		return nil, token.ErrNoKeys
	}
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
	set, err := w.open(m)
	if k.refused = err; err != nil {
		level := slog.LevelError
		if k.set == nil { // perhaps an older version has left it
			level = slog.LevelWarn
		}
		w.conn.Log().Log(context.Background(), level, "the key set in the bucket is refused until authsvc replaces it",
			"revision", m.Seq, "error", err)
		w.known.Store(&k)
		return
	}
	before := k.set
	k.set = keepingClosed(before, set)
	if k.forgets = k.set != set; k.forgets {
		w.conn.Log().Warn("the key set says less of the old rule than before, and this process goes on with what it "+
			"knows; an older authsvc has published it", "revision", m.Seq)
	}
	w.known.Store(&k)
	w.Offer(k.set) // wakes callers that wait for a change
	if k.set.ChangesThePast(before, m.StoredAt) {
		w.conn.Log().Warn("a key was retired as of an earlier time, or the old rule has ended; boards are rebuilt",
			"revision", m.Seq)
		w.epoch.Advance()
	}
}

// keepingClosed returns a set in which the old rule ends where it ended in the set before, at the
// latest. An authsvc that does not know of it leaves it out.
func keepingClosed(before, set *token.KeySet) *token.KeySet {
	if before == nil {
		return set
	}
	until, closed := before.OldRuleUntil()
	if !closed {
		return set
	}
	return set.CloseOldRule(until)
}

// open returns the set in a message, if it is the trust key's.
func (w *KeyWatch) open(m bus.Message) (*token.KeySet, error) {
	data, err := w.anchor.Open(trustkey.KeySet, bus.JWKSKey, m.Data)
	if err != nil {
		return nil, err
	}
	return token.ParseJWKS(data)
}

// confirm notes that the leader has nothing newer as of a time. It does not while the leader's
// newest set is refused.
func (w *KeyWatch) confirm(created, asOf, asked time.Time) (*token.KeySet, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := *w.known.Load()
	if k.refused != nil {
		return nil, ErrUntrusted.Because(k.refused)
	}
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
