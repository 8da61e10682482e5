package ledger

import (
	"context"
	"errors"
	"slices"
	"sort"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
)

// A Change is a verified event, with its booking before and after it. Treat it as immutable: all
// subscriptions share it, and it shares memory with the board.
type Change struct {
	Event         booking.Event
	Before, After booking.Booking
}

const (
	recentLeast = 2048 // changes in memory, at most twice as many: a busy second or so
	takeMost    = 256  // changes that are taken together
	foldsMost   = 4096 // bookings that a subscription remembers while it catches up
	learnMost   = 100  // bookings whose histories are asked for together
)

// recent is the latest changes of a board. The follower adds them, and waits for nobody.
type recent struct {
	mu      sync.Mutex
	changes []*Change // in order
	missing uint64    // changes up to this sequence are not here
	through uint64    // everything up to here has been judged
	grown   chan struct{}
}

// add adds the change that the message at sequence seq has caused; nil: it has caused none.
func (r *recent) add(c *Change, seq uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c != nil {
		if len(r.changes) >= 2*recentLeast { // so seldom that it costs next to nothing
			r.missing = r.changes[recentLeast-1].Event.Seq
			r.changes = append(make([]*Change, 0, 2*recentLeast), r.changes[recentLeast:]...)
		}
		r.changes = append(r.changes, c)
	}
	r.advance(seq)
}

// skip forgets all changes: subscriptions read from the ledger whatever they lack up to seq.
func (r *recent) skip(seq uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes, r.missing = nil, max(r.missing, seq)
	r.advance(seq)
}

func (r *recent) advance(seq uint64) {
	r.through = max(r.through, seq)
	if r.grown != nil {
		close(r.grown)
		r.grown = nil
	}
}

// after returns some changes after a sequence, and up to where they are complete. If some of those
// are not here, it returns up to where they are missing. The channel closes when there is more.
func (r *recent) after(seq uint64) (found []*Change, through, missing uint64, more <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seq < r.missing {
		return nil, 0, r.missing, closed
	}
	from := sort.Search(len(r.changes), func(i int) bool { return r.changes[i].Event.Seq > seq })
	if len(r.changes)-from > takeMost {
		found = slices.Clone(r.changes[from : from+takeMost])
		return found, found[takeMost-1].Event.Seq, 0, closed
	}
	if r.grown == nil {
		r.grown = make(chan struct{})
	}
	return slices.Clone(r.changes[from:]), r.through, 0, r.grown
}

// closed is a channel that is closed.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// A Subscription hands on what a follower has verified: each change once, in the ledger's order. It
// may be as slow as it likes. What it has not taken stays in memory for a while; after that it
// reads the ledger by itself, until it has caught up. It is for one goroutine, and needs no
// closing.
type Subscription struct {
	follower *Follower
	seq      uint64
	more     <-chan struct{}

	// While it catches up:
	folds *simplelru.LRU[booking.ID, *booking.EventSequencer]
	epoch uint64 // of the verdicts in folds
}

// Subscribe returns a subscription to all changes after a sequence. It yields nothing before the
// board has got there.
func (f *Follower) Subscribe(after uint64) *Subscription {
	return &Subscription{follower: f, seq: after}
}

// Seq returns the sequence up to which all changes have been taken.
func (s *Subscription) Seq() uint64 { return s.seq }

// More returns a channel that closes when there may be more to take than the last Take has found.
func (s *Subscription) More() <-chan struct{} { return s.more }

// Take returns the next changes, or none if there are none now. After an error nothing is lost, and
// Take may be called again. Errors: of kind fault.Unavailable; token.ErrNoKeys or
// token.ErrUndecided where an event cannot be judged yet; ctx's.
func (s *Subscription) Take(ctx context.Context) ([]*Change, error) {
	found, through, missing, more := s.follower.recent.after(s.seq)
	s.more = more
	if missing > 0 {
		return s.catchUp(ctx, missing)
	}
	s.folds, s.seq = nil, max(s.seq, through)
	return found, nil
}

// catchUp takes changes from the ledger, up to a sequence at most.
func (s *Subscription) catchUp(ctx context.Context, to uint64) ([]*Change, error) {
	l := s.follower.ledger
	epoch := l.epoch.Version()
	if s.folds == nil || s.epoch != epoch {
		var err error
		if s.folds, err = simplelru.NewLRU[booking.ID, *booking.EventSequencer](foldsMost, nil); err != nil {
			return nil, err
		}
		s.epoch = epoch
	}
	msgs, err := l.conn.ReadOn(ctx, bus.LedgerStream, s.seq+1)
	if err != nil {
		return nil, bus.Unavailable("read the ledger", err)
	}
	if len(msgs) == 0 || msgs[0].Seq > to { // all that was there has aged
		if err := l.reaches(ctx, to); err != nil {
			return nil, bus.Unavailable("read the ledger", err)
		}
		s.seq = to
	}
	s.learn(ctx, msgs)
	var found []*Change
	var before bus.Message
	for _, m := range msgs {
		if m.Seq > to {
			break
		}
		c, err := s.fold(ctx, m, before)
		before = m
		if err != nil {
			if len(found) > 0 {
				break // the rest the next time
			}
			return nil, err
		}
		if s.seq = m.Seq; c != nil {
			found = append(found, c)
		}
	}
	return found, nil
}

// learn reads the histories of the bookings that messages are about, many with each request: with
// one for each, a subscription would not catch up with a busy system. What it cannot tell, fold
// reads by itself.
func (s *Subscription) learn(ctx context.Context, msgs []bus.Message) {
	l, first := s.follower.ledger, map[booking.ID]uint64{}
	var filters []string
	for _, m := range msgs {
		p, ok := bus.ParseEventSubject(m.Subject)
		if !ok || first[p.Booking] > 0 || s.folds.Contains(p.Booking) {
			continue
		}
		first[p.Booking] = m.Seq
		filters = append(filters, bus.EventsOf(p.Booking))
	}
	for some := range slices.Chunk(filters, learnMost) {
		const most = 1000
		past, clear, err := l.conn.DirectGet(ctx, bus.LedgerStream, bus.DirectRequest{Last: some, Batch: most})
		if err != nil || !clear || len(past) == most {
			continue
		}
		histories := map[booking.ID][]bus.Message{}
		for _, m := range past {
			if p, ok := bus.ParseEventSubject(m.Subject); ok && m.Seq <= first[p.Booking] {
				histories[p.Booking] = append(histories[p.Booking], m)
			}
		}
		for id, history := range histories {
			last := len(history) - 1
			if history[last].Seq < first[id] { // the replica is behind
				continue
			}
			if h, err := l.fold(ctx, id, history[:last]); err == nil {
				s.folds.Add(id, &h.EventSequencer)
			}
		}
	}
}

// fold verifies one message, and returns the change that it causes, or nil.
func (s *Subscription) fold(ctx context.Context, m, prior bus.Message) (*Change, error) {
	p, ok := bus.ParseEventSubject(m.Subject)
	if !ok {
		return nil, nil
	}
	l := s.follower.ledger
	e, err := l.verify.check(ctx, m, prior)
	_, refused := RefusalReason(err)
	if err != nil && !refused {
		return nil, err
	}
	sequencer, known := s.folds.Get(p.Booking)
	if !known && refused {
		return nil, nil // do not read the history, which forgeries may have made long
	}
	if !known {
		msgs, err := l.messages(ctx, bus.EventsOf(p.Booking), m.Seq)
		if err != nil {
			return nil, bus.Unavailable("read a booking", err)
		}
		msgs = slices.DeleteFunc(msgs, func(x bus.Message) bool { return x.Seq >= m.Seq })
		h, err := l.fold(ctx, p.Booking, msgs)
		if err != nil {
			return nil, err
		}
		sequencer = &h.EventSequencer
		s.folds.Add(p.Booking, sequencer)
	}
	if refused {
		sequencer.Refuse(p.N, p.Kind, 0)
		return nil, nil
	}
	before := sequencer.Booking
	switch err := sequencer.Apply(e); {
	case err == nil:
		return &Change{e, before, sequencer.Booking}, nil
	case !errors.Is(err, booking.ErrAged):
		sequencer.Refuse(p.N, p.Kind, 0)
	}
	return nil, nil
}
