package authsvc_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/authtest"
	"github.com/example/pillion/bus"
)

// If ending a session fails halfway, the next use of its refresh token finishes it, and is
// refused.
func TestEndingIsFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		first := k.kim(t)
		second := k.mustRefresh(t, first.Refresh)
		third := k.mustRefresh(t, second.Refresh)
		k.revoked.fail(bus.ErrUnavailable)
		w := k.ask(t, refreshWith(first.Refresh), http.StatusServiceUnavailable, "try again")
		if w.Header().Get("Retry-After") == "" {
			t.Error("503 without Retry-After")
		}
		if n := testutil.ToFloat64(counter(t, k, "pillion_refreshes_total", "reused")); n != 1 {
			t.Errorf("%v reuses counted, want 1", n)
		}
		// Over, and not said before it is.
		k.ask(t, refreshWith(third.Refresh), http.StatusServiceUnavailable, "")
		k.revoked.fail(nil)
		k.wantNoRefresh(t, third.Refresh)
		if got := k.revoked.take(); len(got) != 1 || got[0].Session != first.Refresh[:26] {
			t.Errorf("revoked %v", got)
		}
		k.wantTakenBack(t, third.Token)
		if keys := k.config.Sessions.(*authtest.Sessions).Keys(); len(keys) != 0 {
			t.Errorf("%d sessions are left", len(keys))
		}
	})
}

// old is a store whose reads may be older than its acknowledged writes, as those of a replica
// may be.
type old struct {
	*authtest.Sessions
	value    []byte
	revision uint64
	reads    int // how many of the next reads are old
}

func (s *old) Get(ctx context.Context, key string) ([]byte, uint64, error) {
	if s.reads > 0 {
		s.reads--
		return s.value, s.revision, nil
	}
	return s.Sessions.Get(ctx, key)
}

// A token that is newer than the record means an old read, and does not end the session.
func TestOldReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &old{Sessions: new(authtest.Sessions)}
		k := newKit(t, func(c *authsvc.Config, _ *authsvc.HasherConfig) { c.Sessions = store })
		kim := k.kim(t)
		var err error
		if store.value, store.revision, err = store.Sessions.Get(t.Context(), kim.Refresh[:26]); err != nil {
			t.Fatal(err)
		}
		second := k.mustRefresh(t, kim.Refresh)
		store.reads = 1
		// What it would write over is not there any more.
		if again := k.mustRefresh(t, kim.Refresh); again.Refresh != second.Refresh {
			t.Error("an old read made a second successor")
		}
		store.reads = 3
		third := k.mustRefresh(t, second.Refresh)
		store.reads = 1 << 20 // restored from a backup
		k.wantNoRefresh(t, third.Refresh)
		store.reads = 0
		k.mustRefresh(t, third.Refresh)
		if got := k.revoked.take(); got != nil {
			t.Errorf("revoked %v", got)
		}
	})
}

func TestBrokenSessionRecords(t *testing.T) {
	k := newKit(t)
	store := k.config.Sessions.(*authtest.Sessions)
	kim, tim := k.kim(t), k.mustOpen(t, "kim@example.com", goodPassword, "user")
	id := kim.Refresh[:26]
	good, _, err := store.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	another, _, err := store.Get(t.Context(), tim.Refresh[:26])
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"not JSON": "\x00", "empty": "", "nothing": "{}", "another's": string(another),
		"a later version": strings.Replace(string(good), `"v":1`, `"v":2`, 1),
		"no hash":         strings.Replace(string(good), `"current":"`, `"current":"","x":"`, 1),
		"no mark":         strings.Replace(string(good), `"mark":"`, `"mark":"AAAA","x":"`, 1),
		"generation 0":    strings.Replace(string(good), `"generation":1`, `"generation":0`, 1),
	} {
		_, revision, err := store.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Update(t.Context(), id, []byte(value), revision); err != nil {
			t.Fatal(err)
		}
		if w := k.do(refreshWith(kim.Refresh)); w.Code != http.StatusInternalServerError ||
			strings.Contains(w.Body.String(), "record") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}
