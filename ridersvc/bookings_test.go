package ridersvc_test

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/bookingtest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/web/bookings"
	"github.com/example/pillion/web/webtest"
)

// bring takes an open booking to a state, with rita as its rider where it has one.
func (e *env) bring(id booking.ID, to booking.State) {
	e.t.Helper()
	ctx := e.t.Context()
	steps := []struct {
		to booking.State
		do func() (booking.Booking, error)
	}{
		{booking.StateAccepted, func() (booking.Booking, error) { return e.desk.Accept(ctx, command(booking.Rider, rita), id) }},
		{booking.StateArrived, func() (booking.Booking, error) { return e.desk.Arrive(ctx, command(booking.Rider, rita), id) }},
		{booking.StateStarted, func() (booking.Booking, error) { return e.desk.Start(ctx, command(booking.Rider, rita), id) }},
		{booking.StateCompleted, func() (booking.Booking, error) { return e.desk.Complete(ctx, command(booking.Rider, rita), id) }},
	}
	switch to {
	case booking.StateOpen:
		return
	case booking.StateCancelled:
		e.do(steps[0].do())
		e.do(e.desk.Cancel(ctx, command(booking.User, ulla), id, "rain"))
		return
	case booking.StateExpired:
		e.ahead.Add(int64(2 * deadline))
		e.do(e.desk.Expire(ctx, command(booking.Service, cron), id))
		return
	}
	for _, s := range steps {
		e.do(s.do())
		if s.to == to {
			return
		}
	}
}

// history is one answer of GET /bookings.
func (e *env) history(rider, query string) (ids []booking.ID, next string) {
	e.t.Helper()
	v := webtest.Object(e.t, e.call("GET", "/bookings"+query, e.rider(rider), ""))
	for _, b := range v["bookings"].([]any) {
		ids = append(ids, booking.ID(b.(map[string]any)["booking_id"].(string)))
	}
	next, _ = v["next_cursor"].(string)
	return ids, next
}

func TestShowIsForItsRider(t *testing.T) {
	e := newEnv(t, bookingtest.WithStaleReads(100)) // only a fresh read knows anything
	id := e.bookTrip(booking.Trip{Pickup: &booking.Place{Lat: 1, Lng: 2}, Dropoff: &booking.Place{Lat: 3, Lng: 4}})
	e.bring(id, booking.StateCompleted)
	show := func() map[string]any {
		return webtest.Object(t, e.call("GET", "/bookings/"+string(id), e.rider(rita), ""))
	}
	b, err := e.desk.Show(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"booking_id": string(id), "state": "completed", "user_id": ulla,
		"pickup": map[string]any{"lat": 1.0, "lng": 2.0}, "dropoff": map[string]any{"lat": 3.0, "lng": 4.0},
		"distance_m": 314_403.0, "minutes": 524.0, "fare": 100.0 + 15_720 + 6288, "currency": "EUR",
		"requested_at": jsontime.Format(b.RequestedAt), "updated_at": jsontime.Format(b.UpdatedAt),
	}
	if diff := cmp.Diff(want, show()); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	e.do(e.desk.Rate(t.Context(), command(booking.User, ulla), id, 2))
	if v := show(); v["user_stars"] != nil || v["raider_stars"] != nil {
		t.Errorf("the user has rated, and the rider sees %v", v)
	}
	e.do(e.desk.Rate(t.Context(), command(booking.Rider, rita), id, 5))
	if v := show(); v["user_stars"] != 2.0 || v["raider_stars"] != 5.0 {
		t.Errorf("both have rated, and the rider sees %v", v)
	}
	cancelled := e.book()
	e.bring(cancelled, booking.StateCancelled)
	if v := webtest.Object(t, e.call("GET", "/bookings/"+string(cancelled), e.rider(rita),
		"")); v["state"] != "cancelled" || v["reason"] != "rain" {
		t.Errorf("a cancelled one is %v", v)
	}
}

// Whether a booking is there is its parties' business: all others get the very answer of one that
// is not.
func TestOtherRidersLearnNothing(t *testing.T) {
	same := func(t *testing.T, e *env, rider string, id booking.ID) {
		t.Helper()
		theirs := e.call("GET", "/bookings/"+string(id), e.rider(rider), "", "X-Request-Id", "r")
		none := e.call("GET", "/bookings/"+wrong, e.rider(rider), "", "X-Request-Id", "r")
		webtest.Refused(t, theirs, http.StatusNotFound, booking.ErrNotFound.Message)
		webtest.Refused(t, none, http.StatusNotFound, booking.ErrNotFound.Message)
		if diff := cmp.Diff(none.Header(), theirs.Header()); diff != "" {
			t.Errorf("the answers' headers differ:\n%s", diff)
		}
		if ids, _ := e.history(rider, ""); len(ids) != 0 {
			t.Errorf("the list has %v", ids)
		}
	}
	for _, state := range booking.States()[1:] {
		t.Run(string(state), func(t *testing.T) {
			e := newEnv(t)
			id := e.book()
			e.bring(id, state)
			same(t, e, rolf, id)
			if state == booking.StateOpen || state == booking.StateExpired {
				same(t, e, rita, id) // nor does anybody who could have accepted it
			}
		})
	}
	t.Run("given back", func(t *testing.T) {
		e := newEnv(t)
		id := e.book()
		e.bring(id, booking.StateArrived)
		e.do(e.desk.Release(t.Context(), command(booking.Rider, rita), id, ""))
		same(t, e, rita, id)
		e.do(e.desk.Accept(t.Context(), command(booking.Rider, rolf), id))
		same(t, e, rita, id)
		if ids, _ := e.history(rolf, ""); !slices.Equal(ids, []booking.ID{id}) {
			t.Errorf("the present rider has %v", ids)
		}
	})
}

func TestShowMalformedIDs(t *testing.T) {
	e := newEnv(t)
	for _, id := range []string{"x", strings.ToUpper(wrong), wrong + "a", wrong[1:], "%3E", "..%2f..", "%00"} {
		webtest.Refused(t, e.call("GET", "/bookings/"+id, e.rider(rita), ""), http.StatusBadRequest,
			booking.ErrInvalidID.Message)
	}
}

func TestRidersHistory(t *testing.T) {
	e := newEnv(t)
	if w := e.call("GET", "/bookings", e.rider(rita), ""); w.Body.String() != `{"bookings":[]}` {
		t.Errorf("without bookings the answer is %s", w.Body)
	}
	// One is under way at a time, so only the last one is.
	had := func(i int) booking.State {
		switch {
		case i == 11:
			return booking.StateStarted
		case i%3 == 1:
			return booking.StateCancelled
		}
		return booking.StateCompleted
	}
	in := func(states ...booking.State) func(int) bool {
		return func(i int) bool { return slices.Contains(states, had(i)) }
	}
	var mine []booking.ID
	var at []time.Time
	for i := range 12 {
		e.ahead.Add(int64(10 * time.Minute))
		id := e.book()
		e.bring(id, had(i))
		others := e.book()
		e.do(e.desk.Accept(t.Context(), command(booking.Rider, booking.NewID()), others))
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
	for query, want := range map[string][]booking.ID{
		"":                          want(func(int) bool { return true }),
		"&state=completed":          want(in(booking.StateCompleted)),
		"&state=cancelled,started":  want(in(booking.StateCancelled, booking.StateStarted)),
		"&state=open&state=expired": nil,
		"&until=" + at[6].UTC().Format(time.RFC3339Nano): want(func(i int) bool { return i < 6 }),
		"&state=completed&since=" + at[5].UTC().Format(time.RFC3339Nano): want(func(i int) bool {
			return i >= 5 &&
				had(i) == booking.StateCompleted
		}),
		"&state=cancelled&until=" + at[4].UTC().Format(time.RFC3339Nano): want(func(i int) bool {
			return i < 4 &&
				i%3 == 1
		}),
	} {
		for _, limit := range []int{1, 2, 100} {
			var got []booking.ID
			for next, i := "", 0; i == 0 || next != ""; i++ {
				q := "?limit=" + strconv.Itoa(limit) + query
				if next != "" {
					q += "&cursor=" + next
				}
				var ids []booking.ID
				ids, next = e.history(rita, q)
				if next != "" && len(ids) != limit {
					t.Errorf("%s: a page of %d, although there are more", q, len(ids))
				}
				got = append(got, ids...)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s in pages of %d:\n %v, want\n %v", query, limit, got, want)
			}
		}
	}
	for _, query := range []string{"limit=0", "cursor=x", "state=", "state=gone", "since=1", "until=", "limit=%zz"} {
		if w := e.call("GET", "/bookings?"+query, e.rider(rita), ""); w.Code != http.StatusBadRequest {
			t.Errorf("?%s: answer %d %q", query, w.Code, w.Body)
		}
	}
}

func TestHistoryHasWhatWasAcceptedHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		id := e.book()
		e.ledger.Hold()
		won(t, e.accept(rita, "{}"), rita, id)
		got := make(chan []booking.ID, 1)
		go func() {
			ids, _ := e.history(rita, "")
			got <- ids
		}()
		synctest.Wait()
		if len(got) != 0 {
			t.Fatalf("the list did not wait for the board: %v", <-got)
		}
		e.ledger.Release(t)
		if ids := <-got; !slices.Equal(ids, []booking.ID{id}) {
			t.Errorf("the list is %v, want %v", ids, id)
		}
	})
}

func TestHistoryUntilTheBoardIsReady(t *testing.T) {
	e := newEnv(t)
	id := e.book()
	e.bring(id, booking.StateAccepted)
	e.unready = ledger.ErrNotCaughtUp
	later(t, e.call("GET", "/bookings", e.rider(rita), ""), bookings.ErrCatchingUp.Message)
	// which comes from the ledger
	webtest.Object(t, e.call("GET", "/bookings/"+string(id), e.rider(rita), ""))
}
