package token_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// The session and the account of the tests' tokens, and others.
const (
	session, otherSession = "sessionsessionsessionsessi", "othersessionothersessionot"
	account, otherAccount = tokentest.Ulla, tokentest.Rita
)

// revoked returns revocations that are complete as of a time; zero: nothing was ever loaded.
func revoked(complete time.Time, rs ...token.Revocation) *token.RevocationSet {
	s := new(token.RevocationSet)
	for _, r := range rs {
		s.Add(r)
	}
	if !complete.IsZero() {
		s.Complete(complete)
	}
	return s
}

// issued returns a token of a session (none: ""), issued at a time for an hour.
func issued(t testing.TB, a *tokentest.Authority, sid string, at time.Time) string {
	t.Helper()
	i, err := token.NewIssuer(token.IssuerConfig{Key: a.Private, Life: time.Hour, Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	raw, _, err := i.Issue(token.Grant{Subject: account, Email: "ulla@example.com", Session: sid, Role: token.User})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Which requests a revocation stops: at once, whatever its At, and whether the token is remembered
// or not.
func TestRevokedRequests(t *testing.T) {
	a := tokentest.New(t)
	whole := start.Add(20 * second)
	for _, tt := range []struct {
		name   string
		sid    string
		iat    time.Time
		by     token.Revocation
		reason string
	}{
		{"its session", session, start, token.Revocation{Session: session, At: start.Add(30 * second)}, "revoked"},
		{"its session, as of a little ahead", session, start, token.Revocation{Session: session, At: start.Add(34 * second)}, "revoked"},
		{"its session, issued after that", session, start.Add(25 * second), token.Revocation{Session: session, At: start}, "revoked"},
		{"another session", session, start, token.Revocation{Session: otherSession, At: start}, ""},
		{"a session, and it has none", "", start, token.Revocation{Session: session, At: start}, ""},
		{"a session with the account's name", session, start, token.Revocation{Session: account, At: start}, ""},
		{"its account, a second earlier", session, whole.Add(-second), token.Revocation{Subject: account, NotBefore: whole, At: whole}, "revoked"},
		{"its account, at that second", session, whole, token.Revocation{Subject: account, NotBefore: whole, At: whole}, ""},
		{"its account, a tick into the second", session, whole, token.Revocation{Subject: account, NotBefore: whole.Add(tick), At: whole}, "revoked"},
		{"its account, at the end of the second", session, whole, token.Revocation{Subject: account, NotBefore: whole.Add(second - tick), At: whole}, "revoked"},
		{"its account, a second later", session, whole.Add(second), token.Revocation{Subject: account, NotBefore: whole.Add(second - tick), At: whole}, ""},
		{"its account, and it has no session", "", start, token.Revocation{Subject: account, NotBefore: whole, At: whole}, "revoked"},
		{"another account", session, start, token.Revocation{Subject: otherAccount, NotBefore: whole, At: whole}, ""},
		{"an account with the session's name", session, start, token.Revocation{Subject: session, NotBefore: whole, At: whole}, ""},
		{"nothing", session, start, token.Revocation{At: start}, ""},
	} {
		for _, cached := range []bool{false, true} {
			now := start.Add(30 * second)
			set := revoked(now)
			v := verifier(t, token.Config{Keys: a.Keys(), Now: func() time.Time { return now }, Revocations: set})
			raw := issued(t, a, tt.sid, tt.iat)
			if cached {
				c, err := v.Verify(t.Context(), raw)
				wantRefused(t, tt.name+": before", "", c, err)
			}
			set.Add(tt.by)
			for range 2 {
				c, err := v.Verify(t.Context(), raw)
				wantRefused(t, fmt.Sprintf("%s (cached %v)", tt.name, cached), tt.reason, c, err)
			}
		}
	}
}

// Which events a revocation stops: those stored more than 15 seconds after it, whenever they are
// read. As long as one could come to light that would change the verdict, there is none.
func TestRevokedEvents(t *testing.T) {
	a := tokentest.New(t)
	at := start.Add(time.Minute)
	edge := at.Add(15 * second)
	later := start.AddDate(1, 0, 0)
	bySession := token.Revocation{Session: session, At: at}
	byAccount := token.Revocation{Subject: account, NotBefore: at, At: at}
	const undecided = "undecided"
	for _, tt := range []struct {
		name     string
		stored   time.Time
		complete time.Time
		by       []token.Revocation
		want     string
	}{
		{"long before", start, later, []token.Revocation{bySession}, ""},
		{"at the revocation", at, later, []token.Revocation{bySession}, ""},
		{"15 s after it", edge, later, []token.Revocation{bySession}, ""},
		{"15 s and a tick after it", edge.Add(tick), later, []token.Revocation{bySession}, "revoked"},
		{"long after it", edge.Add(20 * time.Minute), later, []token.Revocation{bySession}, "revoked"},
		{"15 s after the account's", edge, later, []token.Revocation{byAccount}, ""},
		{"15 s and a tick after the account's", edge.Add(tick), later, []token.Revocation{byAccount}, "revoked"},
		{"after the earlier of two", edge, later, []token.Revocation{bySession, {Subject: account, NotBefore: at, At: at.Add(-second)}}, "revoked"},
		{"after the earlier of two, told last", edge, later, []token.Revocation{bySession, {Session: session, At: at.Add(-second)}}, "revoked"},
		{"a later one does not move it", edge.Add(tick), later, []token.Revocation{bySession, {Session: session, At: at.Add(time.Hour)}}, "revoked"},

		{"good, with nothing loaded", start, time.Time{}, nil, undecided},
		{"good, known as of 15 s before", at, at.Add(-15 * second), nil, ""},
		{"good, known as of less", at, at.Add(-15*second - time.Microsecond), nil, undecided},
		{"within the leeway, known as of less", edge, at.Add(-second), []token.Revocation{bySession}, undecided},
		{"revoked, known as of less", edge.Add(tick), start, []token.Revocation{bySession}, "revoked"},
		{"revoked, while it is being loaded", edge.Add(tick), time.Time{}, []token.Revocation{bySession}, "revoked"},
	} {
		raw := issued(t, a, session, start)
		for _, now := range []time.Time{start.AddDate(-1, 0, 0), at, later} {
			v := verifier(t, token.Config{Keys: a.Keys(), Now: func() time.Time { return now },
				Revocations: revoked(tt.complete, tt.by...)})
			for _, how := range []string{"uncached", "cached"} {
				what := fmt.Sprintf("%s, %s, read at %s", tt.name, how, now)
				c, err := v.VerifyAccessAt(t.Context(), raw, tt.stored, 1)
				if tt.want == undecided {
					wantUndecided(t, what, token.ErrUndecided, err, c)
					continue
				}
				wantRefused(t, what, tt.want, c, err)
			}
		}
	}
}

// A request that was admitted before a revocation makes a valid event, however long the append
// took.
func TestARequestBeforeItsRevocationMakesAGoodEvent(t *testing.T) {
	a := tokentest.New(t)
	raw := issued(t, a, session, start)
	at := start.Add(time.Minute)
	v := verifier(t, token.Config{Keys: a.Keys(), Revocations: revoked(at.Add(time.Hour),
		token.Revocation{Session: session, At: at})})
	for before := time.Duration(0); before < 5*second; before += 100 * time.Millisecond {
		c, err := v.VerifyAccessAt(t.Context(), raw, at.Add(-before).Add(15*second), 1)
		wantRefused(t, fmt.Sprintf("let in %v before the revocation", before), "", c, err)
	}
}

// Without a list of revocations that is recent enough no request is admitted, and none is told that
// its token is invalid unless it is.
func TestRevocationsNotLoaded(t *testing.T) {
	a := tokentest.New(t)
	now := start
	set := revoked(time.Time{})
	v := verifier(t, token.Config{Keys: a.Keys(), Now: func() time.Time { return now }, Revocations: set})
	good := issued(t, a, session, start)
	for range 2 {
		c, err := v.Verify(t.Context(), good)
		wantUndecided(t, "a good token", token.ErrNoRevocations, err, c)
	}
	c, err := v.Verify(t.Context(), issued(t, a, session, start.Add(-2*time.Hour)))
	wantRefused(t, "an expired token", "expired", c, err)
	c, err = v.Verify(t.Context(), a.Raw(a.Other, a.Header(),
		a.Claims("user", account, "ulla@example.com", start, start.Add(time.Hour))))
	wantRefused(t, "a forged token", "signature", c, err)
	c, err = v.VerifyAccessAt(t.Context(), a.Raw(a.Other, a.Header(),
		a.Claims("user", account, "ulla@example.com", start, start.Add(time.Hour))), start, 1)
	wantRefused(t, "a forged event does not wait", "signature", c, err)

	set.Complete(start)
	c, err = v.Verify(t.Context(), good)
	wantRefused(t, "after it has arrived", "", c, err)
	now = start.Add(token.EventLeeway) // and nothing more has been heard since
	c, err = v.Verify(t.Context(), good)
	wantRefused(t, "with a list that is as old as it may be", "", c, err)
	now = now.Add(tick)
	c, err = v.Verify(t.Context(), good)
	wantUndecided(t, "with a list under which an event could not be judged", token.ErrNoRevocations, err, c)
}

func TestRevocationCheck(t *testing.T) {
	good := token.Revocation{Session: session, At: start}
	goodAccount := token.Revocation{Subject: account, NotBefore: start, At: start}
	ahead := start.Add(token.ClockLeeway)
	for _, tt := range []struct {
		name string
		r    token.Revocation
		ok   bool
	}{
		{"a session", good, true},
		{"an account", goodAccount, true},
		{"a session as of last year", token.Revocation{Session: session, At: start.AddDate(-1, 0, 0)}, true},
		{"5 s ahead", token.Revocation{Session: session, At: ahead}, true},
		{"5 s and a tick ahead", token.Revocation{Session: session, At: ahead.Add(tick)}, false},
		{"an account, 5 s ahead", token.Revocation{Subject: account, NotBefore: ahead, At: start}, true},
		{"an account, 5 s and a tick ahead", token.Revocation{Subject: account, NotBefore: ahead.Add(tick), At: start}, false},
		{"nothing", token.Revocation{At: start}, false},
		{"both", token.Revocation{Session: session, Subject: account, NotBefore: start, At: start}, false},
		{"no At", token.Revocation{Session: session}, false},
		{"an account without a time", token.Revocation{Subject: account, At: start}, false},
		{"a session with a NotBefore", token.Revocation{Session: session, NotBefore: start, At: start}, false},
		{"no session's id", token.Revocation{Session: "s.>", At: start}, false},
		{"no account's id", token.Revocation{Subject: "ulla@example.com", NotBefore: start, At: start}, false},
	} {
		err := tt.r.Check(start)
		if tt.ok != (err == nil) || !tt.ok && (!errors.Is(err, token.ErrRevocation) ||
			fault.KindOf(err) != fault.Invalid) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// Whatever revocations of an account come in whatever order, a token is revoked as of the earliest
// that fits it: compared with trying all of them.
func TestRevocationsOfAnAccount(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 500 {
		var all []token.Revocation
		set := new(token.RevocationSet)
		for range 1 + random.IntN(8) {
			r := token.Revocation{
				Subject: account, NotBefore: start.Add(time.Duration(random.IntN(20)) * 500 * time.Millisecond),
				At: start.Add(time.Duration(random.IntN(20)) * second),
			}
			all = append(all, r)
			set.Add(r)
			set.Add(all[random.IntN(len(all))]) // again
		}
		for sec := range 12 {
			iat := start.Add(time.Duration(sec) * second)
			var want time.Time
			for _, r := range all {
				if iat.Before(r.NotBefore) && (want.IsZero() || r.At.Before(want)) {
					want = r.At
				}
			}
			at, ok := set.Revoked(account, session, iat)
			if ok == want.IsZero() || !at.Equal(want) {
				t.Fatalf("round %d: %v: issued %d s after the start it is revoked as of %v (%v), want %v", round, all,
					sec, at, ok, want)
			}
		}
		if n := set.Len(); n < 1 || n > len(all) {
			t.Fatalf("round %d: %d revocations are %d", round, len(all), n)
		}
	}
}

func TestRevocationSetForgets(t *testing.T) {
	set := revoked(start,
		token.Revocation{Session: session, At: start}, token.Revocation{Session: otherSession, At: start.Add(second)},
		token.Revocation{Subject: account, NotBefore: start, At: start},
		token.Revocation{Subject: account, NotBefore: start.Add(second), At: start.Add(second)},
		token.Revocation{Subject: otherAccount, NotBefore: start, At: start})
	if n := set.Len(); n != 5 {
		t.Errorf("it has %d, want 5", n)
	}
	set.Forget(start.Add(second))
	if n := set.Len(); n != 2 {
		t.Errorf("it still has %d, want 2", n)
	}
	if _, ok := set.Revoked(otherAccount, session, start.Add(-second)); ok {
		t.Error("it forgot nothing")
	}
	if at, ok := set.Revoked(account, "", start); !ok || !at.Equal(start.Add(second)) {
		t.Error("it forgot too much of an account")
	}
	if _, ok := set.Revoked("", otherSession, start); !ok {
		t.Error("it forgot too much")
	}
	set.Complete(start.Add(-time.Hour))
	if !set.CompleteAsOf().Equal(start) {
		t.Errorf("what is known went back to %s", set.CompleteAsOf())
	}
}

func TestRevocationSetTogether(t *testing.T) {
	set := new(token.RevocationSet)
	var workers sync.WaitGroup
	for w := range 4 {
		workers.Go(func() {
			for i := range 500 {
				at := start.Add(time.Duration(i) * second)
				set.Add(token.Revocation{Subject: account, NotBefore: at, At: at.Add(time.Duration(w) * second)})
				set.Complete(at)
				if _, ok := set.Revoked(account, session, at.Add(-second)); !ok {
					t.Errorf("it is not there right after it was added")
				}
			}
		})
	}
	workers.Wait()
	if n := set.Len(); n != 500 {
		t.Errorf("it has %d, want 500", n)
	}
}
