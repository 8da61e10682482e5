package token

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Keys is where a Verifier gets its keys.
type Keys interface {
	// KeySet returns the last good set, and a time as of which it is known to be complete: every change stored before is in it. It
	// answers ErrNoKeys when there has never been one. It does not block.
	KeySet() (*KeySet, time.Time, error)
	// Refresh asks the source again, unless that was done less than an interval ago, and waits for its answer or for ctx. It
	// reports whether the source was asked, with success, after the call began.
	Refresh(ctx context.Context) bool
}

// StaticKeys returns Keys that are always those of set.
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
	// DefaultInterval is the least time between two fetches, where NewRemoteKeys is given none.
	DefaultInterval = 10 * time.Second
)

// RemoteKeys are Keys that live elsewhere: fetched when somebody needs a newer set, or offered by a watch. The last good set
// stays in use whatever fails. It is safe for concurrent use.
type RemoteKeys struct {
	fetch    func(context.Context) (*KeySet, error)
	interval time.Duration
	now      func() time.Time

	current atomic.Pointer[keySnapshot] // nil while there has been no set

	mu       sync.Mutex
	inFlight *fetchCall    // the fetch under way, or nil
	asked    time.Time     // when the last fetch began
	ever     bool          // whether there was one
	offers   uint64        // how many sets came by themselves
	changed  chan struct{} // closed and replaced when current changes
	closed   bool
}

var _ Keys = (*RemoteKeys)(nil)

// A fetchCall is one fetch, for which several callers may wait for. ok is written before done is closed.
type fetchCall struct {
	done   chan struct{}
	cancel context.CancelFunc
	ok     bool
}

// NewRemoteKeys returns RemoteKeys that call fetch at most once an interval, failures included, and one at a time. There is no
// set until the first Refresh or Offer. The fetch's context carries the values of the caller that caused it but not its end,
// so that a client who hangs up cannot spoil the one fetch of an interval for others; it ends after FetchTimeout or by Close.
// A nil fetch leaves Offer as the only source, an interval that is not positive means DefaultInterval, a nil now time.Now.
func NewRemoteKeys(fetch func(context.Context) (*KeySet, error), interval time.Duration, now func() time.Time) *RemoteKeys {
	if interval <= 0 {
		interval = DefaultInterval
	}
	if now == nil {
		now = time.Now
	}
	return &RemoteKeys{fetch: fetch, interval: interval, now: now, changed: make(chan struct{})}
}

// KeySet returns the last good set and when it was fetched (when that fetch began) or offered, or ErrNoKeys.
func (r *RemoteKeys) KeySet() (*KeySet, time.Time, error) {
	s := r.current.Load()
	if s == nil {
		return nil, time.Time{}, ErrNoKeys
	}
	return s.set, s.asOf, nil
}

// Refresh implements Keys. Who finds a fetch under way waits for it too, but is told false: it may have been answered before.
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

// join returns the fetch under way, or starts one and says that it is the caller's, or returns nil when it is too soon.
func (r *RemoteKeys) join(ctx context.Context) (f *fetchCall, mine bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inFlight != nil {
		return r.inFlight, false
	}
	now := r.now()
	// A clock that was set back must not keep us from asking: hence the lower bound.
	if since := now.Sub(r.asked); r.closed || r.fetch == nil || r.ever && since >= 0 && since < r.interval {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), FetchTimeout)
	f = &fetchCall{done: make(chan struct{}), cancel: cancel}
	r.inFlight, r.asked, r.ever = f, now, true
	go r.run(ctx, f, now, r.offers)
	return f, true
}

// run fetches. The offers are how many there were when it began.
func (r *RemoteKeys) run(ctx context.Context, f *fetchCall, began time.Time, offers uint64) {
	defer f.cancel()
	set, err := r.fetch(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	// Where a set was offered meanwhile, nobody can say which of the two is newer. The offered one stays, because the watch
	// that it came from brings the newest in the end, and the fetch counts as failed, because nothing may be concluded from it.
	if err == nil && set != nil && r.offers == offers {
		r.replace(&keySnapshot{set: set, asOf: began})
		f.ok = true
	}
	r.inFlight = nil
	close(f.done)
}

// Offer makes set, which came by itself, the last good set as of now. Offer only what is current: a set that has waited
// somewhere for longer than ClockLeeway would make tokens of newer keys look forged to VerifyAt. A nil set is ignored.
func (r *RemoteKeys) Offer(set *KeySet) {
	if set == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.offers++
	r.replace(&keySnapshot{set: set, asOf: r.now()})
}

// replace sets the current keySnapshot and wakes who waits for it. The caller holds mu.
func (r *RemoteKeys) replace(s *keySnapshot) {
	r.current.Store(s)
	close(r.changed)
	r.changed = make(chan struct{})
}

// Changed returns a channel that is closed at the next change of the set or of its as-of time. Call it before looking at what
// might change.
func (r *RemoteKeys) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// Close ends a fetch under way, awaits it and lets no other begin. The last good set stays readable, and Offer goes on working.
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
