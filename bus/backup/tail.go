package backup

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// followPatience is how long nothing may come before the leader is asked whether there is anything.
const followPatience = time.Second

// tail copies what was written to a bucket since. The server copies what is there up to a sequence: a key whose value was replaced before its turn comes
// is in no copy, neither with the old value, which is gone, nor with the new one, which is beyond.
//
// It has everything that is valid when the leader has nothing after the last message; or when a replica, which knows at least what the leader had when the tail began, has
// nothing at the time of the last message. Where a key's value was replaced by then, the new one was before that message too.
func (c copying) tail(ctx context.Context, s *Stream) error {
	there, err := c.conn.JetStream().Stream(ctx, s.Name)
	if err != nil {
		return err
	}
	t := tail{last: s.State.Last, file: s.Name + ".tail", to: c.to}
	for whole := false; !whole; {
		next, err := get(ctx, c.conn.NATS(), s.Name, t.last+1, true)
		if errors.Is(err, errNone) {
			break
		}
		if err == nil {
			whole, err = t.follow(ctx, there, next.Seq)
		}
		if err != nil {
			return errors.Join(err, t.close())
		}
		whole = whole && t.last >= there.CachedInfo().State.LastSeq
	}
	if t.count == 0 {
		return nil
	}
	done, err := t.w.finish(t.file)
	done.Messages = t.count
	s.Tail, s.TailLast = &done, t.last
	return err
}

// A tail is one that is being written.
type tail struct {
	to    folder
	file  string
	w     *writing // nil: there is nothing in it yet
	last  uint64   // sequence of the last message that is in it, or in the copy
	count int
}

// follow reads on from a sequence until there is nothing more, and returns true; or until nothing comes, which says little.
func (t *tail) follow(ctx context.Context, stream jetstream.Stream, from uint64) (bool, error) {
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from})
	if err != nil {
		return false, err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return false, err
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextMaxWait(followPatience))
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err != nil { // the leader is asked, and says whether there is anything
			return false, nil
		}
		meta, err := m.Metadata()
		if err != nil {
			return false, err
		}
		if err := t.add(message{Subject: m.Subject(), Seq: meta.Sequence.Stream, Header: m.Headers(), Data: m.Data(), Time: meta.Timestamp}); err != nil {
			return false, err
		}
		if meta.NumPending == 0 {
			return true, nil
		}
	}
}

func (t *tail) add(m message) (err error) {
	if t.w == nil {
		if t.w, err = t.to.create(t.file); err != nil {
			return err
		}
	}
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if _, err := t.w.Write(append(line, '\n')); err != nil {
		return err
	}
	t.last = m.Seq
	t.count++
	return nil
}

func (t *tail) close() error {
	if t.w == nil {
		return nil
	}
	return t.w.Close()
}
