package trust

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// A RevocationWatch is what a service knows of the tokens that were taken back: all of them, in memory, so that no request has to
// ask anybody. A new one arrives within milliseconds by a reader of the bucket. What makes it trustworthy is that the bucket's
// leader is asked, several times a second, how far the bucket goes: the watch knows as of when it is complete by the word of the
// leader and not by silence, a reader that has died unseen is found out, and what it missed is fetched from the leader.
//
// It is a token.Revocations. The times that it compares with those of events are the server's, never this machine's.
type RevocationWatch struct {
	*token.RevocationSet
	conn   *bus.Conn
	epoch  *Epoch
	bucket *bus.Bucket

	news Epoch // changes with each revocation

	mu         sync.Mutex
	created    time.Time     // of the bucket that has been read
	generation int           // counts the buckets that have been read
	seen       uint64        // everything in the bucket up to here is in the set
	due        confirmation  // holds as soon as seen reaches its last
	heard      time.Time     // when the leader was asked for the last confirmation that holds; this machine's clock; zero: never
	reach      time.Duration // the longest time by which an At was earlier than its storing
	forgot     time.Time     // when the set was last cleared of what has aged; the server's clock
}

var _ token.Revocations = (*RevocationWatch)(nil)

// A confirmation is what the leader says of the bucket: all that had been stored at a time stands up to last.
type confirmation struct {
	last  uint64
	at    time.Time // by the server's clock
	asked time.Time // by this machine's; zero: there is none
}

const (
	revocationPace  = 400 * time.Millisecond // between two questions to the leader
	revocationAlive = 2 * time.Second        // after the last confirmation, the watch is lost
	revocationSweep = time.Hour              // between two clearances of the set

	// revokePatience is how long one revocation is tried. After that its outcome is unknown, and At is not now any more.
	revokePatience = 5 * time.Second
	// revocationDelay is how much earlier than its storing the At of a revocation may be that does not change the past on purpose: it is
	// the sum of revokePatience and token.ClockLeeway. What is known is complete as of that much before the leader's last word.
	revocationDelay = token.ChangeDelay
)

// ErrRevocationsLost is that the watch has not heard from the bucket's leader lately, so tokens may have been taken back unheard.
var ErrRevocationsLost = fault.New(fault.Unavailable, "revocations_lost",
	"The list of revoked tokens may be out of date. Please try again in a moment.").After(time.Second)

// Revocations returns a watch that knows of nothing yet. Call Run.
func NewRevocationWatch(c *bus.Conn, epoch *Epoch) *RevocationWatch {
	return &RevocationWatch{RevocationSet: new(token.RevocationSet), conn: c, epoch: epoch, bucket: c.Bucket(bus.RevocationsBucket)}
}

// Next returns a channel that is closed when there is another revocation than those that are known.
func (w *RevocationWatch) Next() <-chan struct{} { return w.news.After(w.news.Version()) }

// Run watches the bucket until ctx ends, and then returns nil. It waits for NATS and for the bucket.
func (w *RevocationWatch) Run(ctx context.Context) error {
	var reader sync.WaitGroup
	defer reader.Wait()
	reader.Go(func() { w.follow(ctx) })

	tick := time.NewTicker(revocationPace)
	defer tick.Stop()
	var before *uint64 // where the set was at the last question
	for {
		seen, err := w.ask(ctx, before)
		if err != nil && ctx.Err() == nil {
			w.conn.Log().Debug("the revocations' leader does not answer", "error", err)
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

// Ready returns nil as long as the watch is alive: within 2 seconds of its loss it answers ErrRevocationsLost, or
// token.ErrNoRevocations where there was never anything to lose.
func (w *RevocationWatch) Ready(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.heard.IsZero() {
		return token.ErrNoRevocations
	}
	if silence := time.Since(w.heard); silence > revocationAlive {
		return ErrRevocationsLost.Because(fmt.Errorf("the bucket's leader was last heard of %v ago", silence.Round(time.Millisecond)))
	}
	return nil
}

// follow reads the bucket until ctx ends.
func (w *RevocationWatch) follow(ctx context.Context) {
	pace := bus.NewBackOff()
	for {
		err := w.session(ctx, pace.Reset)
		if ctx.Err() != nil {
			return
		}
		wait := pace.NextBackOff()
		w.conn.Log().Debug("revocation watch interrupted", "error", err, "retry_in", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

var errOtherBucket = errors.New("the bucket was replaced")

// session reads from where the set is until something breaks.
func (w *RevocationWatch) session(ctx context.Context, working func()) error {
	stream, err := w.conn.Stream(ctx, w.bucket.Stream())
	if err != nil {
		return err
	}
	generation, seen := w.adopt(stream.CachedInfo())
	reader, err := w.conn.Read(ctx, stream, seen+1)
	if err != nil {
		return fmt.Errorf("read revocations: %w", err)
	}
	defer reader.Close()
	for {
		m, _, err := reader.Next()
		if err != nil {
			return fmt.Errorf("read revocations: %w", err)
		}
		if !w.take(generation, m) {
			return errOtherBucket
		}
		working()
	}
}

// adopt returns how far the bucket has been read. One that was replaced, or ends before what has been read of it, is read from its
// beginning: what it holds counts too, and nothing that was known before is forgotten.
func (w *RevocationWatch) adopt(info *jetstream.StreamInfo) (generation int, seen uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !info.Created.Equal(w.created) || info.State.LastSeq < w.seen {
		w.created, w.seen, w.due = info.Created, 0, confirmation{}
		w.generation++
	}
	return w.generation, w.seen
}

// ask asks the leader how far the bucket goes, and returns how far the set goes. Where that is less, and no more than at the last
// question, there is no reader, or one of a replica that has been left behind: then the leader is asked for what is missing.
func (w *RevocationWatch) ask(ctx context.Context, before *uint64) (uint64, error) {
	asked := time.Now()
	stream, err := w.conn.Stream(ctx, w.bucket.Stream())
	if err != nil {
		return 0, err
	}
	info := stream.CachedInfo()
	if info.TimeStamp.IsZero() {
		return 0, errors.New("the server does not say what time it is; it is older than 2.10")
	}
	generation, seen := w.adopt(info)
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
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen, nil
}

// fetch gets what stands between two sequences from the leader, one message after the other.
func (w *RevocationWatch) fetch(ctx context.Context, generation int, seen, last uint64) error {
	for seen < last {
		m, err := w.conn.Get(ctx, w.bucket.Stream(), bus.GetRequest{Seq: seen + 1, NextFor: w.bucket.Subject(">")})
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound): // nothing is left of the rest
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

// take adds a message of the bucket to the set. It reports false for one of another bucket than that which is read.
//
// Messages come in their order, and from the reader and from fetch without a gap. So whichever of the two brings one, everything
// before it is in the set.
func (w *RevocationWatch) take(generation int, m bus.Message) bool {
	r, err := parseRevocation(w.bucket, m)
	if err != nil {
		w.conn.Log().Error("a revocation cannot be read as it was meant", "sequence", m.Seq, "error", err)
	}
	if r != (token.Revocation{}) {
		w.Add(r)
		w.reachesBack(m, r.At)
		w.news.Advance()
	}
	return w.reached(generation, m.Seq)
}

// reachesBack notes by how much the At of a revocation is earlier than its storing. Of one that changes the past, which readers here
// may have judged, they are told.
func (w *RevocationWatch) reachesBack(m bus.Message, at time.Time) {
	back := m.StoredAt.Sub(at)
	w.mu.Lock()
	w.reach = max(w.reach, back)
	loaded := !w.heard.IsZero()
	w.mu.Unlock()
	if loaded && back > revocationDelay {
		w.conn.Log().Warn("a revocation reaches back; boards are read anew", "sequence", m.Seq, "as_of", at, "stored", m.StoredAt)
		w.epoch.Advance()
	}
}

// reached notes that the set has everything up to a sequence.
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

// expect notes what the leader said.
func (w *RevocationWatch) expect(generation int, c confirmation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if generation == w.generation {
		w.due = c
		w.settle()
	}
}

// settle concludes from the leader's last word, once the set has got that far. The caller holds mu.
func (w *RevocationWatch) settle() {
	if w.due.asked.IsZero() || w.seen < w.due.last {
		return
	}
	w.Complete(w.due.at.Add(-revocationDelay))
	w.heard = w.due.asked
	w.due = confirmation{}
}

// sweep clears the set, from time to time, of what the bucket keeps no longer.
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

// Revoke takes tokens back: every service refuses them within a second, requests at once and events by their time. It may be
// repeated: of two revocations of the same tokens the one with the earlier At counts, whichever comes first.
//
// It answers token.ErrRevocation, or a fault Unavailable after 5 seconds, when it may have been stored or not: then try again with
// At as it is by then.
func Revoke(ctx context.Context, c *bus.Conn, r token.Revocation) error {
	if err := r.Check(time.Now()); err != nil {
		return err
	}
	if err := c.EverConnected(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, revokePatience)
	defer cancel()
	b := c.Bucket(bus.RevocationsBucket)
	try := func() (struct{}, error) {
		err := storeRevocation(ctx, c, b, r)
		if err != nil && !errors.Is(err, bus.ErrStale) && fault.KindOf(err) != fault.Unavailable {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}
	_, err := backoff.Retry(ctx, try, backoff.WithBackOff(bus.NewBackOff()), backoff.WithMaxElapsedTime(revokePatience))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bus.ErrStale): // others revoke the same, again and again
		return bus.ErrUnavailable.Because(fmt.Errorf("revoke: %w", err))
	}
	return bus.Unavailable("revoke", err)
}

// A revocationRecord is the value of a revocation. Whom it concerns stands in its key.
type revocationRecord struct {
	Version int       `json:"v"`
	At      time.Time `json:"at"`
}

const revocationVersion = 1

// revoke stores a revocation, unless the same is there with an At that is no later.
func storeRevocation(ctx context.Context, c *bus.Conn, b *bus.Bucket, r token.Revocation) error {
	key := revocationKey(r)
	value, err := json.Marshal(revocationRecord{revocationVersion, r.At.UTC().Truncate(time.Microsecond)})
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	_, err = b.Create(ctx, key, value)
	if !errors.Is(err, bus.ErrKeyExists) {
		return err
	}
	m, err := c.Last(ctx, b.Stream(), b.Subject(key))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return bus.ErrStale // it has just aged
	}
	if err != nil {
		return bus.Unavailable("read the revocations", err)
	}
	if have, _ := parseRevocation(b, m); have != (token.Revocation{}) && !have.At.After(r.At) {
		return nil
	}
	_, err = b.Update(ctx, key, value, m.Seq)
	return err
}

func revocationKey(r token.Revocation) string {
	if r.Session != "" {
		return bus.RevokedSessionPrefix + r.Session
	}
	return bus.RevokedAccountPrefix + r.Subject + "." + strconv.FormatInt(r.Before(), 10)
}

// revocation reads a message of the bucket. Where its key says whom it concerns and its value is not to be had (or says a time
// that was still to come), it is a revocation as of when it was stored, with an error: better one too many. Where the key says
// nothing it returns none, with an error.
func parseRevocation(b *bus.Bucket, m bus.Message) (token.Revocation, error) {
	key, ok := strings.CutPrefix(m.Subject, b.Subject(""))
	var r token.Revocation
	if session, is := strings.CutPrefix(key, bus.RevokedSessionPrefix); ok && is {
		r.Session = session
	} else if rest, is := strings.CutPrefix(key, bus.RevokedAccountPrefix); ok && is {
		subject, before, _ := strings.Cut(rest, ".")
		seconds, err := strconv.ParseInt(before, 10, 64)
		if err != nil {
			return token.Revocation{}, errors.New("its key names no time")
		}
		r.Subject, r.NotBefore = subject, time.Unix(seconds, 0).UTC()
	}
	r.At = m.StoredAt
	latest := m.StoredAt.Add(token.ClockLeeway + time.Second) // a clock that Revoke goes by may be ahead of the server's; a second is for rounding
	if err := r.Check(latest); err != nil {
		return token.Revocation{}, err
	}
	if m.Header.Get(bus.HeaderOperation) != "" {
		return r, errors.New("it was deleted, and stays in force as of then: a revocation is not taken back")
	}
	var v revocationRecord
	if err := json.Unmarshal(m.Data, &v); err != nil {
		return r, errors.New("its value is not JSON")
	}
	if v.Version != revocationVersion {
		return r, fmt.Errorf("its version is %d", v.Version)
	}
	said := r
	said.At = v.At
	if err := said.Check(latest); err != nil {
		return r, err
	}
	return said, nil
}
