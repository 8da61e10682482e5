package authsvc_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/authtest"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/token"
)

// Wherever a deletion fails, the same request finishes it, and until then nobody gains access.
func TestDeletionIsFinished(t *testing.T) {
	t.Run("before the account is gone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store := &away{Accounts: new(authtest.Accounts)}
			k := newKit(t, withStore(store))
			kim := k.kim(t)
			store.deletes = true
			k.ask(t, deleting(kim.Token, goodPassword), http.StatusServiceUnavailable, "")
			k.mustOpen(t, "kim@example.com", goodPassword, "user")
			k.mustVerify(t, kim.Token)
			store.deletes = false
			k.ask(t, deleting(kim.Token, goodPassword), http.StatusOK, deleted)
			k.wantGone(t, kim)
		})
	})
	t.Run("before its tokens are taken back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := newKit(t)
			kim, other := k.kim(t), k.mustOpen(t, "kim@example.com", goodPassword, "user")
			k.revoked.fail(bus.ErrUnavailable)
			w := k.ask(t, deleting(kim.Token, goodPassword), http.StatusServiceUnavailable, "")
			if w.Header().Get("Retry-After") == "" {
				t.Error("503 without Retry-After")
			}
			wantRefused(t, k.do(post("/login", body("kim@example.com", goodPassword, "user"))))
			k.wantNoRefreshYet(t, other.Refresh)
			k.mustVerify(t, kim.Token) // or nobody could ask again
			k.revoked.fail(nil)
			k.ask(t, deleting(kim.Token, goodPassword), http.StatusOK, deleted)
			k.wantGone(t, kim, other)
		})
	})
	t.Run("when somebody has the email by then", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := newKit(t)
			kim := k.kim(t)
			k.revoked.fail(bus.ErrUnavailable)
			k.ask(t, deleting(kim.Token, goodPassword), http.StatusServiceUnavailable, "")
			k.revoked.fail(nil)
			anew := k.kim(t)
			k.ask(t, deleting(kim.Token, goodPassword), http.StatusOK, deleted)
			k.wantGone(t, kim)
			k.mustVerify(t, anew.Token)
			k.mustRefresh(t, anew.Refresh)
			k.mustOpen(t, "kim@example.com", goodPassword, "user")
		})
	})
}

// away is a store whose deletions fail.
type away struct {
	*authtest.Accounts
	deletes bool
}

func (s *away) Delete(ctx context.Context, a authsvc.Account) error {
	if s.deletes {
		return bus.ErrUnavailable
	}
	return s.Accounts.Delete(ctx, a)
}

// moment is a store that calls then right after it has found an account for the nth time.
type moment struct {
	*authtest.Accounts
	n    int // 0: never
	then func()
}

func (s *moment) Find(ctx context.Context, email authsvc.Email, role token.Role) (authsvc.Account, error) {
	a, err := s.Accounts.Find(ctx, email, role)
	if s.n > 0 {
		if s.n--; s.n == 0 {
			s.then()
		}
	}
	return a, err
}

// Requests during a deletion leave nothing behind that works, at whichever moment it happens.
func TestDeletionDuring(t *testing.T) {
	for _, c := range []struct {
		name string
		ask  func(tokens) *http.Request
		most int // how often it looks at the account, where nothing happens
	}{
		{"a login", func(tokens) *http.Request { return post("/login", body("kim@example.com", goodPassword, "user")) }, 2},
		{"a refresh", func(o tokens) *http.Request { return refreshWith(o.Refresh) }, 1},
		{"a change of the password", func(tokens) *http.Request { return change("kim@example.com", "user", goodPassword, newPassword) }, 1},
		{"a logout of all sessions", func(o tokens) *http.Request { return bearing("/logout-all", o.Token) }, 1},
		{"a deletion", func(o tokens) *http.Request { return deleting(o.Token, goodPassword) }, 3},
	} {
		for n := 1; n <= c.most; n++ {
			t.Run(c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := &moment{Accounts: new(authtest.Accounts)}
					k := newKit(t, withStore(store))
					kim, other := k.kim(t), k.mustOpen(t, "kim@example.com", goodPassword, "user")
					after(time.Second)
					ran := false
					store.then = func() {
						ran = true
						k.ask(t, deleting(kim.Token, goodPassword), http.StatusOK, deleted)
					}
					store.n = n
					w := k.do(c.ask(other))
					if !ran {
						t.Fatalf("it has not looked at the account %d times", n)
					}
					if strings.HasPrefix(c.name, "a deletion") && w.Code != http.StatusOK {
						t.Errorf("answer %d %s, although the account is gone", w.Code, w.Body)
					}
					if w.Code == http.StatusOK {
						if got := tokensOf(t, w); got.Token != "" {
							k.wantGone(t, got)
						}
					}
					k.wantGone(t, kim, other)
					for _, password := range []string{goodPassword, newPassword} {
						wantRefused(t, k.do(post("/login", body("kim@example.com", password, "user"))))
					}
					if store.Len() != 0 {
						t.Error("the account is back")
					}
				})
			})
		}
	}
}

// A deletion takes account of simultaneous changes of the account.
func TestDuringADeletion(t *testing.T) {
	for _, c := range []struct {
		name   string
		n      int // after which look at the account
		do     func(k *kit, t *testing.T, open tokens)
		status int
	}{
		{"a change of the password, before it is checked", 1, changes, http.StatusUnauthorized},
		{"a change of the password, after it is checked", 2, changes, http.StatusUnauthorized},
		{"a logout of all sessions", 2, func(k *kit, t *testing.T, open tokens) {
			k.ask(t, bearing("/logout-all", open.Token), http.StatusOK, "")
		}, http.StatusOK},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &moment{Accounts: new(authtest.Accounts)}
				k := newKit(t, withStore(store))
				kim, other := k.kim(t), k.mustOpen(t, "kim@example.com", goodPassword, "user")
				store.then = func() { c.do(k, t, other) }
				store.n = c.n
				k.ask(t, deleting(kim.Token, goodPassword), c.status, "")
				k.wantGone(t, kim, other)
				if gone := store.Len() == 0; gone != (c.status == http.StatusOK) {
					t.Errorf("gone: %v", gone)
				}
				if c.status != http.StatusOK {
					k.mustOpen(t, "kim@example.com", newPassword, "user")
				}
			})
		})
	}
}

// A deletion spares a new account with the same email, whatever its password.
func TestDeletionSparesTheNext(t *testing.T) {
	for n := 1; n <= 3; n++ {
		synctest.Test(t, func(t *testing.T) {
			store := &moment{Accounts: new(authtest.Accounts)}
			k := newKit(t, withStore(store))
			kim, other := k.kim(t), k.mustOpen(t, "kim@example.com", goodPassword, "user")
			store.then = func() {
				k.ask(t, deleting(other.Token, goodPassword), http.StatusOK, deleted)
				k.mustRegister(t, "kim@example.com", goodPassword, "user")
			}
			store.n = n
			k.ask(t, deleting(kim.Token, goodPassword), http.StatusOK, deleted)
			k.wantGone(t, kim, other)
			anew := k.mustOpen(t, "kim@example.com", goodPassword, "user")
			k.mustVerify(t, anew.Token)
			k.mustRefresh(t, anew.Refresh)
		})
	}
}

func changes(k *kit, t *testing.T, _ tokens) {
	k.ask(t, change("kim@example.com", "user", goodPassword, newPassword), http.StatusOK, "")
}
