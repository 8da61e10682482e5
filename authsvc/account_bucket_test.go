package authsvc_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/authtest"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

func TestMemoryAccounts(t *testing.T) {
	authtest.AccountSuite(t, func(*testing.T) authtest.Store {
		s := new(authtest.Accounts)
		return authtest.Store{One: s, Other: s}
	})
}

func TestBucketAccounts(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		admin := e.Connect(t)
		one, other := e.Connect(t), e.Connect(t)
		authtest.AccountSuite(t, func(t *testing.T) authtest.Store {
			empty(t, admin)
			return authtest.Store{
				One:   authsvc.NewAccounts(bind(one, bus.AccountsBucket)),
				Other: authsvc.NewAccounts(bind(other, bus.AccountsBucket)),
			}
		})
	})
}

// empty removes every account from the bucket, which the service itself cannot do.
func empty(t *testing.T, c *bus.Conn) {
	t.Helper()
	s, err := c.JetStream().Stream(t.Context(), "KV_"+bus.AccountsBucket)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// spy is a real bucket that records keys and may lose acknowledgements.
type spy struct {
	*bus.Bucket
	mu    sync.Mutex
	keys  []string
	value []byte
	lost  int // how many acknowledgements are still to be lost
}

func (s *spy) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	revision, err := s.Bucket.Create(ctx, key, value)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys, s.value = append(s.keys, key), value
	if s.lost > 0 {
		s.lost--
		return 0, bus.ErrUnavailable.Because(errors.New("the acknowledgement got lost"))
	}
	return revision, err
}

func (s *spy) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	revision, err := s.Bucket.Update(ctx, key, value, revision)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value = value
	if s.lost > 0 {
		s.lost--
		return 0, bus.ErrUnavailable.Because(errors.New("the acknowledgement got lost"))
	}
	return revision, err
}

// The stored form is a contract with every later version.
func TestRecord(t *testing.T) {
	s := &spy{Bucket: bustest.Run(t).Connect(t).Bucket(bus.AccountsBucket)}
	a := authtest.Account(t, "John+x@Example.com", token.Rider)
	if err := authsvc.NewAccounts(s).Create(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	// To compute the key: printf 'raider\0john+x@example.com' | openssl sha256 -binary |
	// base32 | tr A-Z a-z | tr -d =
	if want := "i5uxs6d7npja6yqtboggdjqkznshqly5opd2otmodyedf2gmeila"; s.keys[0] != want {
		t.Errorf("key = %s, want %s", s.keys[0], want)
	}
	want := `{"v":1,"id":"` +
		a.ID + `","email":"john+x@example.com","typed":"John+x@Example.com","role":"raider","hash":"` + a.Hash +
		`","created":"2026-01-02T03:04:05.678901Z"}`
	if string(s.value) != want {
		t.Errorf("record = %s\nwant     %s", s.value, want)
	}

	store := authsvc.NewAccounts(s)
	a, err := store.Find(t.Context(), a.Email, a.Role)
	if err != nil {
		t.Fatal(err)
	}
	a.Disabled, a.SessionEpoch, a.NotBefore = true, 3, time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	if err := store.Replace(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	want = want[:len(want)-1] + `,"disabled":true,"era":3,"not_before":"2026-05-06T07:08:09Z"}`
	if string(s.value) != want {
		t.Errorf("record = %s\nwant     %s", s.value, want)
	}
}

func TestKeysTellPairsApart(t *testing.T) {
	s := &spy{Bucket: bustest.Run(t).Connect(t).Bucket(bus.AccountsBucket)}
	store := authsvc.NewAccounts(s)
	for _, a := range []authsvc.Account{
		authtest.Account(t, "john@example.com", token.User), authtest.Account(t, "john@example.com", token.Rider),
		authtest.Account(t, "rjohn@example.com", token.User), authtest.Account(t, "john@example.com.x", token.User),
	} {
		if err := store.Create(t.Context(), a); err != nil {
			t.Errorf("Create(%v) = %v", a, err)
		}
	}
	seen := make(map[string]bool)
	for _, key := range s.keys {
		if seen[key] || !regexp.MustCompile(`^[a-z2-7]{52}$`).MatchString(key) {
			t.Errorf("key %q is not one account's own", key)
		}
		seen[key] = true
	}
}

// An account whose acknowledgement was lost is not reported as taken.
func TestLostAcknowledgement(t *testing.T) {
	bucket := bustest.Run(t).Connect(t).Bucket(bus.AccountsBucket)
	mine := authtest.Account(t, "john@example.com", token.User)
	if err := authsvc.NewAccounts(&spy{Bucket: bucket, lost: 2}).Create(t.Context(), mine); err != nil {
		t.Errorf("Create with two lost acknowledgements = %v", err)
	}
	theirs := authtest.Account(t, "john@example.com", token.User)
	err := authsvc.NewAccounts(&spy{Bucket: bucket, lost: 2}).Create(t.Context(), theirs)
	if !errors.Is(err, authsvc.ErrTaken) {
		t.Errorf("Create of a taken pair with two lost acknowledgements = %v, want ErrTaken", err)
	}

	plain := authsvc.NewAccounts(bucket)
	found := func() authsvc.Account {
		a, err := plain.Find(t.Context(), mine.Email, mine.Role)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := found()
	a.SessionEpoch = 7
	if err := authsvc.NewAccounts(&spy{Bucket: bucket, lost: 2}).Replace(t.Context(), a); err != nil ||
		found().SessionEpoch != 7 {
		t.Errorf("Replace with two lost acknowledgements = %v, epoch %d", err, found().SessionEpoch)
	}
	a.SessionEpoch = 8 // of the revision before
	err = authsvc.NewAccounts(&spy{Bucket: bucket, lost: 2}).Replace(t.Context(), a)
	if !errors.Is(err, authsvc.ErrStaleAccount) || found().SessionEpoch != 7 {
		t.Errorf("Replace of an old version with two lost acknowledgements = %v, want ErrStaleAccount", err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	other := authtest.Account(t, "kim@example.com", token.User)
	err = authsvc.NewAccounts(&spy{Bucket: bucket, lost: 1 << 20}).Create(ctx, other)
	if fault.KindOf(err) != fault.Unavailable {
		t.Errorf("Create without any acknowledgement = %v, want kind Unavailable", err)
	}
}

func TestBrokenRecords(t *testing.T) {
	bucket := bustest.Run(t).Connect(t).Bucket(bus.AccountsBucket)
	s := &spy{Bucket: bucket}
	store := authsvc.NewAccounts(s)
	a := authtest.Account(t, "john@example.com", token.User)
	if err := store.Create(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	edit := func(name string, to any) string {
		var record map[string]any
		if err := json.Unmarshal(s.value, &record); err != nil {
			t.Fatal(err)
		}
		record[name] = to
		b, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, c := range []struct{ name, record string }{
		{"not JSON", "\x00"},
		{"empty", ""},
		{"a later version", edit("v", 2)},
		{"no version", edit("v", nil)},
		{"another's email", edit("email", "kim@example.com")},
		{"another role", edit("role", "raider")},
		{"no id", edit("id", "")},
		{"a number for an id", edit("id", 7)},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, revision, err := bucket.Get(t.Context(), s.keys[0])
			if err != nil {
				t.Fatal(err)
			}
			if _, err := bucket.Update(t.Context(), s.keys[0], []byte(c.record), revision); err != nil {
				t.Fatal(err)
			}
			got, err := store.Find(t.Context(), a.Email, a.Role)
			if err == nil || fault.KindOf(err) != fault.Internal || got != (authsvc.Account{}) {
				t.Errorf("Find = %v, %v, want no account and kind Internal", got, err)
			}
			err = store.Create(t.Context(), authtest.Account(t, "john@example.com", token.User))
			if fault.KindOf(err) != fault.Internal {
				t.Errorf("Create = %v, want kind Internal", err)
			}
		})
	}
}

// An unavailable store is answered with 503, and not as an unknown account.
func TestNATSAway(t *testing.T) {
	t.Parallel() // most of it is waiting
	conn, err := bus.Connect(bus.Config{URL: "nats://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	k := newKit(t, withStore(authsvc.NewAccounts(conn.Bucket(bus.AccountsBucket))), withDemo,
		func(c *authsvc.Config, _ *authsvc.HasherConfig) { c.Sessions = conn.Bucket(bus.SessionsBucket) })
	access, _, err := k.config.Issuer.Issue(token.Grant{Subject: tokentest.Ulla, Email: "ulla@example.com",
		Role: token.User, Session: tokentest.Ulla})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*http.Request{
		post("/login", body("kim@example.com", goodPassword, "user")),
		post("/register", body("kim@example.com", goodPassword, "user")),
		change("kim@example.com", "user", goodPassword, newPassword),
		refreshWith(tokentest.Ulla + ".1." + strings.Repeat("A", 64)),
		bearing("/logout", access), bearing("/logout-all", access),
	} {
		w := k.ask(t, r, 503, "Please try again")
		if w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: 503 without Retry-After", r.URL.Path)
		}
	}
	if err := k.service.SeedDemo(t.Context()); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("SeedDemo = %v, want kind Unavailable", err)
	}
	wantCosts(t, k.hashes.take())
}
