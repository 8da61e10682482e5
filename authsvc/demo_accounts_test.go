package authsvc_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/authtest"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/token"
)

func seed(t *testing.T, k *kit) {
	t.Helper()
	if err := k.service.SeedDemo(t.Context()); err != nil {
		t.Fatalf("SeedDemo = %v", err)
	}
}

func TestDemoAccountsAreForTheDemo(t *testing.T) {
	store := new(authtest.Accounts)
	off, on := newKit(t, withStore(store)), newKit(t, withStore(store), withDemo)
	seed(t, off)
	if store.Len() != 0 {
		t.Errorf("%d accounts were made without the demo", store.Len())
	}
	seed(t, on)
	if store.Len() != 2 {
		t.Errorf("there are %d accounts, want 2", store.Len())
	}
	if c := on.mustLogin(t, "john@example.com", "password123", "user"); c.Role != token.User {
		t.Errorf("claims = %+v", c)
	}
	if c := on.mustLogin(t, "rider@example.com", "password123", "raider"); c.Role != token.Rider {
		t.Errorf("claims = %+v", c)
	}
	on.ask(t, post("/login", body("john@example.com", "password124", "user")), http.StatusUnauthorized,
		"Invalid credentials")
	on.ask(t, post("/login", body("john@example.com", "password123", "raider")), http.StatusUnauthorized,
		"Invalid credentials")
	off.ask(t, post("/login", body("john@example.com", "password123", "user")), http.StatusUnauthorized,
		"Invalid credentials")
	off.ask(t, post("/login", body("rider@example.com", "password123", "rider")), http.StatusUnauthorized,
		"Invalid credentials")
}

func TestSeedingAgainChangesNothing(t *testing.T) {
	k := newKit(t, withDemo)
	k.mustRegister(t, "john@example.com", goodPassword, "user") // somebody's own
	own := k.account(t, "john@example.com", token.User)
	seed(t, k)
	rider := k.account(t, "rider@example.com", token.Rider)
	k.hashes.take()
	seed(t, k)
	wantCosts(t, k.hashes.take()) // a start of a seeded system costs nothing

	if got := k.account(t, "john@example.com", token.User); got != own || got.Demo {
		t.Error("an account that was somebody's own was changed")
	}
	if got := k.account(t, "rider@example.com", token.Rider); got != rider || !got.Demo {
		t.Error("a demo account was changed")
	}
	k.mustLogin(t, "john@example.com", goodPassword, "user")
	k.ask(t, post("/login", body("john@example.com", "password123", "user")), http.StatusUnauthorized,
		"Invalid credentials")
	k.mustLogin(t, "rider@example.com", "password123", "raider")
}

// Builds that let operators reset the password of a demo account left it locked: nobody may set a
// new one. The next start makes the old one good again.
func TestSeedingUnlocksDemoAccounts(t *testing.T) {
	k := newKit(t, withDemo)
	k.mustRegister(t, "john@example.com", goodPassword, "user") // somebody's own
	seed(t, k)
	for email, role := range map[string]token.Role{"john@example.com": token.User, "rider@example.com": token.Rider} {
		a := k.account(t, email, role)
		a.Reset, a.ResetUntil = "a hash", time.Now().Add(time.Hour)
		if err := k.config.Accounts.Replace(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	rider := body("rider@example.com", "password123", "raider")
	k.ask(t, post("/login", rider), http.StatusUnauthorized, "Invalid credentials")
	seed(t, k)
	k.ask(t, post("/login", rider), http.StatusOK, "Login Successful")
	if a := k.account(t, "rider@example.com", token.Rider); a.State() != "active" || !a.ResetUntil.IsZero() {
		t.Errorf("the demo account is %s, until %v", a.State(), a.ResetUntil)
	}
	if a := k.account(t, "john@example.com", token.User); a.State() != "reset" {
		t.Errorf("somebody's own account is %s, want reset", a.State())
	}
}

func TestInstancesSeedTogether(t *testing.T) {
	e := bustest.Run(t)
	var wg sync.WaitGroup
	var all []*kit
	for range 4 {
		k := newKit(t, withStore(authsvc.NewAccounts(e.Connect(t).Bucket(bus.AccountsBucket))), withDemo)
		all = append(all, k)
		wg.Go(func() {
			if err := k.service.SeedDemo(t.Context()); err != nil {
				t.Errorf("SeedDemo = %v", err)
			}
		})
	}
	wg.Wait()
	for _, k := range all {
		john := k.mustLogin(t, "john@example.com", "password123", "user")
		if want := all[0].account(t, "john@example.com", token.User).ID; john.Subject != want {
			t.Errorf("john is %s here and %s there", john.Subject, want)
		}
	}
}
