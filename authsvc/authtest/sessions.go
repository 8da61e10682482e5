package authtest

import (
	"context"
	"slices"
	"sync"

	"github.com/example/pillion/authsvc/session"
	"github.com/example/pillion/bus"
)

var _ session.Bucket = (*Sessions)(nil)

// Sessions is a session.Bucket in memory. Its zero value is ready.
type Sessions struct {
	mu       sync.Mutex
	revision uint64
	values   map[string]versioned
}

type versioned struct {
	value    []byte
	revision uint64
}

// Get implements session.Bucket.
func (s *Sessions) Get(ctx context.Context, key string) ([]byte, uint64, error) {
	if err := away(ctx); err != nil {
		return nil, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.values[key]
	if !ok {
		return nil, 0, bus.ErrNoKey
	}
	return slices.Clone(v.value), v.revision, nil
}

// Create implements session.Bucket.
func (s *Sessions) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	if err := away(ctx); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.values[key]; ok {
		return 0, bus.ErrKeyExists
	}
	return s.put(key, value), nil
}

// Update implements session.Bucket.
func (s *Sessions) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if err := away(ctx); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values[key].revision != revision {
		return 0, bus.ErrStale
	}
	return s.put(key, value), nil
}

// Delete implements session.Bucket.
func (s *Sessions) Delete(ctx context.Context, key string, revision uint64) error {
	if err := away(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values[key].revision != revision {
		return bus.ErrStale
	}
	delete(s.values, key)
	return nil
}

// Keys returns the ids of the sessions that there are.
func (s *Sessions) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for key := range s.values {
		keys = append(keys, key)
	}
	return keys
}

func (s *Sessions) put(key string, value []byte) uint64 {
	if s.values == nil {
		s.values = make(map[string]versioned)
	}
	s.revision++
	s.values[key] = versioned{slices.Clone(value), s.revision}
	return s.revision
}
