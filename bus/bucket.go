package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/internal/fault"
)

// What a Bucket says of a key.
var (
	ErrNoKey     = fault.New(fault.NotFound, "no_key", "There is nothing under that key.")
	ErrKeyExists = fault.New(fault.Conflict, "key_exists", "There is something under that key already.")
	ErrStale     = fault.New(fault.Conflict, "stale_revision", "Somebody else has changed it in the meantime.")
)

// A Bucket is a key-value bucket whose reads are answered by the leader. The key-value client of nats.go reads from any replica,
// which may not have heard yet of what was written a moment ago: good enough for a cache, and not for "no such account".
//
// Keys are of [A-Za-z0-9_=.-] here, with a dot only between others; hash what people type. Errors other than those above are of kind fault.Unavailable.
type Bucket struct {
	conn *Conn
	name string
}

// Bucket returns the bucket of that name. It need not exist yet.
func (c *Conn) Bucket(name string) *Bucket { return &Bucket{conn: c, name: name} }

// A deleted key has a message that says so in the place of its value.
const (
	HeaderOperation = "KV-Operation"
	operationDelete = "DEL"
	operationPurge  = "PURGE"
)

func (b *Bucket) Stream() string { return bucketStream + b.name }

func (b *Bucket) Subject(key string) string { return bucketPrefix + b.name + "." + key }

// Get returns a value and its revision, or ErrNoKey.
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

// Create stores a value under a key that has none, and returns its revision, or ErrKeyExists.
func (b *Bucket) Create(ctx context.Context, key string, value []byte) (revision uint64, err error) {
	revision, err = b.put(ctx, key, value, 0)
	if !errors.Is(err, ErrStale) {
		return revision, err
	}
	_, marker, err := b.Get(ctx, key) // deleted before?
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

// Update stores a value over the given revision and returns the new one, or ErrStale where there is another by now.
func (b *Bucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return b.put(ctx, key, value, revision)
}

// Delete deletes the value of the given revision, which must be one that Get returned, or answers ErrStale where there is
// another by now or none. A later Create under the key is possible.
func (b *Bucket) Delete(ctx context.Context, key string, revision uint64) error {
	if revision == 0 {
		return ErrStale // a guard of 0 would say: nothing there
	}
	_, err := b.write(ctx, &nats.Msg{Subject: b.Subject(key), Header: nats.Header{HeaderOperation: {operationDelete}}}, revision)
	return err
}

// Erase is Delete for what must not be found any more: the earlier revisions under the key go as well, however many the bucket keeps. What
// stays is an empty message that says so.
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

// Keys returns the keys that have a value, sorted. It reads the whole bucket, up to what the leader had last when it began.
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
		if m.Seq >= last.Seq { // itself, or what has replaced it since
			return slices.Sorted(maps.Keys(found)), nil
		}
	}
}

// put stores one value.
func (b *Bucket) put(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return b.write(ctx, &nats.Msg{Subject: b.Subject(key), Data: value, Header: nats.Header{}}, revision)
}

// write is one guarded write. Where its outcome is not known, the caller's next read tells. While another write with the same
// guard is being stored, ours is refused, and tried again until that is decided.
func (b *Bucket) write(asked context.Context, m *nats.Msg, revision uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(asked, AttemptPatience)
	defer cancel()
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(revision, 10))
	var api *jetstream.APIError
	ack, err := backoff.Retry(ctx, func() (*jetstream.PubAck, error) {
		ack, err := b.conn.Publish(ctx, m, jetstream.WithExpectStream(b.Stream()))
		if err == nil || errors.As(err, &api) && api.ErrorCode == CodeGuardInFlight {
			return ack, err
		}
		return nil, backoff.Permanent(err)
	}, backoff.WithBackOff(NewBackOff()))
	if err != nil {
		if errors.As(err, &api) && api.ErrorCode == CodeWrongLastSequence {
			return 0, ErrStale
		}
		b.conn.NotStored(asked, b.Stream(), err, b.probe)
		return 0, Unavailable(fmt.Sprintf("write bucket %s", b.name), err)
	}
	b.conn.writes.stored(b.Stream())
	return ack.Sequence, nil
}
