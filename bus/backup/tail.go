package backup

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/bus"
)

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
		next, err := c.get(ctx, s.Name, bus.GetRequest{Seq: t.last + 1, NextFor: ">"})
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err == nil {
			complete, err = t.follow(ctx, c.conn, there, next.Seq)
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
func (t *tail) follow(ctx context.Context, conn *bus.Conn, stream jetstream.Stream, from uint64) (bool, error) {
	messages, err := conn.Read(ctx, stream, from)
	if err != nil {
		return false, err
	}
	defer messages.Close()
	for {
		m, pending, err := messages.Next()
		if err != nil { // the caller asks the leader whether there is more
			return false, ctx.Err()
		}
		if err := t.add(message{m.Subject, m.Seq, m.Header, m.Data, m.StoredAt}); err != nil || pending == 0 {
			return err == nil, err
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
