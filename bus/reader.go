package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A Reader reads a stream's messages in order and without a gap, from one sequence on. When it
// cannot go on, it ends, and a new Reader begins where it stopped. Close it.
//
// New messages come as NATS republishes them, if the stream has a RePublish. What was stored
// before, or was missed, comes by direct gets, which any replica may answer. Neither says where the
// stream ends: the leader does, once every readerPace. So a Reader needs no consumer, which could
// be made to write elsewhere, and nothing that is lost on the way is lost to it.
//
// A sequence that is skipped was deleted, or has aged.
type Reader struct {
	conn    *Conn
	stream  string
	created time.Time
	same    func() bool // whether the connection has stayed up
	ctx     context.Context
	end     context.CancelFunc
	live    []*nats.Subscription
	news    chan *nats.Msg
	pace    *time.Ticker

	next    uint64    // nothing before it is missing
	last    uint64    // the stream's last sequence: the leader's word, or a later message
	fetched []Message // what comes next
}

const (
	// readerPace is the time between two questions to the leader.
	readerPace = time.Second
	// readerNews is how many new messages wait for the Reader. Others are fetched.
	readerNews = 1_024
)

// errReaderBroken says that a Reader must begin again.
var errReaderBroken = errors.New("the connection was lost, or the stream replaced")

// Read returns a Reader that begins at sequence from. It ends with ctx. The caller closes it.
func (c *Conn) Read(ctx context.Context, stream jetstream.Stream, from uint64) (*Reader, error) {
	if err := c.AwaitUp(ctx); err != nil {
		return nil, err
	}
	info := stream.CachedInfo()
	r := &Reader{
		conn: c, stream: info.Config.Name, created: info.Created, same: c.SameConnection(),
		news: make(chan *nats.Msg, readerNews), pace: time.NewTicker(readerPace),
		next: max(from, 1), last: info.State.LastSeq,
	}
	r.ctx, r.end = context.WithCancel(ctx)
	for _, subject := range LiveSubjects(r.stream) {
		sub, err := c.nc.ChanSubscribe(subject, r.news)
		if err != nil {
			r.Close()
			return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
		}
		r.live = append(r.live, sub)
	}
	return r, nil
}

// Next returns the next message, and about how many follow it. Any error ends the Reader.
func (r *Reader) Next() (m Message, pending uint64, err error) {
	for {
		switch {
		case r.ctx.Err() != nil:
			return Message{}, 0, r.ctx.Err()
		case len(r.fetched) > 0:
			m, r.fetched = r.fetched[0], r.fetched[1:]
			return r.found(m)
		case r.next <= r.last:
			err = r.fetch()
		default:
			var ok bool
			if m, ok, err = r.await(); ok {
				return r.found(m)
			}
		}
		if err != nil {
			return Message{}, 0, err
		}
	}
}

// found notes that m comes next.
func (r *Reader) found(m Message) (Message, uint64, error) {
	r.next, r.last = m.Seq+1, max(r.last, m.Seq)
	return m, r.last - m.Seq, nil
}

// Waiting reports whether Next can return something at once.
func (r *Reader) Waiting() bool { return len(r.fetched) > 0 || len(r.news) > 0 }

// await waits for the next message, and reports whether it has come. It returns false when there is
// something to fetch.
func (r *Reader) await() (Message, bool, error) {
	for {
		select {
		case news := <-r.news:
			m, ok := copied(news, r.stream, false)
			switch {
			case !ok:
				return Message{}, false, r.ask()
			case m.Seq < r.next: // it was fetched
				continue
			case m.Seq > r.next: // what is before it was lost, or deleted
				r.last = m.Seq
				return Message{}, false, nil
			}
			return m, true, nil
		case <-r.pace.C:
			return Message{}, false, r.ask()
		case <-r.ctx.Done():
			return Message{}, false, r.ctx.Err()
		}
	}
}

// ask asks the leader where the stream ends.
func (r *Reader) ask() error {
	stream, err := r.conn.Stream(r.ctx, r.stream)
	if err != nil {
		return err
	}
	info := stream.CachedInfo()
	if !r.same() || !info.Created.Equal(r.created) || info.State.LastSeq+1 < r.next {
		return fmt.Errorf("read stream %s: %w", r.stream, errReaderBroken)
	}
	r.last = info.State.LastSeq
	return nil
}

// fetch fetches what comes next, of which the leader, or the server that republishes, has said that
// it is stored.
func (r *Reader) fetch() (err error) {
	r.fetched, err = r.conn.ReadOn(r.ctx, r.stream, r.next)
	if err == nil && len(r.fetched) == 0 {
		r.next = r.last + 1 // the rest was deleted, or has aged
	}
	return err
}

// Close ends the Reader, and a Next that is waiting.
func (r *Reader) Close() {
	r.end()
	r.pace.Stop()
	for _, sub := range r.live {
		_ = sub.Unsubscribe() // fails without a connection, and then there is no subscription
	}
}
