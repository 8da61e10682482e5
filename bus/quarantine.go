package bus

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	quarantineBody   = 4 << 10 // bytes of a refused body that are kept
	quarantineHeader = 256     // and of each header
	quarantineQueue  = 4096    // refused messages that may wait to be recorded
	quarantineWait   = time.Second

	headerReason     = "Pillion-Reason"
	headerOriginal   = "Pillion-Subject"
	headerOriginalAt = "Pillion-Stored-At"
	headerCut        = "Pillion-Body-Size"
)

// A quarantine records refused messages in stream QUARANTINE, each once, for operators to look at. The record of sequence 17 is
// the message quarantine.17. Every reader of the ledger offers what it refuses: the first to do so is stored and the others
// are not, because each write is guarded to be the first of its subject. So no reader has to be there for another, and a crash
// in between is mended by the next start (docs/adr/0003).
type quarantine struct {
	conn  *Conn
	queue chan toRecord
	lossy atomic.Bool // whether any was dropped
}

// toRecord is a record that waits to be written, or somebody who waits for those before.
type toRecord struct {
	record  *nats.Msg
	written chan<- struct{}
}

func newQuarantine(c *Conn) *quarantine {
	return &quarantine{conn: c, queue: make(chan toRecord, quarantineQueue)}
}

// record offers a refused message. It waits a second at most for room in the queue, for a flood of forgeries must not stop the
// ledger's reader; what is dropped then is recorded when the ledger is next read.
func (q *quarantine) record(ctx context.Context, m stored, reason string) {
	msg := toRecord{record: quarantined(m, reason)}
	select {
	case q.queue <- msg:
		return
	default:
	}
	select {
	case q.queue <- msg:
	case <-time.After(quarantineWait):
		q.conn.metrics.quarantined.WithLabelValues("dropped").Inc()
		q.lossy.Store(true)
	case <-ctx.Done():
	}
}

// run writes records until ctx ends.
func (q *quarantine) run(ctx context.Context) {
	for {
		select {
		case m := <-q.queue:
			if m.written != nil {
				close(m.written)
				continue
			}
			q.write(ctx, m.record)
		case <-ctx.Done():
			return
		}
	}
}

// flush waits until everything is recorded that was offered so far, and reports whether it is.
func (q *quarantine) flush(ctx context.Context) bool {
	written := make(chan struct{})
	select {
	case q.queue <- toRecord{written: written}:
	case <-ctx.Done():
		return false
	}
	select {
	case <-written:
		return !q.lossy.Load()
	case <-ctx.Done():
		return false
	}
}

// write stores one record, however long that takes.
func (q *quarantine) write(ctx context.Context, m *nats.Msg) {
	pace := newBackOff()
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, attemptPatience)
		_, err := q.conn.publish(try, m, jetstream.WithExpectStream(QuarantineStream), jetstream.WithExpectLastSequencePerSubject(0))
		cancel()
		var api *jetstream.APIError
		switch {
		case err == nil:
			q.conn.metrics.quarantined.WithLabelValues("recorded").Inc()
			return
		case errors.As(err, &api) && api.ErrorCode == errWrongLastSequence:
			q.conn.metrics.quarantined.WithLabelValues("known").Inc()
			return
		}
		q.conn.log.Debug("quarantine is not available", "error", err)
		select {
		case <-time.After(pace.NextBackOff()):
		case <-ctx.Done():
		}
	}
}

// tokenShaped matches whatever could be a JWT: three runs of base64url between dots, the first an encoded JSON object.
var tokenShaped = regexp.MustCompile(`eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*`)

// quarantined makes the record of a refused message: its reason, where and when it was stored, its CloudEvents headers and the
// beginning of its body. Its token is left out, and blotted out wherever else something like one stands.
func quarantined(m stored, reason string) *nats.Msg {
	out := nats.NewMsg(quarantinePrefix + strconv.FormatUint(m.seq, 10))
	for name, values := range m.header {
		if lower := strings.ToLower(name); !strings.HasPrefix(lower, "ce-") || len(name) > quarantineHeader {
			continue
		}
		for _, v := range values {
			out.Header.Add(name, clean(v, quarantineHeader))
		}
	}
	out.Header.Set(headerReason, reason)
	out.Header.Set(headerOriginal, clean(m.subject, quarantineHeader))
	out.Header.Set(headerOriginalAt, m.at.UTC().Format(time.RFC3339Nano))
	out.Header.Set(headerCut, strconv.Itoa(len(m.data)))
	out.Data = []byte(clean(string(m.data), quarantineBody))
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
