package retry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/retry"
)

var (
	errAway  = fault.New(fault.Unavailable, "away", "Away.")
	errWrong = errors.New("wrong")
)

// failing returns a call that fails with an error n times and then succeeds, and a counter of its
// calls.
func failing(n int, with error) (op func() (int, error), calls *int) {
	calls = new(int)
	return func() (int, error) {
		if *calls++; *calls > n {
			return *calls, nil
		}
		return 0, with
	}, calls
}

func TestGet(t *testing.T) {
	slow := retry.Policy{First: time.Second, Longest: 4 * time.Second}
	for _, test := range []struct {
		name   string
		policy func(retry.Policy) retry.Policy
		fails  int
		with   error
		limit  time.Duration // of the context; zero: none
		want   []error
		calls  int
		least  time.Duration
		most   time.Duration
	}{
		{name: "success", calls: 1},
		{name: "pauses double and stay", fails: 4, with: errWrong, calls: 5, least: 11 * time.Second / 2, most: 17 * time.Second},
		{name: "permanent", fails: 9, with: retry.Permanent(errWrong), want: []error{errWrong}, calls: 1},
		{
			name: "not worth it", fails: 9, with: errWrong, want: []error{errWrong}, calls: 1,
			policy: func(p retry.Policy) retry.Policy { p.When = retry.Unavailable; return p },
		},
		{
			name: "worth it", fails: 1, with: errAway, calls: 2, least: time.Second / 2, most: 2 * time.Second,
			policy: func(p retry.Policy) retry.Policy { p.When = retry.Unavailable; return p },
		},
		{
			name: "tries", fails: 9, with: errAway, want: []error{errAway}, calls: 2, least: time.Second / 2,
			most:   2 * time.Second,
			policy: func(p retry.Policy) retry.Policy { p.Tries = 2; return p },
		},
		{
			name: "permanent at the last try", fails: 9, with: retry.Permanent(errWrong), want: []error{errWrong},
			calls:  1,
			policy: func(p retry.Policy) retry.Policy { p.Tries = 1; return p },
		},
		{
			name: "no pause that ends too late", fails: 9, with: errAway, want: []error{errAway}, calls: 1,
			policy: func(p retry.Policy) retry.Policy { p.Within = time.Second / 2; return p },
		},
		{
			name: "ctx ends", fails: 9, with: errAway, limit: time.Second / 2, calls: 1,
			want: []error{errAway, context.DeadlineExceeded}, least: time.Second / 2, most: time.Second / 2,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := slow
				if test.policy != nil {
					p = test.policy(p)
				}
				ctx := t.Context()
				if test.limit > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.limit)
					defer cancel()
				}
				op, calls := failing(test.fails, test.with)
				began := time.Now()
				v, err := retry.Get(ctx, p, op)
				took := time.Since(began)
				if test.want == nil && (err != nil || v != test.calls) {
					t.Errorf("Get() = %d, %v, want %d, nil", v, err, test.calls)
				}
				for _, want := range test.want {
					if !errors.Is(err, want) {
						t.Errorf("error = %v, want one that wraps %v", err, want)
					}
				}
				if *calls != test.calls {
					t.Errorf("%d calls, want %d", *calls, test.calls)
				}
				if took < test.least || took > test.most {
					t.Errorf("took %v, want %v to %v", took, test.least, test.most)
				}
			})
		})
	}
}

// The error tells why the calls failed before ctx ended, even if the last one failed because it
// did.
func TestEndDuringCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, p := range []retry.Policy{
			{First: time.Second, Longest: time.Second},
			{First: time.Second, Longest: time.Second, When: retry.Unavailable},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			calls := 0
			err := p.Do(ctx, func() error {
				if calls++; calls == 1 {
					return errAway
				}
				<-ctx.Done()
				return ctx.Err()
			})
			cancel()
			if !errors.Is(err, errAway) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error = %v, want one that wraps %v and %v", err, errAway, context.DeadlineExceeded)
			}
		}
	})
}

// A session that makes progress is started again after a short pause, however often that has
// happened.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var pauses []time.Duration
		p := retry.Policy{
			First: time.Second, Longest: time.Hour,
			Notify: func(_ error, pause time.Duration) { pauses = append(pauses, pause) },
		}
		sessions := 0
		err := p.Keep(ctx, func(progress func()) error {
			if sessions++; sessions == 10 {
				cancel()
			}
			progress()
			return errWrong
		})
		if !errors.Is(err, context.Canceled) || !errors.Is(err, errWrong) || sessions != 10 {
			t.Errorf("Keep() = %v after %d sessions, want %v and %v after 10", err, sessions, context.Canceled, errWrong)
		}
		for _, pause := range pauses {
			if pause > 3*time.Second/2 {
				t.Errorf("pauses grew to %v although each session made progress", pause)
			}
		}
	})
}

func TestKeepGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retry.Policy{First: time.Second, Longest: time.Second,
			When: func(err error) bool { return !errors.Is(err, errWrong) }}
		op, calls := failing(2, errAway)
		err := p.Keep(t.Context(), func(func()) error {
			if _, err := op(); err != nil {
				return err
			}
			return errWrong
		})
		if !errors.Is(err, errWrong) || *calls != 3 {
			t.Errorf("Keep() = %v after %d sessions, want %v after 3", err, *calls, errWrong)
		}
	})
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if !retry.Sleep(t.Context(), time.Second) {
			t.Error("Sleep() = false although the context lasts")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if retry.Sleep(ctx, time.Minute) {
			t.Error("Sleep() = true although the context ended first")
		}
	})
}
