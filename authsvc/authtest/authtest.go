// Package authtest tests implementations of authsvc.AccountStore against one contract. It also has
// account and session stores in memory for other tests.
//
// The test of an implementation calls [AccountSuite] with a function that opens an empty store.
package authtest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

var _ authsvc.AccountStore = (*Accounts)(nil)

// Accounts is an AccountStore in memory. Its zero value is ready.
type Accounts struct {
	mu       sync.Mutex
	byOwner  map[owner]authsvc.Account
	revision uint64
}

type owner struct {
	email authsvc.Email
	role  token.Role
}

// Find implements authsvc.AccountStore.
func (s *Accounts) Find(ctx context.Context, email authsvc.Email, role token.Role) (authsvc.Account, error) {
	if err := away(ctx); err != nil {
		return authsvc.Account{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.byOwner[owner{email, role}]
	if !ok {
		return authsvc.Account{}, authsvc.ErrNoAccount
	}
	return a, nil
}

// Create implements authsvc.AccountStore.
func (s *Accounts) Create(ctx context.Context, a authsvc.Account) error {
	if err := away(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byOwner == nil {
		s.byOwner = make(map[owner]authsvc.Account)
	}
	key := owner{a.Email, a.Role}
	if have, ok := s.byOwner[key]; ok && have.ID != a.ID {
		return authsvc.ErrTaken
	} else if ok {
		return nil
	}
	s.put(a)
	return nil
}

// Replace implements authsvc.AccountStore.
func (s *Accounts) Replace(ctx context.Context, a authsvc.Account) error {
	if err := away(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, ok := s.byOwner[owner{a.Email, a.Role}]; !ok || have.Revision != a.Revision {
		return authsvc.ErrStaleAccount
	}
	s.put(a)
	return nil
}

// Delete implements authsvc.AccountStore.
func (s *Accounts) Delete(ctx context.Context, a authsvc.Account) error {
	if err := away(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := owner{a.Email, a.Role}
	have, ok := s.byOwner[key]
	switch {
	case !ok || have.ID != a.ID:
		return nil
	case have.Revision != a.Revision:
		return authsvc.ErrStaleAccount
	}
	delete(s.byOwner, key)
	return nil
}

func (s *Accounts) put(a authsvc.Account) {
	s.revision++
	a.Revision = s.revision
	s.byOwner[owner{a.Email, a.Role}] = a
}

// List implements authsvc.AccountStore, in the order of ids.
func (s *Accounts) List(ctx context.Context, after string, limit int) (page []authsvc.Account, next string, err error) {
	if err := away(ctx); err != nil {
		return nil, "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.byOwner {
		if a.ID > after {
			page = append(page, a)
		}
	}
	slices.SortFunc(page, func(a, b authsvc.Account) int { return strings.Compare(a.ID, b.ID) })
	if limit = max(limit, 1); len(page) > limit {
		page = page[:limit]
		next = page[limit-1].ID
	}
	return page, next, nil
}

// Len returns the number of accounts.
func (s *Accounts) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byOwner)
}

var errAway = fault.New(fault.Unavailable, "store_away",
	"The account store is away. Please try again.").After(time.Second)

func away(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return errAway.Because(err)
	}
	return nil
}

// Account returns a complete account of that owner, with a random id.
func Account(t testing.TB, email string, role token.Role) authsvc.Account {
	t.Helper()
	parsed, err := authsvc.ParseEmail(email)
	if err != nil {
		t.Fatal(err)
	}
	return authsvc.Account{
		ID: newID(), Email: parsed, EmailAsEntered: email, Role: role,
		Created: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC),
		Hash:    "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$" + newID(),
	}
}
