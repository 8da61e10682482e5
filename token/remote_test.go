package token_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

var errDown = errors.New("the source is down")

// A source answers fetches with what it is told to, and counts them.
type source struct {
	mu    sync.Mutex
	set   *token.KeySet
	err   error
	count int
}

func (s *source) fetch(context.Context) (*token.KeySet, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	return s.set, s.err
}

func (s *source) answer(set *token.KeySet, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set, s.err = set, err
}

func (s *source) fetches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// A flood of tokens with random key ids costs one fetch an interval, also while the source is down,
// and is refused; the good token gets through all the time. Without any set, one fetch an interval
// too, and nothing is called invalid.
func TestRandomKeyIDFlood(t *testing.T) {
	a := tokentest.New(t)
	clock := newClock(start)
	a.Now = clock.Now
	good := a.Token(token.User, tokentest.Ulla, "ulla@example.com")
	flood := make([]string, 50)
	for i := range flood {
		header := fmt.Sprintf(`{"alg":"RS256","typ":"JWT","kid":"%043d"}`, i)
		flood[i] = a.Raw(a.Private, header, a.Claims("user", tokentest.Ulla, "ulla@example.com", start,
			start.Add(time.Minute)))
	}
	src := new(source)
	keys := token.NewRemoteKeys(src.fetch, 10*time.Second, clock.Now)
	t.Cleanup(keys.Close)
	v := verifier(t, token.Config{Keys: keys, Now: clock.Now})
	src.answer(nil, errDown)
	for range 3 {
		c, err := v.Verify(t.Context(), good)
		wantUndecided(t, "without a set", token.ErrNoKeys, err, c)
		c, err = v.Verify(t.Context(), flood[0])
		wantUndecided(t, "flood without a set", token.ErrNoKeys, err, c)
	}
	if n := src.fetches(); n != 1 {
		t.Fatalf("%d fetches in the first interval", n)
	}
	want := 1
	for round, err := range []error{nil, nil, errDown, errDown, nil} {
		clock.Advance(10 * time.Second)
		want++
		if err == nil {
			src.answer(a.KeySet(), nil)
		} else {
			src.answer(nil, err)
		}
		var wg sync.WaitGroup
		for _, raw := range flood {
			wg.Go(func() {
				// In the first round those who meet the first fetch under way have no set yet.
				if c, err := v.Verify(t.Context(), raw); round > 0 || !errors.Is(err, token.ErrNoKeys) {
					wantRefused(t, "flood", "unknown_key", c, err)
				}
			})
		}
		wg.Wait()
		c, err := v.Verify(t.Context(), good)
		wantRefused(t, "the good token in a flood", "", c, err)
		if n := src.fetches(); n != want {
			t.Errorf("round %d: %d fetches, want %d", round, n, want)
		}
		clock.Advance(10*time.Second - tick)
		c, err = v.Verify(t.Context(), flood[0])
		wantRefused(t, "flood, a tick before the interval is over", "unknown_key", c, err)
		if n := src.fetches(); n != want {
			t.Errorf("round %d: %d fetches a tick before the interval is over, want %d", round, n, want)
		}
		clock.Advance(tick - 10*time.Second)
	}
}

// What is wrong with a token besides its kid is found without asking for keys.
func TestForgeriesFetchNothing(t *testing.T) {
	a := tokentest.New(t)
	src := new(source)
	keys := token.NewRemoteKeys(src.fetch, 10*time.Second, nil)
	t.Cleanup(keys.Close)
	keys.Offer(a.KeySet())
	v := verifier(t, token.Config{Keys: keys})
	for _, f := range a.Forgeries() {
		if f.Reason == "unknown_key" {
			continue
		}
		c, err := v.Verify(t.Context(), f.Token)
		wantRefused(t, f.Name, f.Reason, c, err)
	}
	if n := src.fetches(); n != 0 {
		t.Errorf("%d fetches", n)
	}
}

// A key that was published since the last fetch is found by asking, for requests and events.
func TestNewKeyIsFetched(t *testing.T) {
	a := tokentest.New(t)
	for _, name := range []string{"request", "event"} {
		clock := newClock(start)
		a.Now = clock.Now
		src := &source{set: keySet(t, tokentest.KeyOf(&a.Other.PublicKey))}
		keys := token.NewRemoteKeys(src.fetch, 10*time.Second, clock.Now)
		t.Cleanup(keys.Close)
		v := verifier(t, token.Config{Keys: keys, Now: clock.Now})
		verify := func(raw string) (token.Claims, error) {
			if name == "event" {
				return v.VerifyAccessAt(t.Context(), raw, clock.Now(), 1)
			}
			return v.Verify(t.Context(), raw)
		}
		raw := a.Token(token.Rider, tokentest.Rita, "rita@example.com")
		c, err := verify(raw)
		wantRefused(t, name+" before its key is published", "unknown_key", c, err)
		src.answer(a.KeySet(), nil)
		clock.Advance(10 * time.Second)
		c, err = verify(raw)
		wantRefused(t, name+" after it", "", c, err)
	}
}

// When a kid is unknown for good, and when that cannot be said yet: only a set that is known to be
// complete as of more than 5 seconds after the event was stored, or was fetched during the call,
// speaks for good.
func TestUnknownKeyOfAnEvent(t *testing.T) {
	a := tokentest.New(t)
	stored := start
	raw := a.Raw(a.Private, a.Header(), a.Claims("user", tokentest.Ulla, "ulla@example.com", start,
		start.Add(time.Hour)))
	expiredThen := a.Raw(a.Private, a.Header(), a.Claims("user", tokentest.Ulla, "ulla@example.com",
		start.Add(-2*time.Hour), start.Add(-time.Hour)))
	without, with := keySet(t, tokentest.KeyOf(&a.Other.PublicKey)), a.KeySet()
	const undecided = "undecided"
	for _, tt := range []struct {
		name    string
		asOf    time.Duration // when the set without the key came, after the event was stored
		fetched *token.KeySet // what a fetch brings; nil: it fails
		tooSoon bool          // the source was asked a moment ago, so it is not asked
		want    string
		fetches int
	}{
		{"an old set, the source is down", -time.Hour, nil, false, undecided, 1},
		{"an old set, asked a moment ago", -time.Hour, with, true, undecided, 0},
		{"an old set, the source has the key", -time.Hour, with, false, "", 1},
		{"an old set, the source lacks it too", -time.Hour, without, false, "unknown_key", 1},
		{"a set of 5 s later, the source is down", 5 * second, nil, false, undecided, 1},
		{"a set of 5 s later, the source has the key", 5 * second, with, false, "", 1},
		{"a set of 5 s and a tick later", 5*second + tick, with, false, "unknown_key", 0},
		{"a set of an hour later", time.Hour, with, false, "unknown_key", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clock := newClock(start.Add(-2 * time.Hour))
			src := &source{err: errDown}
			keys := token.NewRemoteKeys(src.fetch, 10*time.Second, clock.Now)
			t.Cleanup(keys.Close)
			v := verifier(t, token.Config{Keys: keys, Now: clock.Now})
			clock.Set(stored.Add(tt.asOf))
			keys.Offer(without)
			if tt.tooSoon {
				keys.Refresh(t.Context())
			}
			before := src.fetches()
			if tt.fetched != nil {
				src.answer(tt.fetched, nil)
			}
			c, err := v.VerifyAccessAt(t.Context(), raw, stored, 1)
			if tt.want == undecided {
				wantUndecided(t, "the event", token.ErrUndecided, err, c)
			} else {
				wantRefused(t, "the event", tt.want, c, err)
			}
			if n := src.fetches() - before; n != tt.fetches {
				t.Errorf("%d fetches, want %d", n, tt.fetches)
			}
			c, err = v.VerifyAccessAt(t.Context(), expiredThen, stored, 1)
			wantRefused(t, "one that had expired when it was stored", "expired", c, err)
		})
	}
}

// An undecided event is decided by the set that comes next, and Changed tells when.
func TestUndecidedIsDecidedLater(t *testing.T) {
	a := tokentest.New(t)
	raw := a.Raw(a.Private, a.Header(), a.Claims("user", tokentest.Ulla, "ulla@example.com", start,
		start.Add(time.Hour)))
	for _, tt := range []struct {
		name string
		next *token.KeySet
		want string
	}{
		{"with the key", a.KeySet(), ""},
		{"without it", keySet(t, tokentest.KeyOf(&a.Other.PublicKey)), "unknown_key"},
	} {
		clock := newClock(start)
		keys := token.NewRemoteKeys(nil, 0, clock.Now)
		v := verifier(t, token.Config{Keys: keys, Now: clock.Now})
		changed := keys.Changed()
		c, err := v.VerifyAccessAt(t.Context(), raw, start, 1)
		wantUndecided(t, "without a set", token.ErrNoKeys, err, c)
		keys.Offer(keySet(t, tokentest.KeyOf(&a.Other.PublicKey)))
		<-changed
		changed = keys.Changed()
		c, err = v.VerifyAccessAt(t.Context(), raw, start, 1)
		wantUndecided(t, "with an old set", token.ErrUndecided, err, c)
		select {
		case <-changed:
			t.Error("Changed was closed, and nothing changed")
		default:
		}
		clock.Advance(6 * second)
		keys.Offer(tt.next)
		<-changed
		c, err = v.VerifyAccessAt(t.Context(), raw, start, 1)
		wantRefused(t, tt.name, tt.want, c, err)
	}
}

// Many callers share one fetch; only the one that began it may conclude anything from it. One who
// gives up is not waited for, and does not spoil it for the others.
func TestOneFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := keySet(t, tokentest.KeyOf(&tokentest.New(t).Private.PublicKey))
		var running, most, count atomic.Int64
		answer := make(chan struct{})
		keys := token.NewRemoteKeys(func(ctx context.Context) (*token.KeySet, error) {
			count.Add(1)
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			select {
			case <-answer:
				return set, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}, time.Minute, time.Now)
		defer keys.Close()
		first, giveUp := context.WithCancel(t.Context())
		results := make(chan bool, 101)
		var wg sync.WaitGroup
		wg.Go(func() { results <- keys.Refresh(first) })
		synctest.Wait()
		for range 100 {
			wg.Go(func() { results <- keys.Refresh(t.Context()) })
		}
		synctest.Wait()
		giveUp()
		synctest.Wait()
		if len(results) != 1 || <-results {
			t.Error("the caller that gave up is still waiting, or was told yes")
		}
		close(answer)
		wg.Wait()
		close(results)
		for asked := range results {
			if asked {
				t.Error("a caller that joined a fetch under way was told that it was asked after the call began")
			}
		}
		if count.Load() != 1 || most.Load() != 1 {
			t.Errorf("%d fetches, at most %d at once", count.Load(), most.Load())
		}
		if got, _, err := keys.KeySet(); got != set || err != nil {
			t.Errorf("the fetch that its caller gave up on brought nothing: %v", err)
		}
		if keys.Refresh(t.Context()) {
			t.Error("asked again within the interval")
		}
		time.Sleep(time.Minute) //nolint:forbidigo // on the clock of the synctest bubble
		if !keys.Refresh(t.Context()) {
			t.Error("not asked again after the interval")
		}
	})
}

// A fetch ends after FetchTimeout, or when the keys are closed, and then no other begins.
func TestFetchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := keySet(t, tokentest.KeyOf(&tokentest.New(t).Private.PublicKey))
		var count atomic.Int64
		keys := token.NewRemoteKeys(func(ctx context.Context) (*token.KeySet, error) {
			count.Add(1)
			<-ctx.Done()
			return set, ctx.Err() // an answer beside an error counts for nothing
		}, time.Minute, time.Now)
		began := time.Now()
		if keys.Refresh(t.Context()) {
			t.Error("a fetch that timed out is a success")
		}
		if took := time.Since(began); took != token.FetchTimeout {
			t.Errorf("a fetch that never answers ended after %s", took)
		}
		time.Sleep(time.Minute) //nolint:forbidigo // on the clock of the synctest bubble
		ended := make(chan bool)
		go func() { ended <- keys.Refresh(t.Context()) }()
		synctest.Wait()
		began = time.Now()
		keys.Close()
		if took := time.Since(began); took != 0 {
			t.Errorf("Close waited for %s instead of ending the fetch", took)
		}
		if <-ended {
			t.Error("a fetch that Close ended is a success")
		}
		time.Sleep(time.Minute) //nolint:forbidigo // on the clock of the synctest bubble
		if keys.Refresh(t.Context()) || count.Load() != 2 {
			t.Errorf("%d fetches: closed keys were asked", count.Load())
		}
		if _, _, err := keys.KeySet(); !errors.Is(err, token.ErrNoKeys) {
			t.Errorf("KeySet: %v", err)
		}
		keys.Close()
		keys.Offer(set)
		if got, asOf, err := keys.KeySet(); got != set || !asOf.Equal(time.Now()) || err != nil {
			t.Errorf("KeySet after an offer: as of %s, %v", asOf, err)
		}
	})
}

// Where a set is offered while a fetch is under way, nobody knows which is newer: the offered one
// stays, and nothing is concluded.
func TestOfferDuringAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := tokentest.New(t)
		fetched, offered := a.KeySet(), keySet(t, tokentest.KeyOf(&a.Other.PublicKey))
		answer := make(chan struct{})
		keys := token.NewRemoteKeys(func(context.Context) (*token.KeySet, error) { <-answer; return fetched, nil },
			time.Minute, time.Now)
		defer keys.Close()
		v := verifier(t, token.Config{Keys: keys})
		keys.Offer(offered)
		stored := time.Now()
		raw := a.Token(token.User, tokentest.Ulla, "ulla@example.com")
		result := make(chan error)
		go func() {
			_, err := v.VerifyAccessAt(t.Context(), raw, stored, 1)
			result <- err
		}()
		synctest.Wait()
		keys.Offer(offered)
		close(answer)
		if err := <-result; !errors.Is(err, token.ErrUndecided) {
			t.Errorf("the event: %v", err)
		}
		if got, _, _ := keys.KeySet(); got != offered {
			t.Error("the offered set was replaced by one that was asked for before it")
		}
	})
}

// A caller whose context ends while it waits for keys is told that nothing was decided, and why.
func TestContextEndsInAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := tokentest.New(t)
		keys := token.NewRemoteKeys(func(ctx context.Context) (*token.KeySet, error) {
			<-ctx.Done()
			return nil,
				ctx.Err()
		}, time.Minute, time.Now)
		defer keys.Close()
		v := verifier(t, token.Config{Keys: keys})
		raw := a.Token(token.User, tokentest.Ulla, "ulla@example.com")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c, err := v.Verify(ctx, raw)
		wantUndecided(t, "a request without a set", token.ErrNoKeys, err, c)
		time.Sleep(time.Minute) //nolint:forbidigo // on the clock of the synctest bubble
		keys.Offer(keySet(t, tokentest.KeyOf(&a.Other.PublicKey)))
		for _, event := range []bool{false, true} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			verify := v.Verify
			if event {
				verify = func(ctx context.Context, raw string) (token.Claims,
					error) {
					return v.VerifyAccessAt(ctx, raw, time.Now(), 1)
				}
			}
			c, err := verify(ctx, a.Token(token.User, tokentest.Ulla, "ulla@example.com"))
			wantUndecided(t, fmt.Sprintf("event %v", event), token.ErrUndecided, err, c)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("event %v: the cause is lost: %v", event, err)
			}
		}
	})
}

// The last good set stays whatever a fetch brings, a clock that is set back does not stop fetching,
// and the as-of time is when the fetch began.
func TestLastGoodSetStays(t *testing.T) {
	a := tokentest.New(t)
	clock := newClock(start)
	src := &source{set: a.KeySet()}
	var during func()
	keys := token.NewRemoteKeys(func(ctx context.Context) (*token.KeySet, error) {
		if during != nil {
			during()
		}
		return src.fetch(ctx)
	}, 10*time.Second, clock.Now)
	t.Cleanup(keys.Close)
	check := func(what string, asked bool, wantAsked bool, wantAsOf time.Time) {
		t.Helper()
		set, asOf, err := keys.KeySet()
		if asked != wantAsked || set != a.KeySet() || !asOf.Equal(wantAsOf) || err != nil {
			t.Errorf("%s: asked %v, as of %s, %v", what, asked, asOf, err)
		}
	}
	during = func() { clock.Advance(3 * time.Second) }
	check("the first", keys.Refresh(t.Context()), true, start)
	during = nil
	clock.Set(start.Add(10 * time.Second))
	src.answer(nil, errDown)
	check("the source is down", keys.Refresh(t.Context()), false, start)
	clock.Advance(10 * time.Second)
	src.answer(nil, nil)
	check("no set and no error", keys.Refresh(t.Context()), false, start)
	keys.Offer(nil)
	check("an offer of nothing", false, false, start)
	src.answer(a.KeySet(), nil)
	back := start.Add(-time.Hour)
	clock.Set(back)
	check("the clock was set back", keys.Refresh(t.Context()), true, back)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	clock.Advance(time.Hour)
	before := src.fetches()
	check("a caller that has gone already", keys.Refresh(ended), false, back)
	keys.Close() // which would await the fetch
	if src.fetches() != before {
		t.Error("it was asked for a caller that has gone already")
	}
}

func TestStaticKeys(t *testing.T) {
	a := tokentest.New(t)
	keys := token.StaticKeys(a.KeySet())
	set, asOf, err := keys.KeySet()
	if set != a.KeySet() || asOf.Before(start.AddDate(100, 0, 0)) || err != nil || keys.Refresh(t.Context()) {
		t.Errorf("KeySet: as of %s, %v", asOf, err)
	}
	if _, _, err := token.StaticKeys(nil).KeySet(); !errors.Is(err, token.ErrNoKeys) {
		t.Errorf("no set: %v", err)
	}
	raw := a.Raw(a.Private, strings.Replace(a.Header(), token.Thumbprint(&a.Private.PublicKey), strings.Repeat("A", 43),
		1),
		a.Claims("user", tokentest.Ulla, "ulla@example.com", a.Now(), a.Now().Add(time.Hour)))
	c, err := a.Verifier().VerifyAccessAt(t.Context(), raw, a.Now(), 1)
	wantRefused(t, "an unknown key", "unknown_key", c, err)
}
