package ridersvc_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/ridersvc"
	"github.com/example/pillion/web/bookings"
	"github.com/example/pillion/web/webtest"
)

const noneOpen = "No open bookings"

func TestAnyTakesTheLongestWaiting(t *testing.T) {
	e := newEnv(t)
	webtest.Refused(t, e.accept(rita, "{}"), http.StatusNotFound, noneOpen)
	first, second, third := e.book(), e.book(), e.book()
	// The first is given back, so that it waits again, behind the others.
	e.do(e.desk.Accept(t.Context(), command(booking.Rider, rolf), first))
	e.do(e.desk.Release(t.Context(), command(booking.Rider, rolf), first, ""))
	for _, id := range []booking.ID{second, third, first} {
		won(t, e.accept(rita, "{}"), rita, id)
		e.finish(rita, id)
	}
	webtest.Refused(t, e.accept(rita, "{}"), http.StatusNotFound, noneOpen)
}

func TestAnyPassesOverWhatCannotBeHad(t *testing.T) {
	for _, c := range []struct {
		name   string
		happen func(e *env, id booking.ID)
	}{
		{"accepted", func(e *env, id booking.ID) {
			e.do(e.desk.Accept(e.t.Context(), command(booking.Rider, rolf), id))
		}},
		{"cancelled", func(e *env, id booking.ID) {
			e.do(e.desk.Cancel(e.t.Context(), command(booking.User, ulla), id, ""))
		}},
		{"given back", func(e *env, id booking.ID) {
			e.do(e.desk.Accept(e.t.Context(), command(booking.Rider, rita), id))
			e.do(e.desk.Release(e.t.Context(), command(booking.Rider, rita), id, ""))
		}},
	} {
		for _, seen := range []bool{true, false} { // whether the board shows what has happened
			t.Run(fmt.Sprintf("%s, seen %t", c.name, seen), func(t *testing.T) {
				e := newEnv(t)
				first, second := e.book(), e.book()
				if seen {
					c.happen(e, first)
				} else {
					e.ledger.Then(func() {
						e.ledger.Hold()
						c.happen(e, first)
						e.ledger.Then(func() { e.ledger.Release(t) }) // at the next look
					})
				}
				won(t, e.accept(rita, "{}"), rita, second)
				webtest.Refused(t, e.accept(rita, "{}"), http.StatusNotFound, noneOpen)
			})
		}
	}
}

func TestAnyLeavesTheOverdueAlone(t *testing.T) {
	e := newEnv(t)
	e.book()
	e.ahead.Store(int64(2 * deadline))
	webtest.Refused(t, e.accept(rita, "{}"), http.StatusNotFound, noneOpen)
	id := e.book()
	won(t, e.accept(rita, "{}"), rita, id)
	if n := e.ledger.Tried(); n != 1 {
		t.Errorf("%d appends were tried, want 1", n)
	}
}

// The one booking that this rider can have stands beyond a page of others, and before more of them.
func TestAnyLooksAtEveryPage(t *testing.T) {
	e := newEnv(t)
	var open booking.ID
	for i := range 200 {
		if i == 70 {
			open = e.book()
		}
		id := e.book()
		e.do(e.desk.Accept(t.Context(), command(booking.Rider, rita), id))
		e.do(e.desk.Release(t.Context(), command(booking.Rider, rita), id, ""))
	}
	won(t, e.accept(rita, "{}"), rita, open)
	webtest.Refused(t, e.accept(rita, "{}"), http.StatusNotFound, noneOpen)
}

// A booking that has aged out of the ledger may stand on the board a while longer.
func TestAnyPassesOverWhatHasAged(t *testing.T) {
	e := newEnv(t)
	first, second := e.book(), e.book()
	e.ledger.Age(first, 1)
	won(t, e.accept(rita, "{}"), rita, second)
	webtest.Refused(t, e.accept(rita, "{}"), http.StatusNotFound, noneOpen)
}

// Nobody is told that nothing is open because a board is behind.
func TestAnyWaitsForTheBoardBeforeItSaysNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		e.ledger.Hold()
		id := e.book() // in the ledger, and not on the board
		answered := e.begin(rita)
		synctest.Wait()
		if len(answered) != 0 {
			t.Fatalf("answered before the board had the booking: %v", <-answered)
		}
		e.ledger.Release(t)
		won(t, <-answered, rita, id)
	})
}

// A retry is looked for where the first try's acceptance is, and that may be ahead of the board.
func TestRetryAheadOfTheBoard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		first := e.book()
		try := func() *httptest.ResponseRecorder {
			return e.call("POST", "/accept-booking", e.rider(rita), "{}", "Idempotency-Key", "k")
		}
		e.ledger.Hold()
		won(t, try(), rita, first)
		answered := make(chan *httptest.ResponseRecorder, 1)
		go func() { answered <- try() }()
		synctest.Wait()
		if len(answered) != 0 {
			t.Fatalf("answered before the board had the acceptance: %v", <-answered)
		}
		e.ledger.Release(t)
		won(t, <-answered, rita, first)
	})
}

// What turns out to be lost is followed by another look, for a booking that came meanwhile.
func TestAnyLooksAgainAfterALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		first := e.book()
		e.ledger.Then(func() {
			e.ledger.Hold()
			e.do(e.desk.Accept(t.Context(), command(booking.Rider, rolf), first))
		})
		answered := e.begin(rita)
		synctest.Wait() // it has lost the first, and waits for the board
		second := e.book()
		e.ledger.Release(t)
		won(t, <-answered, rita, second)
	})
}

// A rider has one ride at a time, also where the board does not know yet that the rider has it;
// a rider without one is told so.
func TestAnyForABusyRider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		first, second := e.book(), e.book()
		e.ledger.Hold()
		e.do(e.desk.Accept(t.Context(), command(booking.Rider, rita), first))
		answered := e.begin(rita)
		synctest.Wait()
		e.ledger.Release(t)
		busy := fmt.Sprintf("You have an unfinished ride, booking %s. Complete it, or give it back with "+
			"POST /bookings/%s/release, before you accept another.", first, first)
		webtest.Refused(t, <-answered, http.StatusConflict, busy)
		webtest.Refused(t, e.accept(rita, named(second)), http.StatusConflict, busy)
		e.finish(rita, first)
		won(t, e.accept(rita, "{}"), rita, second)
		webtest.Refused(t, e.accept(rita, "{}"), http.StatusNotFound, noneOpen)
	})
}

// A booking that was lost and is given back may be tried again.
func TestAnyTriesWhatWasOpenedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		id := e.book()
		e.ledger.Then(func() {
			e.ledger.Hold()
			e.do(e.desk.Accept(t.Context(), command(booking.Rider, rolf), id))
		})
		answered := e.begin(rita)
		synctest.Wait() // it has lost, and waits for the board
		e.do(e.desk.Release(t.Context(), command(booking.Rider, rolf), id, ""))
		e.ledger.Release(t)
		won(t, <-answered, rita, id)
	})
}

func TestAnyGivesUpOnABoardThatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		e.ledger.Hold()
		e.book()
		begun := time.Now()
		later(t, e.accept(rita, "{}"), bookings.ErrCatchingUp.Message)
		if took := time.Since(begun); took != 2*time.Second {
			t.Errorf("gave up after %s", took)
		}
	})
}

func TestAnyUntilTheBoardIsReady(t *testing.T) {
	e := newEnv(t)
	id := e.book()
	e.unready = ledger.ErrNotCaughtUp
	later(t, e.accept(rita, "{}"), bookings.ErrCatchingUp.Message)
	e.nothingTried()
	e.unready = nil
	won(t, e.accept(rita, "{}"), rita, id)
}

func TestAnyWithoutTheLeader(t *testing.T) {
	e := newEnv(t)
	e.ledger.Fail(bus.ErrUnavailable)
	later(t, e.accept(rita, "{}"), bus.ErrUnavailable.Message) // and not that nothing is open
	e.ledger.Fail(nil)
	webtest.Refused(t, e.accept(rita, "{}"), http.StatusNotFound, noneOpen)
}

// When the outcome is not known, or the rider is busy, taking another booking would be wrong.
func TestAnyStopsWhereGoingOnIsWrong(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		says   string
	}{
		{ledger.ErrOutcomeUnknown, 503, unknown},
		{booking.ErrRiderBusy, 409, booking.ErrRiderBusy.Message},
	} {
		e := newEnv(t)
		e.book()
		e.book()
		var tries atomic.Int32
		e.ledger.Before = func(context.Context, booking.ID) error {
			tries.Add(1)
			return c.err
		}
		webtest.Refused(t, e.accept(rita, "{}"), c.status, c.says)
		if n := tries.Load(); n != 1 {
			t.Errorf("%d bookings were tried, want 1", n)
		}
	}
}

// begin asks for any booking, and delivers the answer.
func (e *env) begin(rider string) <-chan *httptest.ResponseRecorder {
	answered := make(chan *httptest.ResponseRecorder, 1)
	go func() { answered <- e.accept(rider, "{}") }()
	return answered
}

// While one rider of this process tries a booking, another waits for how that ends instead of
// trying it too.
func TestAnyWaitsForAnAttemptUnderWay(t *testing.T) {
	for _, c := range []struct {
		name  string
		first error // how the first attempt ends
	}{{"that wins", nil}, {"that fails", ledger.ErrOutcomeUnknown}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t)
				id := e.book()
				slow := make(chan struct{})
				var tries atomic.Int32
				e.ledger.Before = func(context.Context, booking.ID) error {
					if tries.Add(1) > 1 {
						return nil
					}
					<-slow
					return c.first
				}
				first := e.begin(rolf)
				synctest.Wait()
				second := e.begin(rita)
				synctest.Wait()
				if len(second) != 0 || tries.Load() != 1 {
					t.Fatalf("the second did not wait: %d answers after %d tries", len(second), tries.Load())
				}
				// A booking that nobody tries is there for every rider who asks.
				other := e.book()
				won(t, e.accept(rita, "{}"), rita, other)
				e.finish(rita, other)

				close(slow)
				if c.first != nil {
					later(t, <-first, unknown)
					won(t, <-second, rita, id)
					return
				}
				won(t, <-first, rolf, id)
				webtest.Refused(t, <-second, http.StatusNotFound, noneOpen)
			})
		})
	}
}

func TestAnyGivesUpOnAnAttemptThatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		e.book()
		slow := make(chan struct{})
		e.ledger.Before = func(context.Context, booking.ID) error { <-slow; return nil }
		first := e.begin(rolf)
		synctest.Wait()
		begun := time.Now()
		later(t, e.accept(rita, "{}"), ridersvc.ErrCrowded.Message)
		if took := time.Since(begun); took != 10*time.Second {
			t.Errorf("gave up after %s", took)
		}
		close(slow)
		<-first
	})
}
