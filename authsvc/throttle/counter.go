package throttle

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/example/pillion/bus"
)

const (
	patience    = 5 * time.Second // for one change of a counter, including the wait for its lock
	mostUnknown = 5               // writes in a row whose outcome is unknown
	locks       = 64              // for all counters together
)

// A counter is the stored form of the tries.
type counter struct {
	Tries int       `json:"n"`
	Last  time.Time `json:"last"`
	Next  time.Time `json:"next,omitzero"` // no try passes before that
	Mark  string    `json:"mark"`          // random; identifies the change that wrote it
}

// counterKey returns the key of a counter. Typed text is hashed: it may have any form, and is
// private.
func counterKey(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:20]))
}

// networkKey returns the key of a counter for a client network. It is empty where the network is
// unknown: with one counter for all such clients, any of them could lock the others out.
func networkKey(network string, parts ...string) string {
	if network == "" {
		return ""
	}
	return counterKey(append(parts, network)...)
}

// take is [LoginThrottle.count] for those whom the number of tries does not interest.
func (t *LoginThrottle) take(ctx context.Context, key string, p BackoffPolicy) error {
	_, err := t.count(ctx, key, p)
	return err
}

// count counts a try and returns how many there were, or refuses it with ErrLimited and the wait. A
// refused try is not counted, so asking again makes nobody wait longer.
func (t *LoginThrottle) count(ctx context.Context, key string, p BackoffPolicy) (tries int, err error) {
	err = t.change(ctx, key, func(c *counter) error {
		now := t.now()
		if now.Sub(c.Last) >= p.ForgetAfter {
			*c = counter{}
		}
		// A clock that was wrong must not lock anybody out, so the wait is bounded.
		if wait := min(c.Next.Sub(now), p.LongestWait); wait > 0 {
			return ErrLimited.After(wait)
		}
		c.Tries, c.Last = c.Tries+1, now
		if over := c.Tries - p.Free; over >= 0 {
			c.Next = now.Add(p.delay(over))
		}
		tries = c.Tries
		return nil
	})
	return tries, err
}

// giveBack uncounts one try.
func (t *LoginThrottle) giveBack(ctx context.Context, key string) error {
	return t.change(ctx, key, func(c *counter) error {
		c.Tries = max(c.Tries-1, 0)
		c.Next = time.Time{}
		return nil
	})
}

// clear uncounts all tries.
func (t *LoginThrottle) clear(ctx context.Context, key string) error {
	return t.change(ctx, key, func(c *counter) error {
		*c = counter{Last: c.Last}
		return nil
	})
}

// change changes a counter by compare-and-set and returns the error of edit, if any. After a
// write of unknown outcome it looks for its own mark and tries again; at worst a try counts
// twice. An empty key has no counter.
func (t *LoginThrottle) change(ctx context.Context, key string, edit func(*counter) error) error {
	if key == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	lock := t.locks.of(key)
	if err := lock.Acquire(ctx, 1); err != nil {
		return bus.ErrUnavailable.Because(fmt.Errorf("wait to count a try: %w", err))
	}
	defer lock.Release(1)
	mark := rand.Text()
	for unknown := 0; ; {
		value, revision, err := t.counters.Get(ctx, key)
		missing := errors.Is(err, bus.ErrNoKey)
		if err != nil && !missing {
			return fmt.Errorf("read a counter: %w", err)
		}
		var c counter
		if !missing {
			if err := json.Unmarshal(value, &c); err != nil {
				c = counter{} // a broken record must not lock anybody out
			}
		}
		if unknown > 0 && c.Mark == mark {
			return nil
		}
		if err := edit(&c); err != nil {
			return err
		}
		c.Mark = mark
		if value, err = json.Marshal(c); err != nil {
			return fmt.Errorf("encode a counter: %w", err)
		}
		if missing {
			_, err = t.counters.Create(ctx, key, value)
		} else {
			_, err = t.counters.Update(ctx, key, value, revision)
		}
		if err == nil {
			return nil
		}
		if errors.Is(err, bus.ErrStale) || errors.Is(err, bus.ErrKeyExists) {
			continue
		}
		if unknown++; unknown > mostUnknown || ctx.Err() != nil {
			return fmt.Errorf("write a counter: %w", err)
		}
	}
}

// erase erases the value under a key, even if it changes meanwhile.
func erase(ctx context.Context, b Bucket, key string) error {
	for {
		_, revision, err := b.Get(ctx, key)
		if errors.Is(err, bus.ErrNoKey) {
			return nil
		}
		if err == nil {
			err = b.Erase(ctx, key, revision)
		}
		if !errors.Is(err, bus.ErrStale) {
			return err
		}
	}
}

// keyedLocks let only one try for a key go to the store at a time. Keys share a fixed number of
// locks.
type keyedLocks [locks]*semaphore.Weighted

func newKeyedLocks() (l keyedLocks) {
	for i := range l {
		l[i] = semaphore.NewWeighted(1)
	}
	return l
}

// of returns the lock of a key.
func (l *keyedLocks) of(key string) *semaphore.Weighted { return l[lockOf(key)] }

// lockOf returns the index of a key's lock.
func lockOf(key string) int {
	h := fnv.New32a()
	h.Write([]byte(key)) // never fails
	return int(h.Sum32() % locks)
}
