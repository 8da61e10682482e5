package ledger

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Values of Options.GroupFrom. See ADR 30.
const (
	// GroupPays is the number of waiting commands from which one batch is faster than single
	// writes, on a server that syncs each write: a batch costs four syncs, however many commands it
	// has.
	GroupPays = 16
	// GroupBatches is for a server that syncs later. There a single write costs next to nothing,
	// and a batch still costs three syncs, so only those that are batches in any case share one.
	GroupBatches = maxGroup + 1
)

const (
	// maxGroup and maxGroupBytes limit a batch. More commands gain nothing, and all wait for the
	// last one.
	maxGroup      = 128
	maxGroupBytes = 1 << 20
	// gathering is how long those who were answered together may take to come back, so that they
	// are together again. Otherwise the crowd splits in two, and each half waits for the other.
	gathering = time.Millisecond
)

// A group is group commit: it stores the commands of many callers in one atomic batch. While a
// write is on its way to the disk, those that arrive wait. Then the first of them leads: it sends
// all as one batch, or, where they are few, lets each be sent by its own caller, all at once.
//
// The server refuses a batch as a whole, and does not name the culprit. Then each command is sent
// by its own caller. So the answers are those of single writes, and so is what a caller does next.
// A group starts no goroutines, and every caller waits with its own context.
type group struct {
	from int // how many waiting commands make a batch: Options.GroupFrom
	// one stores the messages of one command, and batch those of many, each all or none. They
	// return the sequence of the last message.
	one, batch func(context.Context, []*nats.Msg) (uint64, error)

	mu       sync.Mutex
	waiting  []*write  // the first one leads as soon as nothing is under way
	underWay int       // commands
	closed   bool      // whether those under way are a batch, which all others wait for
	crowd    int       // how many commands the next leader waits for
	until    time.Time // and until when
	gathered chan struct{}
}

func newGroup(from int, one, batch func(context.Context, []*nats.Msg) (uint64, error)) *group {
	return &group{from: from, one: one, batch: batch, gathered: make(chan struct{}, 1)}
}

// A write is what a caller has to store for one command.
type write struct {
	msgs  []*nats.Msg
	turns chan turn // receives lead before it is taken, and one other turn when it is
	gone  bool      // whether its caller has left it in a batch
}

// A turn tells a waiting caller what to do.
type turn struct {
	what turnKind
	seq  uint64 // of answered
	err  error
}

type turnKind uint8

const (
	lead     turnKind = iota // lead the group
	alone                    // send the write
	answered                 // return the answer
)

// publish stores the messages of one command, alone or with those of others, and returns the
// sequence of the last one. If ctx ends while the command waits, the error wraps errNoTurn.
func (g *group) publish(ctx context.Context, msgs []*nats.Msg) (uint64, error) {
	// What must follow the ledger's last message cannot follow others in a batch.
	passes := g.from == 0 || g.from > maxGroup && len(msgs) == 1
	if passes || msgs[0].Header.Get(jetstream.ExpectedLastSeqHeader) != "" {
		return g.one(ctx, msgs)
	}
	w := &write{msgs: msgs, turns: make(chan turn, 1)}
	if g.arrive(w) {
		return g.send(ctx, w)
	}
	for {
		var t turn
		select {
		case t = <-w.turns:
		case <-ctx.Done():
			var err error
			if t, err = g.leave(w, ctx.Err()); err != nil {
				return 0, err
			}
		}
		switch t.what {
		case lead:
			g.lead(ctx)
		case alone:
			return g.send(ctx, w)
		default:
			return t.seq, t.err
		}
	}
}

// arrive reports whether the caller sends w at once. Otherwise w waits.
func (g *group) arrive(w *write) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	one := len(w.msgs) == 1 // the others are a batch in any case
	if len(g.waiting) == 0 && (g.underWay == 0 && !time.Now().Before(g.until) ||
		g.underWay > 0 && g.underWay < g.from && !g.closed && one) {
		g.underWay++
		g.closed = !one
		return true
	}
	g.waiting = append(g.waiting, w)
	switch {
	case g.underWay > 0: // the last of these says who leads
	case len(g.waiting) == 1:
		w.turns <- turn{what: lead}
	case len(g.waiting) == g.crowd:
		select {
		case g.gathered <- struct{}{}:
		default:
		}
	}
	return false
}

// leave returns w's turn, if that has come. Otherwise w leaves because of why, with an error that
// wraps errNoTurn unless w is on its way.
func (g *group) leave(w *write, why error) (turn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.waiting, w); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
		if i == 0 {
			g.next()
		}
		return turn{}, fmt.Errorf("%w: %w", errNoTurn, why)
	}
	select {
	case t := <-w.turns:
		return t, nil
	default:
	}
	w.gone = true
	return turn{}, why
}

// next lets the first of those who wait lead, unless something is under way. The caller holds the
// lock.
func (g *group) next() {
	if g.underWay == 0 && len(g.waiting) > 0 {
		g.waiting[0].turns <- turn{what: lead}
	}
}

// lead waits until the crowd has gathered, takes the writes that can go together, its own first,
// and sends them in one batch or tells their callers to. If ctx ends first, it does nothing.
func (g *group) lead(ctx context.Context) {
	if !g.gather(ctx) {
		return
	}
	g.mu.Lock()
	taken, msgs := g.take()
	g.underWay = len(taken)
	// One with several messages costs a batch, and the others cost nothing more then.
	g.closed = len(taken) > 1 && (len(taken) >= g.from || len(msgs) > len(taken))
	if !g.closed {
		g.closed = len(msgs) > len(taken)
		tell(taken, turn{what: alone})
		g.mu.Unlock()
		return
	}
	g.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), batchPatience)
	defer cancel()
	seq, err := g.batch(ctx, msgs)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch outcomeOf(err) {
	case decided, refused: // which of them, the server does not say
		taken = slices.DeleteFunc(taken, func(w *write) bool { return w.gone })
		tell(taken, turn{what: alone})
		g.land(g.underWay - len(taken))
		return
	case wrote:
		at := seq - uint64(len(msgs)) // a batch is stored without a gap
		for _, w := range taken {
			at += uint64(len(w.msgs))
			w.turns <- turn{what: answered, seq: at}
		}
		g.overtake(msgs)
	default:
		tell(taken, turn{what: answered, err: err})
	}
	g.crowd, g.until = min(len(taken)+len(g.waiting), maxGroup), time.Now().Add(gathering)
	g.land(len(taken))
}

func tell(writes []*write, t turn) {
	for _, w := range writes {
		w.turns <- t
	}
}

// gather waits for those who were answered together, and reports whether ctx lasted.
func (g *group) gather(ctx context.Context) bool {
	g.mu.Lock()
	select {
	case <-g.gathered: // an earlier crowd
	default:
	}
	complete, wait := len(g.waiting) >= g.crowd, time.Until(g.until)
	g.mu.Unlock()
	if complete || wait <= 0 {
		return true
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-g.gathered:
	case <-t.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// take takes the waiting writes that fit one batch, and returns them with their messages. The
// server checks a guard once a batch, so no two of them may have the same one. The caller holds the
// lock.
func (g *group) take() (taken []*write, msgs []*nats.Msg) {
	guarded, size := make(map[string]bool, len(g.waiting)), 0
	g.waiting = slices.DeleteFunc(g.waiting, func(w *write) bool {
		more := 0
		for _, m := range w.msgs {
			if guarded[guardOf(m)] {
				return false
			}
			more += m.Size()
		}
		if len(taken) == maxGroup || len(taken) > 0 && size+more > maxGroupBytes {
			return false
		}
		for _, m := range w.msgs {
			guarded[guardOf(m)] = true
		}
		size += more
		taken, msgs = append(taken, w), append(msgs, w.msgs...)
		return true
	})
	return taken, msgs
}

// send sends w alone.
func (g *group) send(ctx context.Context, w *write) (uint64, error) {
	seq, err := g.one(ctx, w.msgs)
	g.mu.Lock()
	defer g.mu.Unlock()
	if o := outcomeOf(err); o == wrote || o == decided {
		g.overtake(w.msgs)
	}
	g.land(1)
	return seq, err
}

// land notes that writes are not under way any more. The caller holds the lock.
func (g *group) land(n int) {
	g.underWay -= n
	g.closed = g.closed && g.underWay > 0
	g.next()
}

// overtake answers the waiting writes that were decided upon the same as msgs, which were stored or
// refused. To read the booking is cheaper than to be refused. The caller holds the lock, and
// something is under way.
func (g *group) overtake(msgs []*nats.Msg) {
	if len(g.waiting) == 0 {
		return
	}
	basis := func(m *nats.Msg) string { return guardOf(m) + m.Header.Get(jetstream.ExpectedLastSubjSeqHeader) }
	over := make(map[string]bool, len(msgs))
	for _, m := range msgs {
		over[basis(m)] = true
	}
	g.waiting = slices.DeleteFunc(g.waiting, func(w *write) bool {
		if !slices.ContainsFunc(w.msgs, func(m *nats.Msg) bool { return over[basis(m)] }) {
			return false
		}
		w.turns <- turn{what: answered, err: errOvertaken}
		return true
	})
}

// guardOf returns the filter of a message's guard.
func guardOf(m *nats.Msg) string { return m.Header.Get(jetstream.ExpectedLastSubjSeqSubjHeader) }
