package bus

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/retry"
)

// Errors of a Bucket.
var (
	ErrNoKey     = fault.New(fault.NotFound, "no_key", "There is nothing under that key.")
	ErrKeyExists = fault.New(fault.Conflict, "key_exists", "There is something under that key already.")
	ErrStale     = fault.New(fault.Conflict, "stale_revision", "The value has been changed in the meantime.")
)

// A Bucket is a key-value bucket whose reads are answered by the leader. The key-value client of
// nats.go reads from any replica, which may lag behind: good enough for a cache, but not to tell
// that an account does not exist.
//
// Keys consist of [A-Za-z0-9_=.-], with dots only between other characters; hash what people type.
// Errors other than those above are of kind fault.Unavailable.
type Bucket struct {
	conn *Conn
	name string
}

// Bucket returns the bucket of that name, which need not exist yet.
func (c *Conn) Bucket(name string) *Bucket { return &Bucket{conn: c, name: name} }

// A deleted key has a marker instead of a value: a message with HeaderOperation.
const (
	HeaderOperation = "KV-Operation"
	operationDelete = "DEL"
	operationPurge  = "PURGE"
)

// Stream returns the name of the stream that stores the bucket.
func (b *Bucket) Stream() string { return bucketStream + b.name }

// Subject returns the subject on which the values of a key are stored.
func (b *Bucket) Subject(key string) string { return bucketPrefix + b.name + "." + key }

// Get returns a value and its revision, or ErrNoKey. The revision of a deleted key is its marker's.
func (b *Bucket) Get(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	m, err := b.conn.Last(ctx, b.Stream(), b.Subject(key))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, 0, ErrNoKey
	}
	if err != nil {
		return nil, 0, Unavailable("read bucket "+b.name, err)
	}
	if op := m.Header.Get(HeaderOperation); op != "" { // a delete or purge marker
		return nil, m.Seq, ErrNoKey
	}
	return m.Data, m.Seq, nil
}

// Has reports whether the value of a revision is still there, in a bucket that keeps one revision
// of each key.
func (b *Bucket) Has(ctx context.Context, revision uint64) (bool, error) {
	_, err := b.conn.Get(ctx, b.Stream(), GetRequest{Seq: revision})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	if err != nil {
		return false, Unavailable("read bucket "+b.name, err)
	}
	return true, nil
}

// Create stores a value under a key without one, and returns its revision, or ErrKeyExists.
func (b *Bucket) Create(ctx context.Context, key string, value []byte) (revision uint64, err error) {
	revision, err = b.put(ctx, key, value, 0)
	if !errors.Is(err, ErrStale) {
		return revision, err
	}
	_, marker, err := b.Get(ctx, key) // perhaps a marker is in the way
	if errors.Is(err, ErrNoKey) && marker > 0 {
		revision, err = b.put(ctx, key, value, marker)
	} else if err == nil {
		err = ErrKeyExists
	}
	if errors.Is(err, ErrStale) {
		err = ErrKeyExists
	}
	return revision, err
}

// Update replaces the value of the given revision and returns the new revision, or ErrStale where
// the revision has changed.
func (b *Bucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return b.put(ctx, key, value, revision)
}

// Delete deletes a key, if its value still is the given revision, and returns ErrStale otherwise.
// Earlier revisions stay in the bucket as long as it keeps them.
func (b *Bucket) Delete(ctx context.Context, key string, revision uint64) error {
	if revision == 0 {
		return ErrStale // a guard of 0 would say: nothing there
	}
	_, err := b.write(ctx, &nats.Msg{Subject: b.Subject(key), Header: nats.Header{HeaderOperation: {operationDelete}}},
		revision)
	return err
}

// Erase is Delete for secrets: it also removes all earlier revisions. An empty marker stays.
func (b *Bucket) Erase(ctx context.Context, key string, revision uint64) error {
	if revision == 0 {
		return ErrStale
	}
	_, err := b.write(ctx, &nats.Msg{Subject: b.Subject(key), Header: nats.Header{
		HeaderOperation:     {operationPurge},
		jetstream.MsgRollup: {jetstream.MsgRollupSubject},
	}}, revision)
	return err
}

// Keys returns the keys that have a value, sorted. It reads the whole bucket, up to the message
// that was the last when it began.
func (b *Bucket) Keys(ctx context.Context) ([]string, error) {
	failed := func(err error) ([]string, error) { return nil, Unavailable("list bucket "+b.name, err) }
	last, err := b.conn.Last(ctx, b.Stream(), b.Subject(">"))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return failed(err)
	}
	stream, err := b.conn.Stream(ctx, b.Stream())
	if err != nil {
		return failed(err)
	}
	reader, err := b.conn.Read(ctx, stream, 1)
	if err != nil {
		return failed(err)
	}
	defer reader.Close()
	found := make(map[string]bool)
	for {
		m, _, err := reader.Next()
		if err != nil {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return failed(err)
		}
		key := strings.TrimPrefix(m.Subject, b.Subject(""))
		if m.Header.Get(HeaderOperation) == "" {
			found[key] = true
		} else {
			delete(found, key)
		}
		if m.Seq >= last.Seq { // or one that has replaced it since
			return slices.Sorted(maps.Keys(found)), nil
		}
	}
}

func (b *Bucket) put(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return b.write(ctx, &nats.Msg{Subject: b.Subject(key), Data: value, Header: nats.Header{}}, revision)
}

// write stores one message under a guard: the expected revision. After an error of kind
// fault.Unavailable the outcome is unknown, and the caller must read to learn it. NATS rejects the
// write while another one with the same guard is being stored, so write retries until that is
// decided.
func (b *Bucket) write(asked context.Context, m *nats.Msg, revision uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(asked, AttemptPatience)
	defer cancel()
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(revision, 10))
	p := Retries(0)
	p.When = func(err error) bool { return APIError(err).ErrorCode == CodeGuardInFlight }
	ack, err := retry.Get(ctx, p, func() (*jetstream.PubAck, error) {
		return b.conn.Publish(ctx, m, jetstream.WithExpectStream(b.Stream()))
	})
	if err != nil {
		if p.When(err) { // until ctx ended, which says more about the store than the last rejection
			err = context.Cause(ctx)
		}
		if APIError(err).ErrorCode == CodeWrongLastSequence {
			return 0, ErrStale
		}
		b.conn.NotStored(asked, b.Stream(), err, b.probe)
		return 0, Unavailable("write bucket "+b.name, err)
	}
	b.conn.Stored(b.Stream())
	return ack.Sequence, nil
}
