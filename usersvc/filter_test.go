package usersvc_test

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/web/webtest"
)

// all returns every page of a list, limit at a time, and fails the test where a page is short while
// there are more.
func (e *env) all(user, limit, query string) []booking.ID {
	e.t.Helper()
	var all []booking.ID
	for next, i := "", 0; i == 0 || next != ""; i++ {
		q := "?limit=" + limit + "&" + query
		if next != "" {
			q += "&cursor=" + next
		}
		ids, cursor := e.page(user, q)
		if cursor != "" && strconv.Itoa(len(ids)) != limit {
			e.t.Errorf("?%s: a page of %d, although there are more", q, len(ids))
		}
		all = append(all, ids...)
		next = cursor
	}
	return all
}

func TestListByStateAndTime(t *testing.T) {
	e := newEnv(t)
	states := booking.States()[1:]
	var mine []booking.ID
	var at []time.Time
	for i := range 3 * len(states) {
		e.ahead.Store(int64(time.Duration(i) * 10 * time.Minute))
		id := e.book(ulla)
		e.book(uwe)
		e.bring(id, states[i%len(states)]) // which may put the clock ahead
		b, err := e.desk.Show(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		mine, at = append(mine, id), append(at, b.RequestedAt)
	}
	want := func(ok func(i int) bool) (ids []booking.ID) {
		for i := len(mine) - 1; i >= 0; i-- {
			if ok(i) {
				ids = append(ids, mine[i])
			}
		}
		return ids
	}
	in := func(wanted ...booking.State) func(int) bool {
		return func(i int) bool { return slices.Contains(wanted, states[i%len(states)]) }
	}
	stamp := func(t time.Time) string { return url.QueryEscape(t.Format(time.RFC3339Nano)) }
	type list struct {
		query string
		want  []booking.ID
	}
	lists := []list{
		{"", want(func(int) bool { return true })},
		{"state=open,accepted", want(in(booking.StateOpen, booking.StateAccepted))},
		{"state=open&state=accepted", want(in(booking.StateOpen, booking.StateAccepted))},
		{"state=completed,cancelled&state=expired", want(in(booking.StateCompleted, booking.StateCancelled, booking.StateExpired))},
		{"since=" + stamp(at[5]), want(func(i int) bool { return i >= 5 })},
		{"since=" + stamp(at[5].Add(1)), want(func(i int) bool { return i > 5 })},
		{"until=" + stamp(at[5]), want(func(i int) bool { return i < 5 })},
		{"since=" + stamp(at[3]) + "&until=" + stamp(at[12]), want(func(i int) bool { return 3 <= i && i < 12 })},
		{"since=" + stamp(at[3].In(time.FixedZone("", 19800))), want(func(i int) bool { return i >= 3 })},
		// its plus is not escaped
		{"since=" + at[3].In(time.FixedZone("", 19800)).Format(time.RFC3339Nano), want(func(i int) bool { return i >= 3 })},
		{"since=" + stamp(at[12]) + "&until=" + stamp(at[3]), nil},
		{"since=" + stamp(at[3]) + "&state=completed", want(func(i int) bool { return i >= 3 && in(booking.StateCompleted)(i) })},
	}
	for _, s := range states {
		lists = append(lists, list{"state=" + string(s), want(in(s))})
	}
	for _, l := range lists {
		for _, limit := range []string{"1", "2", "10"} {
			if got := e.all(ulla, limit, l.query); !slices.Equal(got, l.want) {
				t.Errorf("?%s in pages of %s:\n %v, want\n %v", l.query, limit, got, l.want)
			}
		}
	}
}

func TestListRefusesBadFilters(t *testing.T) {
	e := newEnv(t)
	for _, query := range []string{
		"state=", "state=Open", "state=open,", "state=none", "state=open;accepted", "state=open,%00",
		"since=", "since=yesterday", "since=2026-03-01", "since=2026-03-01T08:00:00Z&since=2026-03-01T08:00:00Z",
		"until=1", "until=2026-02-30T00:00:00Z",
	} {
		if w := e.call("GET", "/bookings?"+query, e.user(ulla), ""); w.Code != http.StatusBadRequest {
			t.Errorf("?%s: answer %d %q", query, w.Code, w.Body)
		}
	}
}

// What the other side gave is shown once one has given oneself.
func TestStars(t *testing.T) {
	e := newEnv(t)
	id := e.book(ulla)
	e.bring(id, booking.StateCompleted)
	stars := func() [2]any {
		v := webtest.Object(t, e.call("GET", "/bookings/"+string(id), e.user(ulla), ""))
		return [2]any{v["user_stars"], v["raider_stars"]}
	}
	if _, err := e.desk.Rate(t.Context(), command(booking.Rider, rita), id, 2); err != nil {
		t.Fatal(err)
	}
	if got := stars(); got != [2]any{nil, nil} {
		t.Errorf("the rider has rated, and the user sees %v", got)
	}
	if _, err := e.desk.Rate(t.Context(), command(booking.User, ulla), id, 5); err != nil {
		t.Fatal(err)
	}
	if got := stars(); got != [2]any{5.0, 2.0} {
		t.Errorf("both have rated, and the user sees %v", got)
	}
}
