// Package quarantine records the messages of the ledger that re-verification has rejected, without
// their tokens, for operators. Call [New], [Recorder.Run], and [Recorder.Record] for each message.
package quarantine

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/bus"
)

const (
	keptBody   = 4 << 10 // bytes of the body that are kept
	keptHeader = 256     // and of each header
	queueMost  = 1 << 20 // messages in the queue, of 32 bytes each
	writers    = 16

	headerReason     = "Pillion-Reason"
	headerOriginal   = "Pillion-Subject"
	headerOriginalAt = "Pillion-Stored-At"
	headerCut        = "Pillion-Body-Size"
)

// A Recorder records rejected messages in stream QUARANTINE, each once, for operators. The record
// of sequence 17 is the message quarantine.17. Every follower offers what it rejects. The guard of
// each write is that it is the first of its subject, so one record is stored and the others are
// not. So no follower depends on another, and the next start makes up for a crash (docs/adr/0003).
//
// Offering a message never waits: the queue holds its sequence and the reason, and the message is
// read again when it is recorded.
type Recorder struct {
	conn    *bus.Conn
	results *prometheus.CounterVec

	mu      sync.Mutex
	offered uint64          // how many so far; each has a number
	waiting []refusedAt     // in the order of their numbers
	writing map[uint64]bool // numbers
	lossy   bool            // whether the queue was ever full
	changed chan struct{}   // closed and replaced by every change
}

// A refusedAt is a message in the queue.
type refusedAt struct {
	number, seq uint64
	reason      string
}

// New returns a Recorder. It counts the results of recording in the registry, which may be nil.
func New(c *bus.Conn, r prometheus.Registerer) *Recorder {
	return &Recorder{conn: c, writing: map[uint64]bool{}, changed: make(chan struct{}),
		results: bus.Counters(r, "quarantine_records_total",
			"Rejected messages, by the result of recording them.", "result", "recorded", "known", "aged", "dropped")}
}

// change changes the queue, and wakes the goroutines that wait for that.
func (q *Recorder) change(do func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	do()
	close(q.changed)
	q.changed = make(chan struct{})
}

// Record offers a rejected message. Where the queue is full, it is recorded when the ledger is next
// read.
func (q *Recorder) Record(seq uint64, reason string) {
	q.change(func() {
		if len(q.waiting) == queueMost {
			q.results.WithLabelValues("dropped").Inc()
			q.lossy = true
			return
		}
		q.offered++
		q.waiting = append(q.waiting, refusedAt{q.offered, seq, reason})
	})
}

// Run writes records until ctx ends, several at a time: replicated servers store them together.
func (q *Recorder) Run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	for range writers {
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
func (q *Recorder) next(ctx context.Context) (refusedAt, error) {
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

// Flush waits until everything that was offered so far is recorded, and reports whether it is.
func (q *Recorder) Flush(ctx context.Context) bool {
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
func (q *Recorder) write(ctx context.Context, r refusedAt) {
	p := bus.Retries(0)
	p.Notify = func(err error, _ time.Duration) { q.conn.Log().Debug("quarantine is not available", "error", err) }
	_ = p.Do(ctx, func() error {
		result, err := q.try(ctx, r)
		if err == nil {
			q.results.WithLabelValues(result).Inc()
		}
		return err
	})
}

// try stores one record, and returns its metric label.
func (q *Recorder) try(ctx context.Context, r refusedAt) (result string, err error) {
	ctx, cancel := context.WithTimeout(ctx, bus.AttemptPatience)
	defer cancel()
	m, err := q.conn.Get(ctx, bus.LedgerStream, bus.GetRequest{Seq: r.seq})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return "aged", nil
	}
	if err != nil {
		return "", err
	}
	_, err = q.conn.Publish(ctx, quarantined(m, r.reason), jetstream.WithExpectStream(bus.QuarantineStream),
		jetstream.WithExpectLastSequencePerSubject(0))
	if bus.APIError(err).ErrorCode == bus.CodeWrongLastSequence {
		return "known", nil
	}
	return "recorded", err
}

// tokenShaped matches anything that could be a JWT: three runs of base64url between dots, the first
// an encoded JSON object.
var tokenShaped = regexp.MustCompile(`eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*`)

// quarantined makes the record of a rejected message: its reason, where and when it was stored, its
// CloudEvents headers and the beginning of its body. It leaves out the token, and removes whatever
// looks like one elsewhere.
func quarantined(m bus.Message, reason string) *nats.Msg {
	out := nats.NewMsg(bus.QuarantinePrefix + strconv.FormatUint(m.Seq, 10))
	for name, values := range m.Header {
		if lower := strings.ToLower(name); !strings.HasPrefix(lower, "ce-") || len(name) > keptHeader {
			continue
		}
		for _, v := range values {
			out.Header.Add(name, clean(v, keptHeader))
		}
	}
	out.Header.Set(headerReason, reason)
	out.Header.Set(headerOriginal, clean(m.Subject, keptHeader))
	out.Header.Set(headerOriginalAt, m.StoredAt.UTC().Format(time.RFC3339Nano))
	out.Header.Set(headerCut, strconv.Itoa(len(m.Data)))
	out.Data = []byte(clean(string(m.Data), keptBody))
	return out
}

// clean removes tokens before it truncates, so that no half token remains.
func clean(s string, limit int) string {
	s = tokenShaped.ReplaceAllString(s, "[token removed]")
	if len(s) > limit {
		s = s[:limit]
	}
	return s
}
