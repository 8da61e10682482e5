package trust_test

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
)

// refused waits until every verifier rejects a token that it accepted before, and returns how long
// the slowest one took.
func refused(t testing.TB, raw string, services ...*ledgertest.Watched) time.Duration {
	t.Helper()
	began := time.Now()
	for _, w := range services {
		wait.Until(t, "the token is refused", func() bool {
			_, err := w.Verify(t.Context(), raw)
			if err != nil && token.Reason(err) != "revoked" {
				t.Fatalf("refused for another reason: %v", err)
			}
			return err != nil
		})
	}
	return time.Since(began)
}

// within fails the test where something took too long. On a real clock that depends on the machine,
// and is only logged.
func within(t testing.TB, e *bustest.Env, limit, took time.Duration) {
	t.Helper()
	if e.Virtual && took > limit {
		t.Errorf("it took %v, want at most %v", took, limit)
	}
	t.Logf("it took %v", took)
}

// What is revoked on one connection is rejected on all others within a second, even cached tokens.
func TestRevokedEverywhereWithinASecond(t *testing.T) {
	bustest.Virtual(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		conn := k.Connect(t)
		var services []*ledgertest.Watched
		for range 4 {
			services = append(services, k.Watch(t, k.Connect(t)))
		}
		for _, w := range services {
			w.Loaded(t)
		}
		var slowest time.Duration
		for i := range 20 {
			p, sid := k.Login(t, booking.User)
			other, _ := k.Login(t, booking.User)
			for _, w := range services {
				for _, raw := range []string{p.Token, other.Token} {
					if _, err := w.Verify(t.Context(), raw); err != nil {
						t.Fatalf("before it is revoked: %v", err)
					}
				}
			}
			r := token.Revocation{Session: sid, At: time.Now()}
			if i%2 == 1 {
				r = token.Revocation{Subject: p.ID, NotBefore: time.Now().Add(time.Second), At: time.Now()}
			}
			ledgertest.Revoke(t, conn, r)
			slowest = max(slowest, refused(t, p.Token, services...))
			for _, w := range services {
				if _, err := w.Verify(t.Context(), other.Token); err != nil {
					t.Errorf("somebody else's token: %v", err)
				}
			}
		}
		within(t, e, time.Second, slowest)

		late := k.Watch(t, k.Connect(t)).Loaded(t)
		if n := late.Len(); n != 20 {
			t.Errorf("a service that starts later knows of %d revocations, want 20", n)
		}
	})
}

// The same while the bucket's leader steps down again and again. A write may then take longer; its
// propagation may not.
func TestRevokedThoughLeadersStepDown(t *testing.T) {
	k := ledgertest.New(t, bustest.LongCluster(t, bustest.Setup{}))
	conn := k.Connect(t)
	var services []*ledgertest.Watched
	for range 3 {
		services = append(services, k.Watch(t, k.Connect(t)).Loaded(t))
	}
	var slowest time.Duration
	for range 6 {
		if _, err := conn.NATS().Request("$JS.API.STREAM.LEADER.STEPDOWN.KV_"+bus.RevocationsBucket, nil,
			5*time.Second); err != nil {
			t.Fatal(err)
		}
		p, sid := k.Login(t, booking.User)
		ledgertest.Revoke(t, conn, token.Revocation{Session: sid, At: time.Now()})
		slowest = max(slowest, refused(t, p.Token, services...))
	}
	t.Logf("the slowest of 6 was known to 3 services %v after its write", slowest)
}

// Revocations of which the reader hears nothing, because NATS does not republish them, are not late
// either.
func TestRevokedThoughNothingIsHeard(t *testing.T) {
	bustest.Virtual(t, testRevokedThoughNothingIsHeard)
}

func testRevokedThoughNothingIsHeard(t *testing.T, e *bustest.Env) {
	k := ledgertest.New(t, e)
	conn := k.Connect(t)
	stream, err := conn.JetStream().Stream(t.Context(), "KV_"+bus.RevocationsBucket)
	if err != nil {
		t.Fatal(err)
	}
	silent := stream.CachedInfo().Config
	silent.RePublish.Destination = "elsewhere.>"
	if _, err := conn.JetStream().UpdateStream(t.Context(), silent); err != nil {
		t.Fatal(err)
	}
	w := k.Watch(t, k.Connect(t)).Loaded(t)
	for range 3 {
		p, sid := k.Login(t, booking.User)
		ledgertest.Revoke(t, conn, token.Revocation{Session: sid, At: time.Now()})
		within(t, e, time.Second, refused(t, p.Token, w))
	}
	if w.Len() != 3 {
		t.Errorf("it knows of %d revocations, want 3", w.Len())
	}
}

// Of two revocations the earlier At counts, in any order; repeating one changes nothing.
func TestRevokeIsIdempotent(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		conn := k.Connect(t)
		w := k.Watch(t, k.Connect(t)).Loaded(t)
		sid, account := booking.NewID(), booking.NewID()
		now := time.Now().Truncate(time.Microsecond)
		before := now.Truncate(time.Second)
		for _, at := range []time.Duration{0, -time.Second, 0, -time.Second, -time.Millisecond, -2 * time.Second} {
			ledgertest.Revoke(t, conn, token.Revocation{Session: sid, At: now.Add(at)})
			ledgertest.Revoke(t, conn, token.Revocation{Subject: account, NotBefore: before, At: now.Add(at)})
		}
		// A later logout of everything takes back more, as of later, and changes nothing about the
		// first one.
		ledgertest.Revoke(t, conn, token.Revocation{Subject: account, NotBefore: before.Add(2 * time.Second),
			At: now.Add(time.Second)})
		check := func(what string, w *ledgertest.Watched) {
			t.Helper()
			for _, tt := range []struct {
				subject, session string
				iat              time.Time
				want             time.Duration
				ok               bool
			}{
				{"", sid, now, -2 * time.Second, true},
				{account, "", before.Add(-time.Second), -2 * time.Second, true},
				{account, "", before, time.Second, true},
				{account, "", before.Add(2 * time.Second), 0, false},
			} {
				at, ok := w.Revoked(tt.subject, tt.session, tt.iat)
				if ok != tt.ok || ok && !at.Equal(now.Add(tt.want)) {
					t.Errorf("%s: revoked as of %v (%v), want %v (%v)", what, at, ok, now.Add(tt.want), tt.ok)
				}
			}
		}
		wait.Until(t, "all is known", func() bool {
			_, ok := w.Revoked(account, "", before)
			return ok
		})
		check("who was there", w)
		late := k.Watch(t, k.Connect(t)).Loaded(t)
		check("who came later", late)
		if n := late.Len(); n != 3 {
			t.Errorf("they are %d, want 3", n)
		}

		// All at once, from several places.
		raced := booking.NewID()
		var workers sync.WaitGroup
		for i := range 8 {
			c := k.Connect(t)
			workers.Go(func() {
				ledgertest.Revoke(t, c, token.Revocation{Session: raced, At: now.Add(-time.Duration(i) * time.Second)})
			})
		}
		workers.Wait()
		wait.Until(t, "the earliest of eight is known", func() bool {
			at, ok := w.Revoked("", raced, now)
			return ok && at.Equal(now.Add(-7*time.Second))
		})
		if at, _ := k.Watch(t, k.Connect(t)).Loaded(t).Revoked("", raced, now); !at.Equal(now.Add(-7 * time.Second)) {
			t.Errorf("who came later says as of %v, want %v", at, now.Add(-7*time.Second))
		}
	})
}

func TestRevokeRefuses(t *testing.T) {
	k := ledgertest.New(t, bustest.Run(t))
	conn := k.Connect(t)
	for what, r := range map[string]token.Revocation{
		"nothing":      {At: time.Now()},
		"a wildcard":   {Session: ">", At: time.Now()},
		"the future":   {Session: booking.NewID(), At: time.Now().Add(10 * time.Second)},
		"without time": {Session: booking.NewID()},
	} {
		if err := bustest.Authority(conn).Revoke(t.Context(), r); !errors.Is(err, token.ErrRevocation) {
			t.Errorf("%s: %v", what, err)
		}
	}
	away, err := bus.Connect(bus.Config{URL: "nats://" + bustest.FreeAddr(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer bustest.CloseConn(t, away)
	if err := bustest.Authority(away).Revoke(t.Context(), token.Revocation{Session: booking.NewID(),
		At: time.Now()}); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("without NATS: %v", err)
	}
}

// A revocation that changes the past is logged, once the past has been read.
func TestARevocationThatReachesBackIsLogged(t *testing.T) {
	k := ledgertest.New(t, bustest.Run(t))
	var out wait.Journal
	w := k.Watch(t, k.ConnectWith(t, bus.Config{Log: slog.New(slog.NewTextHandler(&out, nil))})).Loaded(t)
	conn := k.Connect(t)
	for _, back := range []time.Duration{time.Second, time.Hour} {
		p, sid := k.Login(t, booking.User)
		ledgertest.Revoke(t, conn, token.Revocation{Session: sid, At: time.Now().Add(-back)})
		refused(t, p.Token, w)
	}
	wait.Until(t, "a line is logged", func() bool { return strings.Count(out.String(), "reaches back") == 1 })
}
