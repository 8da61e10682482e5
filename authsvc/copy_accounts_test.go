package authsvc_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/authtest"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/token"
)

func TestCopyAccounts(t *testing.T) {
	from, to := new(authtest.Accounts), authsvc.NewAccounts(bustest.Run(t).Connect(t).Bucket(bus.AccountsBucket))
	for i := range 20 {
		a := authtest.Account(t, fmt.Sprintf("user-%d@example.com", i), token.User)
		a.Disabled, a.SessionEpoch = i%2 == 0, i
		if i > 0 {
			a.NotBefore = time.Unix(int64(1_700_000_000+i), 0).UTC()
		}
		if err := from.Create(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	// Two pairs are taken there: one by somebody else, one by the same account, which has changed
	// since.
	stranger := authtest.Account(t, "user-3@example.com", token.User)
	changed, err := from.Find(t.Context(), "user-4@example.com", token.User)
	if err != nil {
		t.Fatal(err)
	}
	changed.SessionEpoch++
	for _, a := range []authsvc.Account{stranger, changed} {
		if err := to.Create(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []struct{ copied, there int }{{18, 0}, {0, 18}} {
		report, err := authsvc.CopyAccounts(t.Context(), from, to)
		if err != nil || report.Copied != want.copied || report.Existing != want.there || len(report.Differ) != 2 {
			t.Fatalf("%+v, %v; want %+v and 2 that differ", report, err, want)
		}
	}
	if a, err := to.Find(t.Context(), "user-3@example.com", token.User); err != nil || a.ID != stranger.ID {
		t.Errorf("an account was overwritten: %v, %v", a, err)
	}
	if a, err := to.Find(t.Context(), "user-7@example.com", token.User); err != nil || a.SessionEpoch != 7 ||
		a.Disabled {
		t.Errorf("copied as %v, %v", a, err)
	}
	if _, err := authsvc.CopyAccounts(t.Context(), brokenStore{bus.ErrUnavailable}, to); err == nil {
		t.Error("nothing could be read, and all went well")
	}
}
