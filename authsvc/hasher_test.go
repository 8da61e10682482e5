package authsvc_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/argon2id"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/throttle"
	"github.com/example/pillion/internal/fault"
)

func TestHashAndVerify(t *testing.T) {
	p := authsvc.NewHasher(authsvc.HasherConfig{})
	one, err := p.Hash(t.Context(), goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	two, err := p.Hash(t.Context(), goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	if one == two {
		t.Error("two hashes of one password have the same salt")
	}
	for password, want := range map[string]bool{goodPassword: true, goodPassword + " ": false, "": false} {
		if got, err := p.Verify(t.Context(), password, one); got != want || err != nil {
			t.Errorf("Verify(%q) = %v, %v, want %v", password, got, err, want)
		}
	}
	if got, err := p.Verify(t.Context(), goodPassword, ""); got || err != nil {
		t.Errorf("Verify against nobody = %v, %v", got, err)
	}
}

// A hash is verified at its own cost, higher or lower.
func TestOtherParameters(t *testing.T) {
	h := new(hashes)
	p := authsvc.NewHasher(authsvc.HasherConfig{Observe: h.observe})
	for _, c := range []argon2id.Params{
		{Memory: 8192, Iterations: 1, Parallelism: 1, SaltLength: 8, KeyLength: 16},
		{Memory: 65536, Iterations: 3, Parallelism: 4, SaltLength: 32, KeyLength: 64},
	} {
		phc, err := argon2id.CreateHash(goodPassword, &c)
		if err != nil {
			t.Fatal(err)
		}
		for password, want := range map[string]bool{goodPassword: true, "wrong": false} {
			if got, err := p.Verify(t.Context(), password, phc); got != want || err != nil {
				t.Errorf("Verify with %+v = %v, %v, want %v", c, got, err, want)
			}
		}
		cost := authsvc.HashCost{Memory: c.Memory, Iterations: c.Iterations, Parallelism: c.Parallelism}
		wantCosts(t, h.take(), cost, cost)
	}
}

func TestBrokenHashes(t *testing.T) {
	h := new(hashes)
	p := authsvc.NewHasher(authsvc.HasherConfig{Observe: h.observe})
	const salt, key = "c2FsdHNhbHRzYWx0c2FsdA", "a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2U"
	for _, phc := range []string{
		"x", "$argon2id$", "$argon2i$v=19$m=19456,t=2,p=1$" + salt + "$" + key, "$2a$10$abcdefghijklmnopqrstuv",
		"$argon2id$v=16$m=19456,t=2,p=1$" + salt + "$" + key,
		// These two make the argon2 package panic.
		"$argon2id$v=19$m=19456,t=0,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=2,p=0$" + salt + "$" + key,
		"$argon2id$v=19$m=4294967295,t=2,p=1$" + salt + "$" + key, // 4 TiB
		"$argon2id$v=19$m=19456,t=4294967295,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=-1,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=2,p=1$$" + key,
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$", // an empty key equals an empty key
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + key + "=",
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + strings.Repeat(key, 99),
	} {
		match, err := p.Verify(t.Context(), goodPassword, phc)
		if match || fault.KindOf(err) != fault.Internal {
			t.Errorf("Verify against %.60q = %v, %v, want kind Internal", phc, match, err)
		}
	}
	wantCosts(t, h.take())
}

// One hash is evaluated at a time and one waits, for a bounded time or until the caller leaves.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const wait = 5 * time.Second
		h, hold := new(hashes), make(chan struct{})
		h.during = func() { <-hold }
		p := authsvc.NewHasher(authsvc.HasherConfig{Concurrent: 1, Queue: 1, Wait: wait, Observe: h.observe})
		verify := func(ctx context.Context) chan error {
			done := make(chan error, 1)
			go func() {
				_, err := p.Verify(ctx, goodPassword, "")
				done <- err
			}()
			synctest.Wait() // until it holds the slot, waits for it, or has been turned away
			return done
		}
		wantBusy := func(what string, err, cause error, after time.Duration, since time.Time) {
			t.Helper()
			if !errors.Is(err, authsvc.ErrBusy) || fault.From(err).RetryAfter != wait ||
				(cause != nil) != errors.Is(err, cause) || time.Since(since) != after {
				t.Errorf("%s = %v after %v, want ErrBusy with %v after %v", what, err, time.Since(since), cause, after)
			}
		}

		start := time.Now()
		first, second := verify(t.Context()), verify(t.Context())
		wantBusy("a third, the queue being full", <-verify(t.Context()), throttle.ErrFull, 0, start)
		wantBusy("the second, whose turn does not come", <-second, context.DeadlineExceeded, wait, start)

		start = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantBusy("one that is in more of a hurry", <-verify(ctx), context.DeadlineExceeded, time.Second, start)

		fourth := verify(t.Context())
		close(hold)
		if err := errors.Join(<-first, <-fourth); err != nil {
			t.Errorf("those whose turn came: %v", err)
		}
		if h.mostAtOnce() != 1 || len(h.take()) != 2 {
			t.Errorf("%d at once, want 1", h.mostAtOnce())
		}
	})
}

// Of a thousand simultaneous logins few are hashed at a time, and all are answered. Those that
// are refused learn when to try again.
func TestAThousandLogins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slots, queue, clients = 2, 10, 1000
		k := newKit(t, func(_ *authsvc.Config, p *authsvc.HasherConfig) {
			p.Concurrent, p.Queue, p.Wait = slots, queue, time.Minute
		})
		k.mustRegister(t, "kim@example.com", goodPassword, "user")
		k.hashes.take()
		hold := make(chan struct{})
		k.hashes.during = func() { <-hold }

		var (
			mu       sync.Mutex
			byStatus = make(map[int]int)
		)
		for range clients {
			go func() {
				w := k.do(post("/login", body("kim@example.com", goodPassword, "user")))
				mu.Lock()
				defer mu.Unlock()
				byStatus[w.Code]++
				if w.Code != http.StatusOK && w.Header().Get("Retry-After") != "60" {
					t.Errorf("%d with Retry-After %q", w.Code, w.Header().Get("Retry-After"))
				}
			}()
		}
		// Some are being hashed, some wait for their turn, and everybody else has been answered.
		synctest.Wait()
		if len(byStatus) != 1 || byStatus[http.StatusServiceUnavailable] != clients-slots-queue {
			t.Errorf("answers = %v while the slots and the queue are full, want %d of 503", byStatus,
				clients-slots-queue)
		}
		close(hold)
		synctest.Wait()
		if byStatus[http.StatusOK] != slots+queue {
			t.Errorf("answers = %v, want %d of 200", byStatus, slots+queue)
		}
		if evaluated := len(k.hashes.take()); evaluated != slots+queue {
			t.Errorf("%d hashes for %d successful logins", evaluated, slots+queue)
		}
		if most := k.hashes.mostAtOnce(); most != slots {
			t.Errorf("%d hashes at once, want %d", most, slots)
		}
	})
}

// Logins with the right password, however many one network makes to however many accounts of its
// own, keep nobody else waiting for more than a turn of each network.
func TestLoginsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const flood, queue = 240, 128
		step := make(chan struct{})
		k := newKit(t, func(_ *authsvc.Config, p *authsvc.HasherConfig) {
			p.Concurrent, p.Queue, p.Wait = 1, queue, time.Hour
		})
		var own []string
		for i := range 6 {
			own = append(own, fmt.Sprintf("own%d@example.com", i))
			k.mustRegister(t, own[i], goodPassword, "user")
		}
		k.mustRegister(t, "kim@example.com", goodPassword, "user")
		k.hashes.during = func() { <-step }
		login := func(email, from string) chan int {
			code := make(chan int, 1)
			r := post("/login", body(email, goodPassword, "user"))
			r.RemoteAddr = from + ":4711"
			go func() { code <- k.do(r).Code }()
			return code
		}
		for i := range flood {
			login(own[i%len(own)], []string{"192.0.2.1", "198.51.100.1"}[i%2])
		}
		synctest.Wait()
		kim := login("kim@example.com", "203.0.113.1")
		synctest.Wait()
		// the hash that is being evaluated, one of each network, and Kim's
		for range 4 {
			step <- struct{}{}
			synctest.Wait()
		}
		select {
		case code := <-kim:
			if code != http.StatusOK {
				t.Errorf("the login from elsewhere is answered %d", code)
			}
		default:
			t.Error("the login from elsewhere waits behind those of a flood")
		}
		close(step)
		synctest.Wait()
	})
}
