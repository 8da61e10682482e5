package authsvc_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/token"
)

// An instance that cannot trust its clock lets nobody in and counts nothing, since waits and
// sessions end by the clock. The published keys do not depend on it.
func TestClockThatIsOff(t *testing.T) {
	var off error
	k := newKit(t, func(c *authsvc.Config, _ *authsvc.HasherConfig) { c.Clock = func() error { return off } })
	open := k.kim(t)
	k.hashes.take()
	off = token.ErrClock.Because(errors.New("it is an hour ahead"))
	for _, r := range []*http.Request{
		post("/login", body("kim@example.com", goodPassword, "user")),
		post("/register", body("ada@example.com", goodPassword, "user")),
		post("/refresh", `{"refresh_token":"`+open.Refresh+`"}`),
		post("/password", `{"current":"`+goodPassword+`","new":"another good one"}`),
		post("/logout", `{}`),
	} {
		w := k.ask(t, r, http.StatusServiceUnavailable, "clock")
		if w.Header().Get("Retry-After") != "5" {
			t.Errorf("%s: Retry-After is %q", r.URL.Path, w.Header().Get("Retry-After"))
		}
	}
	if n := len(k.hashes.take()); n != 0 {
		t.Errorf("%d passwords were looked at", n)
	}
	k.ask(t, httptest.NewRequest(http.MethodGet, "/public-key", nil), http.StatusOK, "PUBLIC KEY")
	off = nil
	k.mustOpen(t, "kim@example.com", goodPassword, "user")
}

// A client that was refused because of the clock is not a thief when it comes back.
func TestClockIsNoTheft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var off error
		k := newKit(t, func(c *authsvc.Config, _ *authsvc.HasherConfig) { c.Clock = func() error { return off } })
		kim := k.kim(t)
		next := k.mustRefresh(t, kim.Refresh)
		after(9 * time.Second)
		off = token.ErrClock.Because(errors.New("it is an hour ahead"))
		k.ask(t, refreshWith(kim.Refresh), http.StatusServiceUnavailable, "clock")
		after(time.Minute)
		off = nil
		if again := k.mustRefresh(t, kim.Refresh); again.Refresh != next.Refresh {
			t.Error("another successor")
		}
		after(10*time.Second + 1)
		k.wantNoRefresh(t, kim.Refresh)
	})
}
