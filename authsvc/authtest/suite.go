package authtest

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

func newID() string { return strings.ToLower(rand.Text()) }

// A Store is an empty account store, seen by two instances of the service.
type Store struct{ One, Other authsvc.AccountStore }

// AccountSuite is the contract of authsvc.AccountStore. open returns an empty store for each test.
func AccountSuite(t *testing.T, open func(t *testing.T) Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s Store)
	}{
		{"an unknown account is ErrNoAccount", testUnknown},
		{"what was created is found as it was, by every instance", testRoundTrip},
		{"an email may be a user and a rider", testRoles},
		{"a taken pair stays with its owner", testTaken},
		{"creating the same account again succeeds", testAgain},
		{"of many at once one succeeds", testRace},
		{"emails of every kind", testSpellings},
		{"what was replaced is found as it is, by every instance", testReplace},
		{"of many replacements of one version one succeeds", testReplaceRace},
		{"what was deleted is gone, for every instance, and its pair is free", testDelete},
		{"of a deletion and replacements of one version one succeeds", testDeleteRace},
		{"a list has every account once", testList},
		{"a context that has ended is no answer", testCancelled},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func mustCreate(t *testing.T, s authsvc.AccountStore, a authsvc.Account) {
	t.Helper()
	if err := s.Create(t.Context(), a); err != nil {
		t.Fatalf("Create(%v) = %v", a, err)
	}
}

func wantFound(t *testing.T, s authsvc.AccountStore, want authsvc.Account) {
	t.Helper()
	got, err := s.Find(t.Context(), want.Email, want.Role)
	if err != nil {
		t.Errorf("Find(%s, %s) = %v", want.Email, want.Role, err)
		return
	}
	if got.Revision == 0 {
		t.Errorf("Find(%s, %s): no revision", want.Email, want.Role)
	}
	want.Revision = got.Revision // which is the store's own
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Find(%s, %s): -want +got\n%s", want.Email, want.Role, diff)
	}
}

func wantNone(t *testing.T, s authsvc.AccountStore, email authsvc.Email, role token.Role) {
	t.Helper()
	a, err := s.Find(t.Context(), email, role)
	if !errors.Is(err, authsvc.ErrNoAccount) {
		t.Errorf("Find(%s, %s) = %v, want ErrNoAccount", email, role, err)
	}
	if a != (authsvc.Account{}) {
		t.Errorf("Find(%s, %s) gave %v besides an error", email, role, a)
	}
}

func testUnknown(t *testing.T, s Store) {
	wantNone(t, s.One, "john@example.com", token.User)
	mustCreate(t, s.One, Account(t, "john@example.com", token.User))
	wantNone(t, s.One, "joh@example.com", token.User)
	wantNone(t, s.One, "john@example.co", token.User)
}

func testRoundTrip(t *testing.T, s Store) {
	a := Account(t, "John.Doe@Example.com", token.User)
	demo := Account(t, "rider@example.com", token.Rider)
	demo.Demo = true
	demo.Pending, demo.Reset, demo.ResetUntil, demo.NotBefore = true, "a hash",
		time.Date(2026, 3, 4, 6, 0, 0, 0, time.UTC), time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	mustCreate(t, s.One, a)
	wantFound(t, s.Other, a)
	mustCreate(t, s.Other, demo)
	wantFound(t, s.One, demo)
	wantFound(t, s.One, a)
}

func testRoles(t *testing.T, s Store) {
	user, rider := Account(t, "john@example.com", token.User), Account(t, "john@example.com", token.Rider)
	mustCreate(t, s.One, user)
	wantNone(t, s.Other, rider.Email, rider.Role)
	mustCreate(t, s.Other, rider)
	wantFound(t, s.One, user)
	wantFound(t, s.One, rider)
}

func testTaken(t *testing.T, s Store) {
	first := Account(t, "john@example.com", token.User)
	mustCreate(t, s.One, first)
	err := s.Other.Create(t.Context(), Account(t, "JOHN@example.com", token.User))
	if !errors.Is(err, authsvc.ErrTaken) {
		t.Errorf("a second Create = %v, want ErrTaken", err)
	}
	wantFound(t, s.Other, first)
}

func testAgain(t *testing.T, s Store) {
	a := Account(t, "john@example.com", token.User)
	mustCreate(t, s.One, a)
	mustCreate(t, s.One, a)
	mustCreate(t, s.Other, a)
	wantFound(t, s.One, a)
}

// testSpellings has what a key of the store may not have as it is.
func testSpellings(t *testing.T, s Store) {
	var all []authsvc.Account
	for _, email := range []string{
		"a@b", "john+tag@example.com", "a.b.c@example.com", "*@example.com", "john%40@example.com",
		"o'brien@example.com",
		"!#$%&'*+-/=?^_`{|}~@example.com",
		strings.Repeat("a", 64) + "@" + strings.Repeat(strings.Repeat("d", 60)+".", 3) + "com",
	} {
		a := Account(t, email, token.User)
		mustCreate(t, s.One, a)
		all = append(all, a)
	}
	for _, a := range all {
		wantFound(t, s.Other, a)
	}
}

func mustFind(t *testing.T, s authsvc.AccountStore, email authsvc.Email, role token.Role) authsvc.Account {
	t.Helper()
	a, err := s.Find(t.Context(), email, role)
	if err != nil {
		t.Fatalf("Find(%s, %s) = %v", email, role, err)
	}
	return a
}

func testReplace(t *testing.T, s Store) {
	absent := Account(t, "tim@example.com", token.User)
	if err := s.One.Replace(t.Context(), absent); !errors.Is(err, authsvc.ErrStaleAccount) {
		t.Errorf("Replace of nobody = %v, want ErrStaleAccount", err)
	}
	wantNone(t, s.One, absent.Email, absent.Role)

	mustCreate(t, s.One, Account(t, "John@example.com", token.User))
	first := mustFind(t, s.One, "john@example.com", token.User)
	changed := first
	changed.Pending, changed.Reset, changed.ResetUntil = true, "a hash", time.Date(2026, 3, 4, 6, 0, 0, 0, time.UTC)
	changed.Hash, changed.Disabled, changed.SessionEpoch = "$another", true, 7
	changed.NotBefore = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	if err := s.One.Replace(t.Context(), changed); err != nil {
		t.Fatalf("Replace = %v", err)
	}
	wantFound(t, s.Other, changed)
	second := mustFind(t, s.Other, first.Email, first.Role)
	if second.Revision == first.Revision {
		t.Error("a changed account has the revision that it had")
	}
	again := first
	again.Hash = "$yet another"
	for _, store := range []authsvc.AccountStore{s.One, s.Other} {
		if err := store.Replace(t.Context(), again); !errors.Is(err, authsvc.ErrStaleAccount) {
			t.Errorf("Replace of an old version = %v, want ErrStaleAccount", err)
		}
	}
	wantFound(t, s.One, changed)
	second.Disabled, second.NotBefore = false, time.Time{}
	second.Pending, second.Reset, second.ResetUntil = false, "", time.Time{}
	if err := s.Other.Replace(t.Context(), second); err != nil {
		t.Errorf("Replace of the present version = %v", err)
	}
	wantFound(t, s.One, second)
	if err := s.One.Create(t.Context(), Account(t, "john@example.com", token.User)); !errors.Is(err, authsvc.ErrTaken) {
		t.Errorf("Create over a changed account = %v, want ErrTaken", err)
	}
}

func testDelete(t *testing.T, s Store) {
	mustDelete := func(store authsvc.AccountStore, a authsvc.Account) {
		t.Helper()
		if err := store.Delete(t.Context(), a); err != nil {
			t.Errorf("Delete = %v", err)
		}
	}
	mustCreate(t, s.One, Account(t, "John@example.com", token.User))
	rider := Account(t, "john@example.com", token.Rider)
	mustCreate(t, s.One, rider)
	first := mustFind(t, s.One, "john@example.com", token.User)
	changed := first
	changed.SessionEpoch = 1
	if err := s.Other.Replace(t.Context(), changed); err != nil {
		t.Fatalf("Replace = %v", err)
	}
	if err := s.One.Delete(t.Context(), first); !errors.Is(err, authsvc.ErrStaleAccount) {
		t.Errorf("Delete of an old version = %v, want ErrStaleAccount", err)
	}
	unread := changed
	unread.Revision = 0
	if err := s.One.Delete(t.Context(), unread); !errors.Is(err, authsvc.ErrStaleAccount) {
		t.Errorf("Delete of no version = %v, want ErrStaleAccount", err)
	}
	wantFound(t, s.One, changed)
	second := mustFind(t, s.One, first.Email, first.Role)
	mustDelete(s.One, second)
	wantNone(t, s.One, first.Email, first.Role)
	wantNone(t, s.Other, first.Email, first.Role)
	mustDelete(s.Other, second) // again
	mustDelete(s.One, first)
	if err := s.Other.Replace(t.Context(), second); !errors.Is(err, authsvc.ErrStaleAccount) {
		t.Errorf("Replace of what was deleted = %v, want ErrStaleAccount", err)
	}
	wantNone(t, s.One, first.Email, first.Role)
	page, next, err := s.Other.List(t.Context(), "", 10)
	if err != nil || len(page) != 1 || page[0].ID != rider.ID || next != "" {
		t.Errorf("List = %v, %q, %v, want the rider alone", page, next, err)
	}
	wantFound(t, s.Other, rider)

	anew := Account(t, "john@example.com", token.User)
	mustCreate(t, s.Other, anew)
	wantFound(t, s.One, anew)
	for _, old := range []authsvc.Account{first, second} { // which is another account
		mustDelete(s.One, old)
		wantFound(t, s.Other, anew)
	}
	mustDelete(s.One, mustFind(t, s.One, anew.Email, anew.Role))
	wantNone(t, s.Other, anew.Email, anew.Role)
}

func testList(t *testing.T, s Store) {
	if page, next, err := s.One.List(t.Context(), "", 10); err != nil || len(page) != 0 || next != "" {
		t.Errorf("List of nobody = %v, %q, %v", page, next, err)
	}
	want := make(map[string]authsvc.Account)
	for i := range 11 {
		role := []token.Role{token.User, token.Rider}[i%2]
		a := Account(t, "john"+string(rune('a'+i))+"@example.com", role)
		mustCreate(t, s.One, a)
		want[a.ID] = mustFind(t, s.One, a.Email, a.Role)
	}
	for _, limit := range []int{1, 3, 10, 11, 12, 0} {
		got := make(map[string]authsvc.Account)
		after := ""
		for calls := 0; ; calls++ {
			page, next, err := s.Other.List(t.Context(), after, limit)
			if err != nil || len(page) > max(limit, 1) || calls > len(want) {
				t.Fatalf("List(%q, %d) = %d accounts, %v, in call %d", after, limit, len(page), err, calls)
			}
			for _, a := range page {
				if _, twice := got[a.ID]; twice {
					t.Errorf("limit %d: %v is there twice", limit, a)
				}
				got[a.ID] = a
			}
			if after = next; after == "" {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("limit %d: -want +got\n%s", limit, diff)
		}
	}
}

func testCancelled(t *testing.T, s Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a := Account(t, "john@example.com", token.User)
	if err := s.One.Create(ctx, a); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("Create = %v, want kind Unavailable", err)
	}
	a.Revision = 1
	if err := s.One.Replace(ctx, a); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("Replace = %v, want kind Unavailable", err)
	}
	if _, _, err := s.One.List(ctx, "", 1); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("List = %v, want kind Unavailable", err)
	}
	if _, err := s.One.Find(ctx, a.Email, a.Role); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("Find = %v, want kind Unavailable", err)
	}
}
