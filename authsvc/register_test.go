package authsvc_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/authtest"
	"github.com/example/pillion/token"
)

func TestRegister(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 891234567, time.FixedZone("IST", 19800))
	k := newKit(t, func(c *authsvc.Config, p *authsvc.HasherConfig) {
		c.Now = func() time.Time { return now }
		p.Cost.Memory = authsvc.MinMemory // said, so that it is hashed in full
	})
	k.mustRegister(t, "John.Doe+rides@Example.com", goodPassword, "user")

	a := k.account(t, "john.doe+rides@example.com", token.User)
	if a.EmailAsEntered != "John.Doe+rides@Example.com" || a.Demo || !a.Created.Equal(now.Truncate(time.Microsecond)) ||
		a.Created.Location() != time.UTC {
		t.Errorf("account = %#v", a)
	}
	if len(a.ID) != 26 || strings.Trim(a.ID, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		t.Errorf("id = %q, want 26 characters of lower-case base32", a.ID)
	}
	if !strings.HasPrefix(a.Hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Error("the hash is not a PHC string of the default cost")
	}
	w := k.ask(t, post("/register", body("john.doe+rides@EXAMPLE.com", "quite another one", "user")),
		http.StatusConflict, "already")
	if w.Body.String() != authsvc.ErrTaken.Message {
		t.Errorf("taken = %q", w.Body)
	}
	if got := k.account(t, "john.doe+rides@example.com", token.User); got != a {
		t.Error("a refused registration changed the account")
	}
}

func TestAnEmailHasOneAccountARole(t *testing.T) {
	k := newKit(t)
	k.mustRegister(t, "jo@example.com", "the user's password", "user")
	k.mustRegister(t, "jo@example.com", "the rider's password", "raider")
	user, rider := k.mustLogin(t, "jo@example.com", "the user's password", "user"),
		k.mustLogin(t, "jo@example.com", "the rider's password", "raider")
	if user.Subject == rider.Subject {
		t.Error("both roles are one account")
	}
	k.ask(t, post("/login", body("jo@example.com", "the rider's password", "user")), http.StatusUnauthorized,
		"Invalid credentials")
	k.ask(t, post("/login", body("jo@example.com", "the user's password", "raider")), http.StatusUnauthorized,
		"Invalid credentials")
}

func TestRegisterRefuses(t *testing.T) {
	store := new(authtest.Accounts)
	k := newKit(t, withStore(store))
	for _, c := range []struct{ name, email, password, sentence string }{
		{"no email", "", goodPassword, "The email address is missing."},
		{"no @", "kim.example.com", goodPassword, "exactly one @"},
		{"two @", "kim@home@example.com", goodPassword, "exactly one @"},
		{"no name", "@example.com", goodPassword, "name@example.com"},
		{"no domain", "kim@", goodPassword, "name@example.com"},
		{"space", "kim doe@example.com", goodPassword, "name@example.com"},
		{"line break", "kim@example.com\r\nBcc: all@example.com", goodPassword, "exactly one @"},
		{"control", "kim\x01@example.com", goodPassword, "name@example.com"},
		{"Kelvin sign", "\u212aim@example.com", goodPassword, "unaccented"},
		{"long s", "kim@example\u017f.com", goodPassword, "unaccented"},
		{"255 bytes", strings.Repeat("k", 243) + "@example.com", goodPassword, "254"},
		{"no password", "kim@example.com", "", "at least 8"},
		{"7 characters of 4 bytes", "kim@example.com", strings.Repeat("\U0001f6b2", 7), "at least 8"},
		{"129 characters", "kim@example.com", strings.Repeat("x", 129), "at most 128 characters"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k.ask(t, post("/register", body(c.email, c.password, "user")), http.StatusBadRequest, c.sentence)
		})
	}
	wantCosts(t, k.hashes.take())
	if store.Len() != 0 {
		t.Errorf("%d accounts were made", store.Len())
	}
}

// A password may contain any characters, and all of them count.
func TestPasswordsAreAnyCharacters(t *testing.T) {
	for _, c := range []struct{ name, password, other string }{
		{"8 of 4 bytes", strings.Repeat("\U0001f6b2", 8), strings.Repeat("\U0001f6b2", 7)},
		{"128 of 3 bytes, differing in the last", strings.Repeat("\u20b9", 127) + "a", strings.Repeat("\u20b9", 127) + "b"},
		{"spaces around", "  12345678  ", "12345678"},
		{"over 72 bytes, where bcrypt stops", strings.Repeat("x", 80) + "a", strings.Repeat("x", 80) + "b"},
		{"white space and one letter", "\t\t\t\t \t\ta", "\t\t\t\t \t a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(t)
			k.mustRegister(t, "kim@example.com", c.password, "user")
			k.mustLogin(t, "kim@example.com", c.password, "user")
			k.ask(t, post("/login", body("kim@example.com", c.other, "user")), http.StatusUnauthorized,
				"Invalid credentials")
		})
	}
}

// Some keyboards send an accented letter as one code point, others as two. Both are the same
// password.
func TestOneSpellingOfAPassword(t *testing.T) {
	k := newKit(t)
	k.mustRegister(t, "kim@example.com", "caf\u00e9 au lait", "user")
	k.mustLogin(t, "kim@example.com", "cafe\u0301 au lait", "user")
}

// No other spelling of an address leads to its account. Unicode folds U+212A to k.
func TestKelvinSign(t *testing.T) {
	store := new(authtest.Accounts)
	k := newKit(t, withStore(store))
	k.ask(t, post("/register", body("\u212aim@example.com", goodPassword, "user")), http.StatusBadRequest, "unaccented")
	if store.Len() != 0 {
		t.Fatal("an account was made")
	}
	k.mustRegister(t, "KIM@example.com", goodPassword, "user")
	k.mustLogin(t, "kim@example.com", goodPassword, "user")
	k.ask(t, post("/login", body("\u212aim@example.com", goodPassword, "user")), http.StatusUnauthorized,
		"Invalid credentials")
}

func TestRegisterRace(t *testing.T) {
	store := new(authtest.Accounts)
	one, other := newKit(t, withStore(store)), newKit(t, withStore(store))
	const racers = 8
	var wg sync.WaitGroup
	var status [racers]int
	for i := range racers {
		k := []*kit{one, other}[i%2]
		wg.Go(func() {
			status[i] = k.do(post("/register", body("kim@example.com", goodPassword+string(rune('a'+i)), "user"))).Code
		})
	}
	wg.Wait()
	won := -1
	for i, code := range status {
		switch {
		case code == http.StatusCreated && won < 0:
			won = i
		case code != http.StatusConflict:
			t.Errorf("racer %d = %d", i, code)
		}
	}
	if won < 0 {
		t.Fatal("nobody was registered")
	}
	one.mustLogin(t, "kim@example.com", goodPassword+string(rune('a'+won)), "user")
}
