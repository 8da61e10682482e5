// Package bound keeps authsvc's records so that nobody else can write them. Open a bucket with
// [Bind], and run its Watch. The package protects what is in NATS, and nothing in PostgreSQL.
package bound

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/session"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/ration"
)

// A Bucket is a bucket whose values only authsvc can write: each carries a MAC that binds it to its
// bucket and key. A value that somebody else has stored, or copied from another key, is refused. An
// earlier value of the same key is not. Values are JSON objects, and the MAC is their last member.
type Bucket struct {
	*bus.Bucket
	conn    *bus.Conn
	name    string
	key     []byte
	log     *slog.Logger
	counter *prometheus.CounterVec

	mu      sync.Mutex
	refused map[string]uint64 // the revision of what the bucket has under a key, and is refused
	early   ration.Lines      // about those that Watch finds when it begins
}

var (
	_ authsvc.Bucket = (*Bucket)(nil)
	_ session.Bucket = (*Bucket)(nil)
)

// KeySize is the length of the key of a Bucket, in bytes.
const KeySize = sha256.Size

const (
	macBegins = `,"mac":"`
	macEnds   = `"}`
)

// errUnbound refuses a value.
var errUnbound = errors.New("authsvc has not stored it there")

// Bind returns the bucket of a name, bound with a key of KeySize bytes. The Registerer
// is optional.
func Bind(c *bus.Conn, name string, key []byte, log *slog.Logger, r prometheus.Registerer) *Bucket {
	return &Bucket{Bucket: c.Bucket(name), conn: c, name: name, key: key, log: log, refused: map[string]uint64{},
		counter: bus.Counters(r, "untrusted_records_total",
			"Accounts and sessions that were refused because authsvc has not stored them there, by bucket.",
			"bucket", bus.AccountsBucket, bus.SessionsBucket)}
}

// Get implements authsvc.Bucket. It returns an error for a value that it refuses.
func (b *Bucket) Get(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	stored, revision, err := b.Bucket.Get(ctx, key)
	if err != nil {
		return nil, revision, err
	}
	if value, err = b.open(key, stored); err != nil {
		b.refuse(key, revision, false)
		return nil, revision, fmt.Errorf("bucket %s, key %s: %w", b.name, key, err)
	}
	return value, revision, nil
}

// refuse notes that a value is refused. It counts and logs each one once. early says that there may
// be many like it: then it logs one a second.
func (b *Bucket) refuse(key string, revision uint64, early bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refused[key] == revision {
		return
	}
	b.refused[key] = revision
	b.counter.WithLabelValues(b.name).Inc()
	missed, due := 0, true
	if early {
		missed, due = b.early.Next(time.Now())
	}
	if due {
		b.log.Error("a record is refused", "bucket", b.name, "key", key, "revision", revision, "error", errUnbound,
			"unlogged", missed)
	}
}

// Ready returns nil, or which value is refused, as long as it is in the bucket.
func (b *Bucket) Ready(ctx context.Context) error {
	b.mu.Lock()
	refused := maps.Clone(b.refused)
	b.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(refused)) {
		there, err := b.Has(ctx, refused[key]) // nothing announces that it was purged, or has aged
		if err == nil && there {
			err = errUnbound
		}
		if err != nil {
			return fmt.Errorf("bucket %s, key %s: %w", b.name, key, err)
		}
		b.forget(key, refused[key])
	}
	return nil
}

// forget forgets a refused value, unless another one is refused meanwhile.
func (b *Bucket) forget(key string, revision uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refused[key] == revision {
		delete(b.refused, key)
	}
}

// Watch reads the bucket until ctx ends, and then returns nil. So a value that somebody else has
// stored is noticed, although nobody asks for it.
func (b *Bucket) Watch(ctx context.Context) error {
	var created time.Time
	var seen uint64
	trust.Follow(ctx, b.conn, b.name, b.Bucket, func(now time.Time, last uint64) (uint64, func(bus.Message) error) {
		if !now.Equal(created) || last < seen { // another bucket
			created, seen = now, 0
		}
		return seen + 1, func(m bus.Message) error {
			err := b.look(ctx, m, m.Seq <= last)
			if err == nil {
				seen = m.Seq
			}
			return err
		}
	})
	return nil
}

// look judges a message of the bucket. It refuses only what the leader has: a replica may still
// have what was overwritten.
func (b *Bucket) look(ctx context.Context, m bus.Message, early bool) error {
	key := strings.TrimPrefix(m.Subject, b.Subject(""))
	_, err := b.open(key, m.Data)
	if err == nil || m.Header.Get(bus.HeaderOperation) != "" {
		return nil
	}
	there, err := b.Has(ctx, m.Seq)
	if there {
		b.refuse(key, m.Seq, early)
	}
	return err
}

// Create implements authsvc.Bucket.
func (b *Bucket) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	return b.Bucket.Create(ctx, key, b.seal(key, value))
}

// Update implements authsvc.Bucket.
func (b *Bucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return b.Bucket.Update(ctx, key, b.seal(key, value), revision)
}

// Adopt binds the values that an older build has stored, or that were bound with another key. It
// believes all of them. It may be repeated.
func (b *Bucket) Adopt(ctx context.Context) error {
	keys, err := b.Keys(ctx)
	if err != nil {
		return err
	}
	for _, key := range keys {
		stored, revision, err := b.Bucket.Get(ctx, key)
		if errors.Is(err, bus.ErrNoKey) {
			continue
		}
		if err != nil {
			return err
		}
		if _, err := b.open(key, stored); err == nil {
			continue
		}
		value, _, _ := cut(stored)
		if _, err := b.Update(ctx, key, value, revision); err != nil && !errors.Is(err, bus.ErrStale) {
			return err
		}
	}
	return nil
}

// seal returns a JSON object with the MAC as its last member.
func (b *Bucket) seal(key string, value []byte) []byte {
	if !bytes.HasSuffix(value, []byte("}")) {
		return value // no record has that form, and none is read back
	}
	sealed := append([]byte{}, value[:len(value)-1]...)
	sealed = append(sealed, macBegins...)
	sealed = base64.RawURLEncoding.AppendEncode(sealed, b.mac(key, value))
	return append(sealed, macEnds...)
}

// open returns the object without its MAC, which must be right.
func (b *Bucket) open(key string, stored []byte) ([]byte, error) {
	value, mac, ok := cut(stored)
	if !ok || !hmac.Equal(mac, b.mac(key, value)) {
		return nil, errUnbound
	}
	return value, nil
}

// cut returns an object without its MAC, and the MAC. ok is false if it has none.
func cut(stored []byte) (value, mac []byte, ok bool) {
	text := base64.RawURLEncoding.EncodedLen(sha256.Size)
	at := len(stored) - len(macEnds) - text - len(macBegins)
	if at < 1 || !bytes.HasPrefix(stored[at:], []byte(macBegins)) || !bytes.HasSuffix(stored, []byte(macEnds)) {
		return stored, nil, false
	}
	mac, err := base64.RawURLEncoding.DecodeString(string(stored[at+len(macBegins) : len(stored)-len(macEnds)]))
	if err != nil {
		return stored, nil, false
	}
	return append(append([]byte{}, stored[:at]...), '}'), mac, true
}

func (b *Bucket) mac(key string, value []byte) []byte {
	h := hmac.New(sha256.New, b.key)
	for _, part := range []string{b.name, key} { // neither has a zero byte
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	h.Write(value)
	return h.Sum(nil)
}
