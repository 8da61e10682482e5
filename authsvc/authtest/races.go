package authtest

import (
	"errors"
	"sync"
	"testing"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/token"
)

func testRace(t *testing.T, s Store) {
	const racers = 32
	var (
		wg    sync.WaitGroup
		start = make(chan struct{})
		tries [racers]authsvc.Account
		errs  [racers]error
	)
	for i := range racers {
		tries[i] = Account(t, "john@example.com", token.User)
		store := s.One
		if i%2 == 1 {
			store = s.Other
		}
		wg.Go(func() {
			<-start
			errs[i] = store.Create(t.Context(), tries[i])
		})
	}
	close(start)
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner < 0:
			winner = i
		case err == nil:
			t.Errorf("racers %d and %d both won", winner, i)
		case !errors.Is(err, authsvc.ErrTaken):
			t.Errorf("racer %d = %v, want ErrTaken", i, err)
		}
	}
	if winner < 0 {
		t.Fatal("nobody won")
	}
	wantFound(t, s.One, tries[winner])
	wantFound(t, s.Other, tries[winner])
}

func testReplaceRace(t *testing.T, s Store) {
	const racers = 16
	mustCreate(t, s.One, Account(t, "john@example.com", token.User))
	first := mustFind(t, s.One, "john@example.com", token.User)
	var (
		wg    sync.WaitGroup
		start = make(chan struct{})
		errs  [racers]error
	)
	for i := range racers {
		store := []authsvc.AccountStore{s.One, s.Other}[i%2]
		mine := first
		mine.SessionEpoch = i + 1
		wg.Go(func() {
			<-start
			errs[i] = store.Replace(t.Context(), mine)
		})
	}
	close(start)
	wg.Wait()
	won := 0
	for i, err := range errs {
		switch {
		case err == nil && won == 0:
			won = i + 1
		case !errors.Is(err, authsvc.ErrStaleAccount):
			t.Errorf("racer %d = %v, want ErrStaleAccount", i, err)
		}
	}
	if got := mustFind(t, s.Other, first.Email, first.Role); won == 0 || got.SessionEpoch != won {
		t.Errorf("racer %d won, and the account is that of %d", won, got.SessionEpoch)
	}
}

func testDeleteRace(t *testing.T, s Store) {
	const racers = 16
	mustCreate(t, s.One, Account(t, "john@example.com", token.User))
	first := mustFind(t, s.One, "john@example.com", token.User)
	var (
		wg      sync.WaitGroup
		start   = make(chan struct{})
		errs    [racers]error
		deletes = func(i int) bool { return i%4 == 0 }
	)
	for i := range racers {
		store := []authsvc.AccountStore{s.One, s.Other}[i/2%2]
		mine := first
		mine.SessionEpoch = i + 1
		wg.Go(func() {
			<-start
			if deletes(i) {
				errs[i] = store.Delete(t.Context(), mine)
			} else {
				errs[i] = store.Replace(t.Context(), mine)
			}
		})
	}
	close(start)
	wg.Wait()
	stored, err := s.Other.Find(t.Context(), first.Email, first.Role)
	gone := errors.Is(err, authsvc.ErrNoAccount)
	if err != nil && !gone {
		t.Fatalf("Find = %v", err)
	}
	for i, err := range errs {
		won := deletes(i) && gone || !deletes(i) && !gone && stored.SessionEpoch == i+1
		if won != (err == nil) || !won && !errors.Is(err, authsvc.ErrStaleAccount) {
			t.Errorf("racer %d (deletes: %v) = %v; the account has epoch %d, or is gone: %v",
				i, deletes(i), err, stored.SessionEpoch, gone)
		}
	}
	if !gone && stored.SessionEpoch == 0 {
		t.Error("nobody won")
	}
}
