package ridersvc_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/web/bookings"
	"github.com/example/pillion/web/webtest"
)

// page is one answer of GET /open-bookings.
func (e *env) page(query string) (ids []booking.ID, next string) {
	e.t.Helper()
	v := webtest.Object(e.t, e.call("GET", "/open-bookings"+query, e.rider(rita), ""))
	for _, b := range v["bookings"].([]any) {
		ids = append(ids, booking.ID(b.(map[string]any)["booking_id"].(string)))
	}
	next, _ = v["next_cursor"].(string)
	return ids, next
}

func TestOpenShowsTheRideAndNothingOfTheUser(t *testing.T) {
	e := newEnv(t)
	if w := e.call("GET", "/open-bookings", e.rider(rita), ""); w.Body.String() != `{"bookings":[]}` {
		t.Errorf("without bookings the answer is %s", w.Body)
	}
	id := e.bookTrip(booking.Trip{Pickup: &booking.Place{Lat: 1, Lng: 2}, Dropoff: &booking.Place{Lat: 3, Lng: 4}})
	b, err := e.desk.Show(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	got := webtest.Object(t, e.call("GET", "/open-bookings", e.rider(rita), ""))
	want := map[string]any{"bookings": []any{map[string]any{
		"booking_id": string(id),
		"pickup":     map[string]any{"lat": 1.0, "lng": 2.0},
		"dropoff":    map[string]any{"lat": 3.0, "lng": 4.0},
		"opened_at":  jsontime.Format(b.OpenedAt),
		"deadline":   jsontime.Format(b.Deadline),

		"distance_m": 314_403.0, "minutes": 524.0, "fare": 100.0 + 15_720 + 6288, "currency": "EUR",
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
}

func TestOpenIsLongestWaitingFirst(t *testing.T) {
	e := newEnv(t)
	var open []booking.ID
	for i := range 9 {
		id := e.book()
		switch i {
		case 2:
			e.do(e.desk.Accept(t.Context(), command(booking.Rider, rita), id))
		case 4:
			e.do(e.desk.Cancel(t.Context(), command(booking.User, ulla), id, ""))
		default:
			open = append(open, id)
		}
	}
	// The first is given back, so that it waits again, behind the others.
	e.do(e.desk.Accept(t.Context(), command(booking.Rider, rolf), open[0]))
	e.do(e.desk.Release(t.Context(), command(booking.Rider, rolf), open[0], ""))
	open = append(open[1:], open[0])

	for _, limit := range []string{"1", "3", "7", "100"} {
		var got []booking.ID
		for next, i := "", 0; i == 0 || next != ""; i++ {
			query := "?limit=" + limit
			if next != "" {
				query += "&cursor=" + next
			}
			var ids []booking.ID
			ids, next = e.page(query)
			got = append(got, ids...)
		}
		if !slices.Equal(got, open) {
			t.Errorf("in pages of %s: %v, want %v", limit, got, open)
		}
	}
	e.ahead.Store(int64(2 * deadline))
	if ids, _ := e.page(""); len(ids) != 0 {
		t.Errorf("after the deadline %v", ids)
	}
}

func TestOpenWithoutWhatWasAcceptedHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		first, second := e.book(), e.book()
		e.ledger.Hold()
		won(t, e.accept(rita, "{}"), rita, first)
		got := make(chan []booking.ID, 1)
		go func() {
			ids, _ := e.page("")
			got <- ids
		}()
		synctest.Wait()
		if len(got) != 0 {
			t.Fatalf("the list did not wait for the board: %v", <-got)
		}
		e.ledger.Release(t)
		if ids := <-got; !slices.Equal(ids, []booking.ID{second}) {
			t.Errorf("open are %v, want %v", ids, second)
		}
	})
}

func TestOpenGivesUpOnABoardThatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		id := e.book()
		e.ledger.Hold()
		won(t, e.accept(rita, "{}"), rita, id)
		begun := time.Now()
		later(t, e.call("GET", "/open-bookings", e.rider(rita), ""), bookings.ErrCatchingUp.Message)
		if took := time.Since(begun); took != 2*time.Second {
			t.Errorf("gave up after %s", took)
		}
	})
}

func TestOpenUntilTheBoardIsReady(t *testing.T) {
	e := newEnv(t)
	e.book()
	e.unready = ledger.ErrNotCaughtUp
	later(t, e.call("GET", "/open-bookings", e.rider(rita), ""), bookings.ErrCatchingUp.Message)
	e.unready = nil
	if ids, _ := e.page(""); len(ids) != 1 {
		t.Errorf("%d open, want 1", len(ids))
	}
}

func TestOpenRefusesBadPages(t *testing.T) {
	e := newEnv(t)
	for _, query := range []string{
		"limit=0", "limit=101", "limit=-1", "limit=x", "limit=", "limit=1&limit=2", "limit=99999999999999999999",
		"cursor=x", "cursor=-1", "cursor=", "cursor=1&cursor=1", "cursor=18446744073709551616", "limit=%zz",
	} {
		if w := e.call("GET", "/open-bookings?"+query, e.rider(rita), ""); w.Code != http.StatusBadRequest {
			t.Errorf("?%s: answer %d %q", query, w.Code, w.Body)
		}
	}
}

// A rider who has given a booking back cannot accept it any more, and so no list, stream or offer
// shows it to that rider again.
func TestReleasedIsNotShownAgain(t *testing.T) {
	e := newEnv(t)
	server := httptest.NewServer(e.handler)
	t.Cleanup(server.Close)
	ctx := t.Context()
	e.at(rita, here)
	e.at(rolf, north(10))
	e.tellOffers()
	one := e.bookAt(north(300))
	e.toldOf(rolf, one, "open") // the nearest first
	e.toldOf(rita, one, "open")
	s := webtest.Watch(t, server.URL+"/open-bookings/events", e.rider(rita))
	s.Want("open", string(one))
	s.Want("ready")
	won(t, e.accept(rita, named(one)), rita, one)
	s.Want("gone", string(one))
	for range 2 {
		if n := e.notice(); n.What != "gone" {
			t.Fatalf("told: %+v", n)
		}
	}
	webtest.Object(t, e.post(rita, one, "release", "{}"))
	e.toldOf(rolf, one, "open") // and not rita
	e.at(rita, north(20))

	query := fmt.Sprintf("?lat=%v&lng=%v", here.Lat, here.Lng)
	for _, q := range []string{"", query} {
		if got, _ := e.page(q); len(got) > 0 {
			t.Errorf("/open-bookings%s shows %v", q, got)
		}
	}
	webtest.Refused(t, e.accept(rita, named(one)), http.StatusConflict, booking.ErrReleasedByYou.Message)
	// nor is it said that there are some elsewhere
	webtest.Refused(t, e.accept(rita, "{}"), http.StatusNotFound, noneOpen)
	again := webtest.Watch(t, server.URL+"/open-bookings/events", e.rider(rita))
	again.Want("ready")
	e.do(e.desk.Cancel(ctx, command(booking.User, ulla), one, ""))
	e.toldOf(rolf, one, "gone")

	two := e.bookAt(here)
	e.toldOf(rolf, two, "open")
	e.toldOf(rita, two, "open")
	for _, stream := range []*webtest.Stream{s, again} {
		stream.Want("open", string(two)) // and nothing of the first one
	}
	if got, _ := e.page(query); len(got) != 1 || got[0] != two {
		t.Errorf("near are %v, want %s", got, two)
	}
	if len(e.offers) > 0 {
		t.Errorf("and %+v", <-e.offers)
	}
}

// Pages are as long as they were asked for, whatever the rider has given back.
func TestPagesWithoutWhatWasReleased(t *testing.T) {
	e := newEnv(t)
	var open []booking.ID
	for i := range 9 {
		id := e.book()
		if i%2 == 1 {
			open = append(open, id)
			continue
		}
		e.do(e.desk.Accept(t.Context(), command(booking.Rider, rita), id))
		e.do(e.desk.Release(t.Context(), command(booking.Rider, rita), id, ""))
	}
	first, next := e.page("?limit=3")
	rest, end := e.page("?limit=3&cursor=" + next)
	if got := append(first, rest...); len(first) != 3 || end != "" || !slices.Equal(got, open) {
		t.Errorf("pages of %v and %v, want those of %v", first, rest, open)
	}
}
