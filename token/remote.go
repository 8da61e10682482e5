package token

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Keys is a source of keys for a Verifier.
type Keys interface {
	// KeySet returns the last valid set, and a time: the set includes every change stored before.
	// It returns ErrNoKeys if there has never been a set. It does not block.
	KeySet() (*KeySet, time.Time, error)
	// Refresh fetches the set again, unless the last fetch began less than an interval ago, and
	// waits for the fetch or for ctx. It reports whether a fetch began after the call and
	// succeeded.
	Refresh(ctx context.Context) bool
}

// StaticKeys returns Keys that never change.
func StaticKeys(set *KeySet) Keys { return staticKeys{set} }

type staticKeys struct{ set *KeySet }

var _ Keys = staticKeys{}

func (s staticKeys) KeySet() (*KeySet, time.Time, error) {
	if s.set == nil {
		return nil, time.Time{}, ErrNoKeys
	}
	return s.set, forever(), nil
}

func (s staticKeys) Refresh(context.Context) bool { return false }

const (
	// FetchTimeout bounds one fetch of a RemoteKeys.
	FetchTimeout = 5 * time.Second
	// DefaultInterval is the default interval of NewRemoteKeys.
	DefaultInterval = 10 * time.Second
)

// RemoteKeys are Keys that are fetched on demand, or offered by a watch. After a failure, the last
// valid set stays in use. RemoteKeys is safe for concurrent use.
type RemoteKeys struct {
	fetch    func(context.Context) (*KeySet, error)
	interval time.Duration
	now      func() time.Time

	current atomic.Pointer[keySnapshot] // nil until the first set

	mu       sync.Mutex
	inFlight *fetchCall    // the fetch under way, or nil
	asked    time.Time     // when the last fetch began
	ever     bool          // whether there has been a fetch
	offers   uint64        // how many sets were offered
	changed  chan struct{} // closed and replaced when current changes
	closed   bool
}

var _ Keys = (*RemoteKeys)(nil)

// A fetchCall is one fetch that several callers may wait for. ok is set before done is closed.
type fetchCall struct {
	done   chan struct{}
	cancel context.CancelFunc
	ok     bool
}

// NewRemoteKeys returns RemoteKeys that call fetch one at a time and at most once an interval,
// including failed fetches. There is no set until the first Refresh or Offer. The context of fetch
// has the values of the caller's context. It does not end with it, so that a client that hangs up
// does not spoil the one fetch of an interval. It ends after FetchTimeout, or by Close. With a nil
// fetch, Offer is the only source. interval defaults to DefaultInterval, and now to time.Now.
func NewRemoteKeys(
	fetch func(context.Context) (*KeySet, error), interval time.Duration, now func() time.Time,
) *RemoteKeys {
	if interval <= 0 {
		interval = DefaultInterval
	}
	if now == nil {
		now = time.Now
	}
	return &RemoteKeys{fetch: fetch, interval: interval, now: now, changed: make(chan struct{})}
}

// KeySet implements Keys. The time is when the fetch began, or when the set was offered.
func (r *RemoteKeys) KeySet() (*KeySet, time.Time, error) {
	s := r.current.Load()
	if s == nil {
		return nil, time.Time{}, ErrNoKeys
	}
	return s.set, s.asOf, nil
}

// Refresh implements Keys. If a fetch is in flight, it waits for it and returns false: the source
// may have answered before the call.
func (r *RemoteKeys) Refresh(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	f, mine := r.join(ctx)
	if f == nil {
		return false
	}
	select {
	case <-f.done:
		return mine && f.ok
	case <-ctx.Done():
		return false
	}
}

// join returns the call in flight, or starts one, which is then mine. It returns nil if it is too
// early for one.
func (r *RemoteKeys) join(ctx context.Context) (f *fetchCall, mine bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inFlight != nil {
		return r.inFlight, false
	}
	now := r.now()
	// The lower bound allows a fetch after the clock was set back.
	if since := now.Sub(r.asked); r.closed || r.fetch == nil || r.ever && since >= 0 && since < r.interval {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), FetchTimeout)
	f = &fetchCall{done: make(chan struct{}), cancel: cancel}
	r.inFlight, r.asked, r.ever = f, now, true
	go r.run(ctx, f, now, r.offers)
	return f, true
}

// run fetches. offers is the count of offers when the fetch began.
func (r *RemoteKeys) run(ctx context.Context, f *fetchCall, began time.Time, offers uint64) {
	defer f.cancel()
	set, err := r.fetch(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	// If a set was offered during the fetch, either may be the newer one. Keep the offered one,
	// because the watch will offer the newest in the end, and let the fetch count as failed.
	if err == nil && set != nil && r.offers == offers {
		r.replace(&keySnapshot{set: set, asOf: began})
		f.ok = true
	}
	r.inFlight = nil
	close(f.done)
}

// Offer makes set the current one, as of now. Offer only a set that is not older than ClockLeeway,
// or VerifyAt would refuse tokens of newer keys for good. It ignores a nil set.
func (r *RemoteKeys) Offer(set *KeySet) {
	if set == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.offers++
	r.replace(&keySnapshot{set: set, asOf: r.now()})
}

// replace sets the current snapshot and closes changed. The caller holds mu.
func (r *RemoteKeys) replace(s *keySnapshot) {
	r.current.Store(s)
	close(r.changed)
	r.changed = make(chan struct{})
}

// Changed returns a channel that is closed at the next change of the set or of its time. Call
// Changed before KeySet, so as not to miss a change.
func (r *RemoteKeys) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// Close cancels a fetch in flight, waits for it, and prevents others. KeySet and Offer still work.
func (r *RemoteKeys) Close() {
	r.mu.Lock()
	r.closed = true
	f := r.inFlight
	r.mu.Unlock()
	if f != nil {
		f.cancel()
		<-f.done
	}
}
