package trust

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/ration"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/trustkey"
)

// A RevocationWatch holds all revocations in memory, so that no request has to ask NATS. A new one
// arrives within milliseconds by a reader of the bucket. Several times a second the watch asks the
// bucket's leader how far the bucket goes: it knows by the leader's word, not by silence, as of
// when it is complete, notices a reader that has died unseen, and fetches what that missed.
//
// It ignores what the trust key has not signed, and is unready as long as that is in the bucket.
//
// It is a token.Revocations. The times that it compares with those of events are the server's.
type RevocationWatch struct {
	*token.RevocationSet
	conn   *bus.Conn
	anchor *trustkey.Anchor
	epoch  *Epoch
	bucket *bus.Bucket

	news Epoch // changes with each revocation

	mu         sync.Mutex
	created    time.Time    // the creation of the bucket
	generation int          // counts the buckets that were read
	seen       uint64       // the set is complete up to here
	due        confirmation // the leader's last answer; it holds once seen reaches its last
	// when the leader was asked for the last confirmation that holds, by this machine's clock;
	// zero: never
	heard  time.Time
	reach  time.Duration // the longest time between an At and its storing
	forgot time.Time     // when the set was last swept, by the server's clock
	// the sequence of what the bucket has under a key and the watch refuses
	refused      map[string]uint64
	refusedEarly ration.Lines // about those that are met before the watch is complete
}

var _ token.Revocations = (*RevocationWatch)(nil)

// A confirmation is what the leader has said of the bucket: everything stored by a time has a
// sequence up to last.
type confirmation struct {
	last  uint64
	at    time.Time // by the server's clock
	asked time.Time // by this machine's; zero: there is none
}

const (
	revocationPace  = 400 * time.Millisecond // between two questions to the leader
	revocationAlive = 2 * time.Second        // after the last confirmation, the watch is lost
	revocationSweep = time.Hour              // between two clearances of the set

	// revocationDelay is how much earlier than its storing the At of a revocation may be without
	// changing the past: the sum of revokePatience and token.ClockLeeway. The set is complete as of
	// that much before the leader's last word.
	revocationDelay = token.ChangeDelay
)

// ErrRevocationsLost says that the bucket's leader has not been heard from lately, so tokens may
// have been revoked unheard.
var ErrRevocationsLost = fault.New(fault.Unavailable, "revocations_lost",
	"The list of revoked tokens may be out of date. Please try again in a moment.").After(time.Second)

// NewRevocationWatch returns an empty watch, which advances epoch when revocations change the past.
// Call Run.
func NewRevocationWatch(c *bus.Conn, anchor *trustkey.Anchor, epoch *Epoch) *RevocationWatch {
	return &RevocationWatch{RevocationSet: new(token.RevocationSet), conn: c, anchor: anchor, epoch: epoch,
		bucket: c.Bucket(bus.RevocationsBucket), refused: map[string]uint64{}}
}

// Next returns a channel that is closed when there is another revocation.
func (w *RevocationWatch) Next() <-chan struct{} { return w.news.After(w.news.Version()) }

// Run watches the bucket until ctx ends, and then returns nil. It waits for the anchor, for NATS
// and for the bucket.
func (w *RevocationWatch) Run(ctx context.Context) error {
	if w.anchor.Await(ctx) != nil {
		return nil
	}
	var reader sync.WaitGroup
	defer reader.Wait()
	reader.Go(func() { w.follow(ctx) })

	tick := time.NewTicker(revocationPace)
	defer tick.Stop()
	var before *uint64 // where the set ended at the last question
	for {
		seen, err := w.ask(ctx, before)
		if err != nil && ctx.Err() == nil {
			w.conn.Log().Debug("the leader of the revocations does not answer", "error", err)
		} else {
			before = &seen
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Ready returns nil as long as the watch is alive. Within 2 seconds of its loss it returns
// ErrRevocationsLost, before the set was ever complete token.ErrNoRevocations, and ErrUntrusted
// while the bucket has something that the trust key has not signed.
func (w *RevocationWatch) Ready(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key := range w.refused {
		return ErrUntrusted.Because(fmt.Errorf("%d revocations are not the trust key's, such as %s",
			len(w.refused), key))
	}
	if w.heard.IsZero() {
		return token.ErrNoRevocations
	}
	if silence := time.Since(w.heard); silence > revocationAlive {
		return ErrRevocationsLost.Because(fmt.Errorf("the bucket's leader was last heard from %v ago",
			silence.Round(time.Millisecond)))
	}
	return nil
}

// follow reads from where the set ends until ctx ends.
func (w *RevocationWatch) follow(ctx context.Context) {
	Follow(ctx, w.conn, "revocation", w.bucket, func(created time.Time, last uint64) (uint64, func(bus.Message) error) {
		generation, seen := w.adopt(created, last)
		return seen + 1, func(m bus.Message) error {
			if !w.take(generation, m) {
				return errOtherBucket
			}
			return nil
		}
	})
}

var errOtherBucket = errors.New("the bucket was replaced")

// adopt returns how far the bucket has been read. A bucket that was replaced, or has become
// shorter, is read from its beginning: its revocations are added to the known ones.
func (w *RevocationWatch) adopt(created time.Time, last uint64) (generation int, seen uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !created.Equal(w.created) || last < w.seen {
		w.created, w.seen, w.due = created, 0, confirmation{}
		w.generation++
	}
	return w.generation, w.seen
}

// ask asks the leader how far the bucket goes, and returns how far the set goes. Where that is
// less, and no more than at the last question, the reader is missing or reads from a replica that
// lags. Then ask fetches the missing revocations from the leader.
func (w *RevocationWatch) ask(ctx context.Context, before *uint64) (uint64, error) {
	asked := time.Now()
	stream, err := w.conn.Stream(ctx, w.bucket.Stream())
	if err != nil {
		return 0, err
	}
	info := stream.CachedInfo()
	if info.TimeStamp.IsZero() {
		return 0, errors.New("the server does not tell the time; it is older than 2.10")
	}
	generation, seen := w.adopt(info.Created, info.State.LastSeq)
	c := confirmation{last: info.State.LastSeq, at: info.TimeStamp, asked: asked}
	if info.State.Msgs == 0 { // all of them have aged
		c.last = 0
	}
	w.expect(generation, c)
	if seen < c.last && before != nil && seen == *before {
		if err := w.fetch(ctx, generation, seen, c.last); err != nil {
			return seen, err
		}
	}
	w.sweep(info)
	if err := w.recheck(ctx); err != nil {
		return seen, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen, nil
}

// fetch reads the messages between two sequences from the leader, one after the other.
func (w *RevocationWatch) fetch(ctx context.Context, generation int, seen, last uint64) error {
	for seen < last {
		m, err := w.conn.Get(ctx, w.bucket.Stream(), bus.GetRequest{Seq: seen + 1, NextFor: w.bucket.Subject(">")})
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound): // the rest has aged or been replaced
			w.reached(generation, last)
			return nil
		case err != nil:
			return err
		case !w.take(generation, m):
			return errOtherBucket
		}
		seen = m.Seq
	}
	return nil
}

// take adds a message of the bucket to the set. It reports false for a message of an earlier
// bucket.
//
// The reader and fetch both deliver messages in order and without a gap. So whichever delivers one,
// everything before it is in the set.
func (w *RevocationWatch) take(generation int, m bus.Message) bool {
	key := strings.TrimPrefix(m.Subject, w.bucket.Subject(""))
	r, err := w.open(key, m)
	w.mu.Lock()
	if delete(w.refused, key); err != nil {
		w.refused[key] = m.Seq
	}
	w.mu.Unlock()
	switch known, is := w.knows(r); {
	case err != nil:
		w.tell(key, m.Seq, err)
	case r.At.IsZero(): // nothing
	case is && !known.After(r.At): // authsvc has stored it again
	default:
		w.Add(r)
		w.reachesBack(m, r.At)
		w.news.Advance()
	}
	return w.reached(generation, m.Seq)
}

// tell logs that a revocation is refused. Before the watch is complete it does so once a second: an
// older version may have left any number of them.
func (w *RevocationWatch) tell(key string, sequence uint64, why error) {
	w.mu.Lock()
	level, missed, due := slog.LevelError, 0, true
	if w.heard.IsZero() {
		level = slog.LevelWarn
		missed, due = w.refusedEarly.Next(time.Now())
	}
	w.mu.Unlock()
	if due {
		w.conn.Log().Log(context.Background(), level, "a revocation in the bucket is refused", "key", key,
			"sequence", sequence, "error", why, "unlogged", missed)
	}
}

// open returns the revocation in a message, if it is the trust key's. A deleted one that the watch
// does not know it returns without an At.
func (w *RevocationWatch) open(key string, m bus.Message) (token.Revocation, error) {
	if m.Header.Get(bus.HeaderOperation) != "" {
		if r, ok := revocationOf(key); ok {
			if _, known := w.knows(r); known {
				return r, errors.New("it was deleted, and stays in force: a revocation cannot be undone")
			}
		}
		return token.Revocation{}, nil
	}
	body, err := w.anchor.Open(trustkey.Revocation, key, m.Data)
	if err != nil {
		return token.Revocation{}, err
	}
	return revocationIn(key, body, m.StoredAt)
}

// knows returns the At of a revocation that the watch knows, or that of another one that takes back
// the same tokens earlier.
func (w *RevocationWatch) knows(r token.Revocation) (at time.Time, ok bool) {
	return w.Revoked(r.Subject, r.Session, r.NotBefore.Add(-time.Second))
}

// refusals returns the keys of the bucket whose values the watch refuses, with their sequences.
func (w *RevocationWatch) refusals() map[string]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.refused)
}

// recheck forgets refused values that are no longer in the bucket. Nothing announces that they were
// purged, or have aged.
func (w *RevocationWatch) recheck(ctx context.Context) error {
	for key, sequence := range w.refusals() {
		m, err := w.conn.Last(ctx, w.bucket.Stream(), w.bucket.Subject(key))
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return err
		}
		if err == nil && m.Seq == sequence {
			return nil // one is enough to be unready
		}
		w.mu.Lock()
		if w.refused[key] == sequence {
			delete(w.refused, key)
		}
		w.mu.Unlock()
	}
	return nil
}

// reachesBack notes how much earlier than its storing the At of a revocation is. One that changes
// the past advances the epoch.
func (w *RevocationWatch) reachesBack(m bus.Message, at time.Time) {
	back := m.StoredAt.Sub(at)
	w.mu.Lock()
	w.reach = max(w.reach, back)
	loaded := !w.heard.IsZero()
	w.mu.Unlock()
	if loaded && back > revocationDelay {
		w.conn.Log().Warn("a revocation reaches back; boards are rebuilt", "sequence", m.Seq, "as_of", at, "stored",
			m.StoredAt)
		w.epoch.Advance()
	}
}

// reached notes that the set is complete up to a sequence.
func (w *RevocationWatch) reached(generation int, seq uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if generation != w.generation {
		return false
	}
	w.seen = max(w.seen, seq)
	w.settle()
	return true
}

// expect notes the leader's answer.
func (w *RevocationWatch) expect(generation int, c confirmation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if generation == w.generation {
		w.due = c
		w.settle()
	}
}

// settle concludes from the leader's last word once the set has reached it. The caller holds mu.
func (w *RevocationWatch) settle() {
	if w.due.asked.IsZero() || w.seen < w.due.last {
		return
	}
	w.Complete(w.due.at.Add(-revocationDelay))
	w.heard = w.due.asked
	w.due = confirmation{}
}

// sweep removes, from time to time, revocations that the bucket no longer keeps.
func (w *RevocationWatch) sweep(info *jetstream.StreamInfo) {
	w.mu.Lock()
	due := info.Config.MaxAge > 0 && info.TimeStamp.Sub(w.forgot) >= revocationSweep
	if due {
		w.forgot = info.TimeStamp
	}
	reach := w.reach
	w.mu.Unlock()
	if due { // a revocation's At is never more than reach before its storing
		w.Forget(info.TimeStamp.Add(-info.Config.MaxAge - reach))
	}
}
