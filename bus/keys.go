package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"pillion/token"
)

// A KeyWatch is the key set as verifiers see it: watched in its bucket, so that a change arrives within a second and a service
// can start while authsvc is down; and asked of authsvc when a token names a key that the set lacks. It is a token.Keys.
type KeyWatch struct {
	*token.RemoteKeys
	conn *Conn
}

const keyRequestWait = time.Second

// KeyWatch returns a watch that asks authsvc at most once an interval. Call Run.
func (c *Conn) KeyWatch(interval time.Duration) *KeyWatch {
	w := &KeyWatch{conn: c}
	w.RemoteKeys = token.NewRemoteKeys(w.fetch, interval, time.Now)
	return w
}

// Run watches the bucket until ctx ends, and then returns nil. It waits for NATS and for the bucket.
func (w *KeyWatch) Run(ctx context.Context) error {
	defer w.Close()
	pace := newBackOff()
	for {
		err := w.watch(ctx, pace.Reset)
		if ctx.Err() != nil {
			return nil
		}
		wait := pace.NextBackOff()
		w.conn.log.Debug("key watch interrupted", "error", err, "retry_in", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// Ready returns nil as long as there is a key set.
func (w *KeyWatch) Ready(context.Context) error {
	_, _, err := w.KeySet()
	return err
}

func (w *KeyWatch) watch(ctx context.Context, working func()) error {
	kv, err := w.bucket(ctx)
	if err != nil {
		return err
	}
	watcher, err := kv.Watch(ctx, keysKey, jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("watch keys: %w", err)
	}
	defer watcher.Stop() //nolint:errcheck // it fails only when the connection is gone
	for {
		select {
		case entry, ok := <-watcher.Updates():
			if !ok {
				return errors.New("watch keys: the watch has ended")
			}
			working()
			if entry == nil { // all that was there has been told
				continue
			}
			set, err := token.ParseJWKS(entry.Value())
			if err != nil {
				w.conn.log.Error("the key set in the bucket cannot be read; the last good one stays in use", "error", err)
				continue
			}
			w.Offer(set)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *KeyWatch) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptPatience)
	defer cancel()
	kv, err := w.conn.js.KeyValue(ctx, KeysBucket)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", KeysBucket, err)
	}
	return kv, nil
}

// fetch asks authsvc, and where it does not answer, the bucket's leader.
func (w *KeyWatch) fetch(ctx context.Context) (*token.KeySet, error) {
	ask, cancel := context.WithTimeout(ctx, keyRequestWait)
	defer cancel()
	answer, err := w.conn.nc.RequestWithContext(ask, subjectJWKS, nil)
	if err == nil {
		var set *token.KeySet
		if set, err = token.ParseJWKS(answer.Data); err == nil {
			return set, nil
		}
	}
	data, _, bucketErr := w.conn.Bucket(KeysBucket).Get(ctx, keysKey)
	if bucketErr != nil {
		return nil, errors.Join(fmt.Errorf("ask authsvc for keys: %w", err), bucketErr)
	}
	return token.ParseJWKS(data)
}

// AdoptKey makes active the key that new tokens are signed with, in the set that every verifier watches, and returns that set. A
// key that was active before stays in it as retired, so that the ledger's events can still be verified. It is safe to repeat.
func (c *Conn) AdoptKey(ctx context.Context, active token.Key, now time.Time) (*token.KeySet, error) {
	bucket := c.Bucket(KeysBucket)
	for {
		data, revision, err := bucket.Get(ctx, keysKey)
		if err != nil && !errors.Is(err, ErrNoKey) {
			return nil, err
		}
		keys := []token.Key{active}
		if err == nil {
			have, err := token.ParseJWKS(data)
			if err != nil {
				return nil, fmt.Errorf("read the key set: %w", err)
			}
			if a, ok := have.Active(); ok && a.ID == active.ID {
				return have, nil
			}
			for _, k := range have.Keys() {
				if k.ID == active.ID {
					continue
				}
				if k.RetiredAt.IsZero() {
					k.RetiredAt = now
				}
				keys = append(keys, k)
			}
		}
		set, err := token.NewKeySet(keys...)
		if err != nil {
			return nil, fmt.Errorf("adopt key: %w", err)
		}
		_, err = bucket.Update(ctx, keysKey, set.JWKS(), revision)
		if errors.Is(err, ErrStale) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return set, nil
	}
}
