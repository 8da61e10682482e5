package backup

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// followPatience is how long a consumer may be silent before the leader is asked for further
// messages.
const followPatience = time.Second

// tail copies what was written to a bucket during its copy. The server copies messages up to a
// fixed sequence. If the value of a key is replaced before the server gets to it, the copy contains
// neither the old value, which no longer exists, nor the new one, whose sequence is too high.
//
// The tail is complete when the leader has no message after the last one in it. It is also complete
// when a replica had no further message at the time of the last one, and that replica is as recent
// as the leader was when the tail began. If the value of a key was replaced by then, its new value
// is in the tail too.
func (c copier) tail(ctx context.Context, s *Stream) error {
	there, err := c.conn.JetStream().Stream(ctx, s.Name)
	if err != nil {
		return err
	}
	t := tail{last: s.State.Last, file: s.Name + ".tail", to: c.to}
	for complete := false; !complete; {
		next, err := get(ctx, c.conn.NATS(), s.Name, t.last+1, true)
		if errors.Is(err, errNone) {
			break
		}
		if err == nil {
			complete, err = t.follow(ctx, there, next.Seq)
		}
		if err != nil {
			return errors.Join(err, t.close())
		}
		complete = complete && t.last >= there.CachedInfo().State.LastSeq
	}
	if t.count == 0 {
		return nil
	}
	done, err := t.w.finish(t.file)
	done.Messages = t.count
	s.Tail, s.TailLast = &done, t.last
	return err
}

// A tail is a tail in progress.
type tail struct {
	to    folder
	file  string
	w     *fileWriter // nil while the tail is empty
	last  uint64      // sequence of the last message of the tail, or else of the copy
	count int
}

// follow adds messages from a sequence on. It returns true when there are no more, and false when
// the consumer falls silent.
func (t *tail) follow(ctx context.Context, stream jetstream.Stream, from uint64) (bool, error) {
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from,
	})
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
		if err != nil { // the caller asks the leader whether there is more
			return false, nil
		}
		meta, err := m.Metadata()
		if err != nil {
			return false, err
		}
		err = t.add(message{
			Subject: m.Subject(), Seq: meta.Sequence.Stream, Header: m.Headers(), Data: m.Data(), Time: meta.Timestamp,
		})
		if err != nil {
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
