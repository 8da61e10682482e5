package bus_test

import (
	"bytes"
	"context"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
)

// event returns the message of a new booking's first event.
func event(header nats.Header) *nats.Msg {
	return &nats.Msg{Subject: bus.BookingPrefix + booking.NewID() + ".1.requested", Header: header, Data: []byte("{}")}
}

// store stores a message in a stream, and returns its sequence.
func store(t *testing.T, c *bus.Conn, m *nats.Msg) uint64 {
	t.Helper()
	ack, err := c.JetStream().PublishMsg(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

// read begins to read a stream.
func read(t *testing.T, c *bus.Conn, stream string, from uint64) *bus.Reader {
	t.Helper()
	s, err := c.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	t.Cleanup(cancel)
	r, err := c.Read(ctx, s, from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// want checks that the reader goes on with a sequence, and with what the leader has stored there.
func want(t *testing.T, c *bus.Conn, r *bus.Reader, stream string, seq uint64) {
	t.Helper()
	m, _, err := r.Next()
	if err != nil || m.Seq != seq {
		t.Fatalf("read message %d, %v, want %d", m.Seq, err, seq)
	}
	stored, err := c.Get(t.Context(), stream, bus.GetRequest{Seq: seq})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.Digest(), stored.Digest()) {
		t.Fatalf("read %+v, but the leader has %+v", m, stored)
	}
}

// forgeries are headers by which a publisher could mislead a reader of copies.
func forgeries() []nats.Header {
	return []nats.Header{
		{"Nats-Sequence": {"1"}},
		{"Nats-Time-Stamp": {"2020-01-01T00:00:00Z"}},
		{"Nats-Subject": {"ledger.booking.x.1.requested"}},
		{"Nats-Last-Sequence": {"7"}},
		{"Nats-Num-Pending": {"0"}},
		{"Status": {"204"}},
		{"Status": {"404"}, "Description": {"Message Not Found"}},
		{"Status": {"100"}, "Nats-Consumer-Stalled": {"x"}},
	}
}

// A Reader reads the same as the leader has stored, whether it was stored before or comes while the
// Reader waits: events of one publish and of a batch, riders' records, and forgeries.
func TestReaderReadsWhatIsStored(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		c := e.Connect(t)
		batch := func() uint64 {
			b, err := jetstreamext.NewBatchPublisher(c.JetStream())
			if err != nil {
				t.Fatal(err)
			}
			record := &nats.Msg{Subject: bus.RiderPrefix + booking.NewID() + "." + booking.NewID() + bus.EngagedSuffix,
				Header: nats.Header{"ce-id": {"x"}}, Data: []byte("{}")}
			if err := b.AddMsg(record); err != nil {
				t.Fatal(err)
			}
			ack, err := b.CommitMsg(t.Context(), event(nats.Header{"ce-id": {"y"}}))
			if err != nil {
				t.Fatal(err)
			}
			return ack.Sequence
		}
		write := func() (last uint64) {
			store(t, c, event(nil))
			batch()
			for _, header := range forgeries() {
				store(t, c, event(header))
			}
			return batch()
		}
		last := write()
		stored := read(t, c, bus.LedgerStream, 0)
		live := read(t, c, bus.LedgerStream, last+1)
		for seq := uint64(1); seq <= last; seq++ {
			want(t, c, stored, bus.LedgerStream, seq)
		}
		end := write()
		for seq := last + 1; seq <= end; seq++ {
			want(t, c, live, bus.LedgerStream, seq)
			want(t, c, stored, bus.LedgerStream, seq)
		}
	})
}

// A Reader that does not keep up loses nothing, although NATS keeps no copies for it.
func TestReaderCatchesUp(t *testing.T) {
	t.Parallel()
	e := bustest.Run(t)
	c := e.Connect(t)
	r := read(t, c, bus.LedgerStream, 1)
	const many, more = 3_000, 100 // many more than wait for a Reader
	publish := func(n int) {
		for range n {
			if _, err := c.JetStream().PublishMsgAsync(event(nil)); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-c.JetStream().PublishAsyncComplete():
		case <-t.Context().Done():
		}
	}
	publish(many)
	for seq := uint64(1); seq <= many+more; seq++ {
		if seq == more+1 {
			publish(more) // as many as there is room for, behind those that are lost
		}
		if m, _, err := r.Next(); err != nil || m.Seq != seq {
			t.Fatalf("read message %d, %v, want %d", m.Seq, err, seq)
		}
	}
}

// A stream that is not republished, as older versions have provisioned it, is read all the same.
func TestReaderOfAnOldStream(t *testing.T) {
	t.Parallel()
	e := bustest.Run(t)
	c := e.Connect(t)
	s, err := c.Stream(t.Context(), bus.LedgerStream)
	if err != nil {
		t.Fatal(err)
	}
	old := s.CachedInfo().Config
	old.RePublish = &jetstream.RePublish{Source: "ledger.booking.>", Destination: "old.>"}
	if _, err := c.JetStream().UpdateStream(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	r := read(t, c, bus.LedgerStream, 1)
	want(t, c, r, bus.LedgerStream, store(t, c, event(nil)))
}

// A Reader of a bucket skips what was replaced, and sees what replaces it.
func TestReaderOfABucket(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		c := e.Connect(t)
		put := func(key string) uint64 {
			return store(t, c, &nats.Msg{Subject: c.Bucket(bus.RevocationsBucket).Subject(key), Data: []byte(key)})
		}
		stream := bus.BucketStream(bus.RevocationsBucket)
		for i := range 5 {
			put("s." + strconv.Itoa(i%2))
		}
		r := read(t, c, stream, 0)
		want(t, c, r, stream, 4)
		want(t, c, r, stream, 5)
		for seq := range uint64(3) {
			if put("s.0") != seq+6 {
				t.Fatal("another writer")
			}
			want(t, c, r, stream, seq+6)
		}
		put("s.1")
		last := put("s.1")
		m, _, err := r.Next()
		for err == nil && m.Seq < last { // the one before it may have come in time
			m, _, err = r.Next()
		}
		if err != nil || m.Seq != last {
			t.Errorf("read message %d, %v, want %d", m.Seq, err, last)
		}
	})
}

// A Reader ends when its stream is replaced, with its context, and when it is closed.
func TestReaderEnds(t *testing.T) {
	t.Parallel()
	e := bustest.Run(t)
	c := e.Connect(t)
	ctx, cancel := context.WithCancel(t.Context())
	s, err := c.Stream(ctx, bus.LedgerStream)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Read(ctx, s, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	other := read(t, c, bus.LedgerStream, 1)
	cancel()
	if _, _, err := r.Next(); err == nil {
		t.Error("a Reader goes on after its context")
	}
	closed := read(t, c, bus.LedgerStream, 1)
	ended := make(chan error)
	go func() {
		_, _, err := closed.Next()
		ended <- err
	}()
	closed.Close()
	if err := <-ended; err == nil {
		t.Error("a Reader goes on after it was closed")
	}
	if err := c.JetStream().DeleteStream(t.Context(), bus.LedgerStream); err != nil {
		t.Fatal(err)
	}
	if _, err := c.JetStream().CreateStream(t.Context(), s.CachedInfo().Config); err != nil {
		t.Fatal(err)
	}
	if m, _, err := other.Next(); err == nil {
		t.Errorf("a Reader of the old stream reads %d of the new one", m.Seq)
	}
}
