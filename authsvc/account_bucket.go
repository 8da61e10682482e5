package authsvc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/example/pillion/authsvc/throttle"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/token"
)

// A Bucket is what Accounts needs of a key-value bucket. Reads must come from the leader: a
// replica that does not have an account yet would turn its owner away.
type Bucket interface {
	throttle.Bucket
	// Keys returns all keys, in any order.
	Keys(ctx context.Context) ([]string, error)
}

var (
	_ Bucket       = (*bus.Bucket)(nil)
	_ AccountStore = (*Accounts)(nil)
)

const recordVersion = 1

// Accounts is an AccountStore in a key-value bucket, with one key for each account.
type Accounts struct{ bucket Bucket }

// NewAccounts returns the accounts in a bucket, which need not exist yet.
func NewAccounts(b Bucket) *Accounts { return &Accounts{bucket: b} }

// accountRecord is the stored form of an Account.
type accountRecord struct {
	Version int `json:"v"`
	Account
}

// accountKey returns the key of a pair's account. It is a hash, because a key cannot contain @ or
// +. The zero byte, which neither part can contain, separates the two.
func accountKey(email Email, role token.Role) string {
	sum := sha256.Sum256([]byte(string(role) + "\x00" + string(email)))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
}

// Find implements AccountStore.
func (s *Accounts) Find(ctx context.Context, email Email, role token.Role) (Account, error) {
	key := accountKey(email, role)
	a, err := s.get(ctx, key)
	switch {
	case errors.Is(err, bus.ErrNoKey):
		return Account{}, ErrNoAccount
	case err != nil:
		return Account{}, fmt.Errorf("find account: %w", err)
	// A record under another account's key must log nobody in.
	case a.Email != email || a.Role != role:
		return Account{}, fmt.Errorf("account record %s belongs to another key", key)
	}
	return a, nil
}

// get returns the account under a key, or bus.ErrNoKey.
func (s *Accounts) get(ctx context.Context, key string) (Account, error) {
	value, revision, err := s.bucket.Get(ctx, key)
	if err != nil {
		return Account{}, err
	}
	var r accountRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return Account{}, fmt.Errorf("account record %s is broken: %w", key, err)
	}
	if r.Version != recordVersion {
		return Account{}, fmt.Errorf("account record %s has version %d, and this program reads %d", key, r.Version,
			recordVersion)
	}
	if r.ID == "" {
		return Account{}, fmt.Errorf("account record %s has no id", key)
	}
	r.Revision = revision
	return r.Account, nil
}

// encode returns the stored form of a.
func (a Account) encode() ([]byte, error) {
	value, err := json.Marshal(accountRecord{recordVersion, a})
	if err != nil {
		return nil, fmt.Errorf("encode account: %w", err)
	}
	return value, nil
}

// Create implements AccountStore. While the outcome of the write is unknown it tries again, for
// 10 s or as long as ctx lasts. The stored id tells whether an earlier try succeeded.
func (s *Accounts) Create(ctx context.Context, a Account) error {
	value, err := a.encode()
	if err != nil {
		return err
	}
	key := accountKey(a.Email, a.Role)
	err = writes.Do(ctx, func() error {
		_, err := s.bucket.Create(ctx, key, value)
		if errors.Is(err, bus.ErrKeyExists) {
			err = s.ours(ctx, a)
		}
		return err
	})
	if err == nil || errors.Is(err, ErrTaken) {
		return err
	}
	return fmt.Errorf("create account: %w", err)
}

// ours returns nil if the stored account of the pair is a, and ErrTaken if it is another.
func (s *Accounts) ours(ctx context.Context, a Account) error {
	stored, err := s.Find(ctx, a.Email, a.Role)
	if err == nil && stored.ID != a.ID {
		return ErrTaken
	}
	return err
}

// Replace implements AccountStore. It repeats the write as Create does. The stored record tells
// whether an earlier try succeeded.
func (s *Accounts) Replace(ctx context.Context, a Account) error {
	value, err := a.encode()
	if err != nil {
		return err
	}
	if a.Revision == 0 { // to the bucket this would mean that the key must not exist
		return ErrStaleAccount
	}
	key := accountKey(a.Email, a.Role)
	unknown := false // an earlier try may have succeeded
	err = writes.Do(ctx, func() error {
		_, err := s.bucket.Update(ctx, key, value, a.Revision)
		if !errors.Is(err, bus.ErrStale) {
			unknown = unknown || err != nil
			return err
		}
		if unknown {
			stored, revision, err := s.bucket.Get(ctx, key)
			if err == nil && revision > a.Revision && bytes.Equal(stored, value) {
				return nil
			}
			if err != nil && !errors.Is(err, bus.ErrNoKey) {
				return err
			}
		}
		return ErrStaleAccount
	})
	if err == nil || errors.Is(err, ErrStaleAccount) {
		return err
	}
	return fmt.Errorf("replace account: %w", err)
}

// Delete implements AccountStore. It repeats the write as Create does. An empty message stays
// under the key, which is a hash.
func (s *Accounts) Delete(ctx context.Context, a Account) error {
	if a.Revision == 0 {
		return ErrStaleAccount
	}
	key := accountKey(a.Email, a.Role)
	err := writes.Do(ctx, func() error {
		err := s.bucket.Erase(ctx, key, a.Revision)
		if !errors.Is(err, bus.ErrStale) {
			return err
		}
		stored, err := s.get(ctx, key)
		switch {
		case errors.Is(err, bus.ErrNoKey) || err == nil && stored.ID != a.ID:
			return nil
		case err != nil:
			return err
		}
		return ErrStaleAccount
	})
	if err == nil || errors.Is(err, ErrStaleAccount) {
		return err
	}
	return fmt.Errorf("delete account: %w", err)
}

// List implements AccountStore, in the order of the keys. Each page reads all keys, which is only
// good enough for operators.
func (s *Accounts) List(ctx context.Context, after string, limit int) (page []Account, next string, err error) {
	keys, err := s.bucket.Keys(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("list accounts: %w", err)
	}
	slices.Sort(keys)
	from, found := slices.BinarySearch(keys, after)
	if found {
		from++
	}
	keys = keys[from:]
	more := len(keys) > max(limit, 1)
	keys = keys[:min(len(keys), max(limit, 1))]
	for _, key := range keys {
		a, err := s.get(ctx, key)
		if errors.Is(err, bus.ErrNoKey) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, "", fmt.Errorf("list accounts: %w", err)
		}
		page = append(page, a)
	}
	if more {
		next = keys[len(keys)-1]
	}
	return page, next, nil
}
