// Package bound keeps authsvc's records so that nobody else can write them. Wrap a bucket with
// [Bind]. The package protects what is in NATS, and nothing in PostgreSQL.
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
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/session"
	"github.com/example/pillion/bus"
)

// A Bucket is a bucket whose values only authsvc can write: each carries a MAC that binds it to its
// bucket and key. A value that somebody else has stored, or copied from another key, is refused. An
// earlier value of the same key is not. Values are JSON objects, and the MAC is their last member.
type Bucket struct {
	*bus.Bucket
	name    string
	key     []byte
	log     *slog.Logger
	refused *prometheus.CounterVec

	mu  sync.Mutex
	bad string // a key whose value is refused; empty: none is known
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
func Bind(b *bus.Bucket, name string, key []byte, log *slog.Logger, r prometheus.Registerer) *Bucket {
	return &Bucket{Bucket: b, name: name, key: key, log: log, refused: bus.Counters(r, "untrusted_records_total",
		"Reads of accounts and sessions that were refused because authsvc has not stored them there, by bucket.",
		"bucket", bus.AccountsBucket, bus.SessionsBucket)}
}

// Get implements authsvc.Bucket. It returns an error for a value that it refuses.
func (b *Bucket) Get(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	stored, revision, err := b.Bucket.Get(ctx, key)
	if err != nil {
		b.forget(key)
		return nil, revision, err
	}
	if value, err = b.open(key, stored); err != nil {
		b.refused.WithLabelValues(b.name).Inc()
		b.log.Error("a record is refused", "bucket", b.name, "key", key, "revision", revision, "error", err)
		b.mu.Lock()
		b.bad = key
		b.mu.Unlock()
		return nil, revision, fmt.Errorf("bucket %s, key %s: %w", b.name, key, err)
	}
	b.forget(key)
	return value, revision, nil
}

// forget notes that the value of a key is not refused any more.
func (b *Bucket) forget(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bad == key {
		b.bad = ""
	}
}

// Ready returns nil, or why a value that was read is refused, as long as it is in the bucket.
func (b *Bucket) Ready(ctx context.Context) error {
	b.mu.Lock()
	key := b.bad
	b.mu.Unlock()
	if key == "" {
		return nil
	}
	if _, _, err := b.Get(ctx, key); errors.Is(err, errUnbound) {
		return err
	}
	return nil
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
