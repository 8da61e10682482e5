package ledger

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/example/pillion/bus"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	quarantineBody    = 4 << 10 // bytes of a refused body that are kept
	quarantineHeader  = 256     // and of each header
	quarantineQueue   = 1 << 20 // refused messages that may wait to be recorded, of 32 bytes each
	quarantineWriters = 16

	headerReason     = "Pillion-Reason"
	headerOriginal   = "Pillion-Subject"
	headerOriginalAt = "Pillion-Stored-At"
	headerCut        = "Pillion-Body-Size"
)

// A quarantine records refused messages in stream QUARANTINE, each once, for operators to look at. The record of sequence 17 is
// the message quarantine.17. Every reader of the ledger offers what it refuses: the first to do so is stored and the others
// are not, because each write is guarded to be the first of its subject. So no reader has to be there for another, and a crash
// in between is mended by the next start (docs/adr/0003).
//
// Whoever offers a message never waits: what is remembered of it is where it stands and why it was refused, and the message itself
// is read again when it is recorded.
type quarantine struct {
	conn    *bus.Conn
	metrics *metrics

	mu      sync.Mutex
	offered uint64          // how many there were so far; each has its number
	waiting []refusedAt     // in the order of their numbers
	writing map[uint64]bool // numbers
	lossy   bool            // whether there were too many to be remembered
	changed chan struct{}   // closed and replaced by every change
}

// A refusedAt is a message that waits to be recorded.
type refusedAt struct {
	number, seq uint64
	reason      string
}

func newQuarantine(c *bus.Conn, m *metrics) *quarantine {
	return &quarantine{conn: c, metrics: m, writing: map[uint64]bool{}, changed: make(chan struct{})}
}

// change does something to the queue, and wakes who waits for that.
func (q *quarantine) change(do func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	do()
	close(q.changed)
	q.changed = make(chan struct{})
}

// record offers a refused message. Where too many wait already, it is recorded when the ledger is next read.
func (q *quarantine) record(seq uint64, reason string) {
	q.change(func() {
		if len(q.waiting) == quarantineQueue {
			q.metrics.quarantined.WithLabelValues("dropped").Inc()
			q.lossy = true
			return
		}
		q.offered++
		q.waiting = append(q.waiting, refusedAt{q.offered, seq, reason})
	})
}

// run writes records until ctx ends, several at a time: what servers replicate they store together.
func (q *quarantine) run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	for range quarantineWriters {
		work.Go(func() {
			for {
				r, err := q.next(ctx)
				if err != nil {
					return
				}
				q.write(ctx, r)
				q.change(func() { delete(q.writing, r.number) })
			}
		})
	}
}

// next waits for something to write.
func (q *quarantine) next(ctx context.Context) (refusedAt, error) {
	for {
		q.mu.Lock()
		changed := q.changed
		if len(q.waiting) > 0 {
			r := q.waiting[0]
			q.waiting = q.waiting[1:]
			q.writing[r.number] = true
			q.mu.Unlock()
			return r, nil
		}
		q.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return refusedAt{}, ctx.Err()
		}
	}
}

// flush waits until everything is recorded that was offered so far, and reports whether it is.
func (q *quarantine) flush(ctx context.Context) bool {
	q.mu.Lock()
	last := q.offered
	q.mu.Unlock()
	for {
		q.mu.Lock()
		changed, lossy := q.changed, q.lossy
		done := len(q.waiting) == 0 || q.waiting[0].number > last
		for n := range q.writing {
			done = done && n > last
		}
		q.mu.Unlock()
		if done {
			return !lossy
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// write stores one record, however long that takes.
func (q *quarantine) write(ctx context.Context, r refusedAt) {
	pace := bus.NewBackOff()
	for ctx.Err() == nil {
		result, err := q.try(ctx, r)
		if err == nil {
			q.metrics.quarantined.WithLabelValues(result).Inc()
			return
		}
		q.conn.Log().Debug("quarantine is not available", "error", err)
		bus.Pause(ctx, pace.NextBackOff())
	}
}

// try stores one record, and returns what came of it.
func (q *quarantine) try(ctx context.Context, r refusedAt) (result string, err error) {
	ctx, cancel := context.WithTimeout(ctx, bus.AttemptPatience)
	defer cancel()
	m, err := q.conn.Get(ctx, bus.LedgerStream, bus.GetRequest{Seq: r.seq})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return "aged", nil
	}
	if err != nil {
		return "", err
	}
	_, err = q.conn.Publish(ctx, quarantined(m, r.reason), jetstream.WithExpectStream(bus.QuarantineStream), jetstream.WithExpectLastSequencePerSubject(0))
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == bus.CodeWrongLastSequence {
		return "known", nil
	}
	return "recorded", err
}

// tokenShaped matches whatever could be a JWT: three runs of base64url between dots, the first an encoded JSON object.
var tokenShaped = regexp.MustCompile(`eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*`)

// quarantined makes the record of a refused message: its reason, where and when it was stored, its CloudEvents headers and the
// beginning of its body. Its token is left out, and blotted out wherever else something like one stands.
func quarantined(m bus.Message, reason string) *nats.Msg {
	out := nats.NewMsg(bus.QuarantinePrefix + strconv.FormatUint(m.Seq, 10))
	for name, values := range m.Header {
		if lower := strings.ToLower(name); !strings.HasPrefix(lower, "ce-") || len(name) > quarantineHeader {
			continue
		}
		for _, v := range values {
			out.Header.Add(name, clean(v, quarantineHeader))
		}
	}
	out.Header.Set(headerReason, reason)
	out.Header.Set(headerOriginal, clean(m.Subject, quarantineHeader))
	out.Header.Set(headerOriginalAt, m.StoredAt.UTC().Format(time.RFC3339Nano))
	out.Header.Set(headerCut, strconv.Itoa(len(m.Data)))
	out.Data = []byte(clean(string(m.Data), quarantineBody))
	return out
}

// clean blots out tokens before it cuts, so that no cut leaves half a token behind.
func clean(s string, limit int) string {
	s = tokenShaped.ReplaceAllString(s, "[token removed]")
	if len(s) > limit {
		s = s[:limit]
	}
	return s
}
