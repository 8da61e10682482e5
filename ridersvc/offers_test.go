package ridersvc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/feed"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/web/webtest"
)

// tellOffers lets the service tell riders until the test ends.
func (e *env) tellOffers() {
	e.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.service.Run(ctx) }()
	e.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			e.t.Error(err)
		}
	})
}

// notice waits for the next thing that somebody is told.
func (e *env) notice() feed.Offer {
	e.t.Helper()
	select {
	case n := <-e.offers:
		return n
	case <-time.After(wait.Patience):
		e.t.Fatal("nobody is told anything")
		return feed.Offer{}
	}
}

// toldOf waits until a rider is told that about a booking, and nobody something else before.
func (e *env) toldOf(rider string, id booking.ID, what string) map[string]any {
	e.t.Helper()
	n := e.notice()
	var body map[string]any
	if err := json.Unmarshal(n.Body, &body); err != nil {
		e.t.Fatal(err)
	}
	if string(n.Rider) != rider || n.Booking != id || n.What != what || n.Seq == 0 || n.At.IsZero() ||
		body["v"] != 1.0 || body["seq"] != float64(n.Seq) {
		e.t.Fatalf("%.4s is told that %s is %s: %s; want that %.4s is told that %s is %s", n.Rider, n.Booking, n.What,
			n.Body, rider, id, what)
	}
	webtest.CheckTimes(e.t, n.Body)
	if strings.Contains(string(n.Body), ulla) || strings.Contains(string(n.Body), rider) {
		e.t.Errorf("the offer names a person: %s", n.Body)
	}
	return body
}

// A rider is told once of each open booking that is near, when it opens, when the rider comes near,
// goes online or has time again, and those who were told learn when it is gone.
func TestOffers(t *testing.T) {
	e := newEnv(t)
	far := north(20_000)
	e.at(rita, here)
	e.at(rolf, far)
	e.tellOffers()

	id := e.bookAt(north(500))
	body := e.toldOf(rita, id, "open")
	shown, _ := webtest.Object(t, e.call("GET", fmt.Sprintf("/open-bookings?lat=%v&lng=%v", here.Lat, here.Lng),
		e.rider(rita), ""))["bookings"].([]any)[0].(map[string]any)
	delete(shown, "waiting_seconds") // which is another one at each look
	for name := range body {
		if _, there := shown[name]; !there && name != "v" && name != "seq" {
			t.Errorf("a rider is told %s, which GET /open-bookings does not show", name)
		}
		delete(shown, name)
	}
	if len(shown) > 0 {
		t.Errorf("a rider is not told %v", shown)
	}
	e.at(rita, north(10)) // nothing is told twice
	e.book()              // and what has no place is near nobody

	e.at(rolf, north(1000)) // it comes near
	e.toldOf(rolf, id, "open")
	e.do(e.desk.Accept(t.Context(), command(booking.Rider, rolf), id))
	both := map[string]bool{}
	for range 2 {
		n := e.notice()
		both[string(n.Rider)] = true
		if n.Booking != id || n.What != "gone" || !strings.Contains(string(n.Body), `"why":"accepted"`) {
			t.Errorf("told: %s %s %s", n.Booking, n.What, n.Body)
		}
	}
	if !both[rita] || !both[rolf] {
		t.Errorf("who is told that it is gone: %v", both)
	}

	webtest.Object(t, e.call("POST", "/offline", e.rider(rita), "")) // and rolf is busy
	second := e.bookAt(here)
	e.at(rita, here)
	e.at(rolf, north(900))
	if len(e.offers) > 0 {
		t.Errorf("told, but offline or busy: %+v", <-e.offers)
	}
	// the first is open to others, and rolf has time
	e.do(e.desk.Release(t.Context(), command(booking.Rider, rolf), id, ""))
	e.at(rolf, north(1000))
	e.toldOf(rolf, second, "open")
	webtest.Object(t, e.call("POST", "/online", e.rider(rita), ""))
	e.toldOf(rita, second, "open") // the nearest first
	e.toldOf(rita, id, "open")
	for _, c := range []struct {
		id   booking.ID
		end  func() (booking.Booking, error)
		says string
		told []string
	}{
		{id, func() (booking.Booking, error) {
			return e.desk.Cancel(t.Context(), command(booking.User, ulla), id, "")
		}, "cancelled", []string{rita}},
		{second, func() (booking.Booking, error) {
			e.ahead.Store(int64(2 * deadline))
			return e.desk.Expire(t.Context(), command(booking.Service, cron), second)
		}, "expired", []string{rolf, rita}},
	} {
		e.do(c.end())
		for _, rider := range c.told {
			if got := e.toldOf(rider, c.id, "gone")["why"]; got != c.says {
				t.Errorf("why it is gone: %v, want %s", got, c.says)
			}
		}
	}
	if len(e.offers) > 0 {
		t.Errorf("and %+v", <-e.offers)
	}
}

// While a rider is told of an offer, which may take as long as NATS is slow, the report of a rider
// who is far from all offers is answered.
func TestOffersHoldUpNoReports(t *testing.T) {
	e := newEnv(t)
	id := e.bookAt(here)
	begun, end := make(chan struct{}), make(chan struct{})
	e.telling = func(feed.Offer) {
		close(begun)
		<-end
	}
	var reports sync.WaitGroup
	defer reports.Wait()
	defer close(end)
	reports.Go(func() { e.at(rita, here) })
	<-begun
	answered := make(chan struct{})
	reports.Go(func() {
		defer close(answered)
		e.at(rolf, north(20_000))
	})
	select {
	case <-answered:
	case <-time.After(wait.Patience):
		t.Error("a report waits for what another rider is told")
	}
	if n := len(e.offers); n > 0 {
		t.Errorf("%d were told of %s meanwhile", n, id)
	}
}

// A booking that is accepted between the search for offers and the offer itself is not offered.
func TestNoOfferAfterItsEnd(t *testing.T) {
	e := newEnv(t)
	first, second := e.bookAt(here), e.bookAt(north(100))
	e.telling = func(feed.Offer) { // of the first: the search has found both
		e.telling = nil
		e.do(e.desk.Accept(t.Context(), command(booking.Rider, rolf), second))
	}
	e.at(rita, here)
	e.toldOf(rita, first, "open")
	if len(e.offers) > 0 {
		t.Errorf("told %+v after its end", <-e.offers)
	}
}

// Who reports to another instance is told by that one, and of a crowd only the nearest are told.
func TestOffersAreFew(t *testing.T) {
	e := newEnv(t)
	if _, err := e.fleet.Learn(fleet.Status{Rider: rita, Place: here, At: e.now().UnixMilli(),
		Online: true}); err != nil {
		t.Fatal(err)
	}
	const crowd = 130
	for i := range crowd {
		if _, _, err := e.fleet.Report(booking.RiderID(booking.DeriveID("rider", fmt.Sprint(i))),
			fleet.Fix{Place: north(float64(10*i + 10))}); err != nil {
			t.Fatal(err)
		}
	}
	e.tellOffers()
	id := e.bookAt(here)
	for i := range 100 {
		e.toldOf(booking.DeriveID("rider", fmt.Sprint(i)), id, "open")
	}
	e.at(rolf, north(5)) // too late: enough were told
	e.do(e.desk.Cancel(t.Context(), command(booking.User, ulla), id, ""))
	for i := range 100 {
		e.toldOf(booking.DeriveID("rider", fmt.Sprint(i)), id, "gone")
	}
	if len(e.offers) > 0 {
		t.Errorf("and %+v", <-e.offers)
	}
}

// What becomes of the board while nobody looks, as when verdicts about the past have changed, is
// told afterwards.
func TestOffersAfterARestart(t *testing.T) {
	e := newEnv(t)
	e.at(rita, here)
	e.tellOffers()
	gone, stays := e.bookAt(here), e.bookAt(north(10))
	e.toldOf(rita, gone, "open")
	e.toldOf(rita, stays, "open")
	other := board.New()
	h, err := e.ledger.Load(t.Context(), stays, booking.Fresh)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Apply(h.Events[0]); err != nil {
		t.Fatal(err)
	}
	e.ledger.Board.Become(other)
	e.toldOf(rita, gone, "gone")
	e.do(e.desk.Cancel(t.Context(), command(booking.User, ulla), stays, ""))
	e.toldOf(rita, stays, "gone")
}

// Over NATS, with two instances: riders who connect with their token are told by the one that they
// report to, once, and once more when they report to the other one.
func TestOffersOverNATS(t *testing.T) {
	bustest.Setup{Closed: true}.Sizes(t, func(t *testing.T, e *bustest.Env) {
		x := newTown(t, e, 2)
		e.RunCallout(t, x.auth)
		var feeds []*nats.Subscription
		for i := range 2 {
			nc := e.MustConnectWithToken(t, x.tokens[i])
			feed, err := nc.SubscribeSync(bus.FeedOfRider(x.riders[i]))
			if err == nil {
				err = nc.Flush()
			}
			if err != nil {
				t.Fatal(err)
			}
			feeds = append(feeds, feed)
		}
		next := func(rider int, id booking.ID, what string) string {
			t.Helper()
			for {
				m, err := feeds[rider].NextMsg(30 * time.Second)
				if err != nil {
					t.Fatalf("rider %d is not told that the booking is %s: %v", rider, what, err)
				}
				about, is := strings.Split(m.Subject, "."), m.Header.Get("ce-id")
				if len(about) != 7 || about[3] != "open" || m.Header.Get("Authorization") != "" ||
					strings.Contains(string(m.Data), ulla) {
					t.Fatalf("rider %d: %s %v %s", rider, m.Subject, m.Header, m.Data)
				}
				if about[4] != string(id) {
					continue // a greeting
				}
				if about[6] != what || is != strings.Join(about[4:], ".") {
					t.Fatalf("rider %d: %s %s, want %s", rider, m.Subject, is, what)
				}
				return is
			}
		}
		// Each reports to an instance of its own, and again until the servers know of its
		// subscription.
		greeting := booking.ID(booking.NewID())
		x.bookAt(t, greeting, here)
		for i := range 2 {
			x.at(t, i, i, here)
		}
		id := booking.ID(booking.NewID())
		x.bookAt(t, id, north(100))
		said := next(0, id, "open")
		if other := next(1, id, "open"); other != said {
			t.Errorf("the same has two ids: %s and %s", said, other)
		}
		x.at(t, 0, 1, north(20)) // now the first one reports to the other instance
		if again := next(0, id, "open"); again != said {
			t.Errorf("the same has two ids: %s and %s", said, again)
		}
		if _, err := x.desk.Cancel(t.Context(), x.byUser(), id, ""); err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{next(0, id, "gone"): 1}
		seen[next(0, id, "gone")]++ // by each of the instances that have told that it is open
		seen[next(1, id, "gone")]++
		if len(seen) != 1 {
			t.Errorf("the same has several ids: %v", seen)
		}
		for i := range 2 {
			if m, err := feeds[i].NextMsg(50 * time.Millisecond); err == nil &&
				strings.Contains(m.Subject, string(id)) {
				t.Errorf("rider %d is also told %s", i, m.Subject)
			}
		}
	})
}

// bookAt books a ride from a place.
func (x *town) bookAt(t *testing.T, id booking.ID, p booking.Place) {
	t.Helper()
	if _, err := x.desk.Book(t.Context(), x.byUser(), id, booking.Trip{Pickup: &p,
		Dropoff: &booking.Place{Lat: p.Lat + 0.01, Lng: p.Lng}}); err != nil {
		t.Fatal(err)
	}
}
