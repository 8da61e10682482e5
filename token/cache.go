package token

import (
	"crypto/sha256"
	"unsafe"

	lru "github.com/hashicorp/golang-lru/v2"
)

// A fingerprint is the SHA-256 of a whole token. The cache knows a token by it and never holds a token.
type fingerprint [sha256.Size]byte

// fingerprintOf returns the fingerprint of raw. It reads the string where it is: copying what is mostly 750 bytes, to be able to call it a
// slice, would cost a fifteenth of a cached verification, and converting it, which allocates, half as much again as the hash.
func fingerprintOf(raw string) fingerprint {
	return sha256.Sum256(unsafe.Slice(unsafe.StringData(raw), len(raw))) //nolint:gosec // it is only read
}

// A cache remembers statements whose signature was good, the least recently used leave first. It says nothing about time,
// audience or keys: those are judged at each use.
type cache struct {
	shards []*lru.Cache[fingerprint, *statement]
}

// maxShards is how many locks share the load. A lookup moves its entry to the front, so it needs its lock exclusively, for about a
// tenth of the time that a cached verification takes: one lock cost 6 % on two cores and would be the limit on a dozen.
const maxShards = 16

// newCache returns a cache that holds at most size statements, size being at least 1.
func newCache(size int) (*cache, error) {
	c := &cache{shards: make([]*lru.Cache[fingerprint, *statement], min(size, maxShards))}
	for i := range c.shards {
		shard, err := lru.New[fingerprint, *statement](size / len(c.shards))
		if err != nil {
			return nil, err
		}
		c.shards[i] = shard
	}
	return c, nil
}

// shard returns the part of the cache for f. A fingerprint's bytes are as good as random.
func (c *cache) shard(f *fingerprint) *lru.Cache[fingerprint, *statement] {
	return c.shards[int(f[0])%len(c.shards)]
}

// get returns the statement of a token that was put.
func (c *cache) get(f *fingerprint) (*statement, bool) { return c.shard(f).Get(*f) }

// put remembers a statement whose signature is good.
func (c *cache) put(f *fingerprint, s *statement) { c.shard(f).Add(*f, s) }

// len returns how many statements the cache holds.
func (c *cache) len() int {
	n := 0
	for _, shard := range c.shards {
		n += shard.Len()
	}
	return n
}
