package ledger_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/booking/bookingtest"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/inspect"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/wait"
)

// callsEnv says how many calls the crowd of TestModel makes, in a minute at most.
const callsEnv = "CALLS"

// TestModel lets a crowd act at random on several instances at once, on one replica and on three
// whose leader steps down every 400 ms. The answers must be those of some sequential order of the
// calls: see package bookingtest. Then the ledger is inspected, and boards that have followed all
// the time are compared with a fresh one.
func TestModel(t *testing.T) {
	users, riders, ledgers := 12, 8, 4
	life, limit := 3*time.Second, int64(1800)
	if wait.Long() {
		life, limit = 15*time.Second, 6_000
	}
	if n, err := strconv.ParseInt(os.Getenv(callsEnv), 10, 64); err == nil {
		life, limit = wait.Patience, n
	}
	ledgertest.Races(t, func(t *testing.T, k *ledgertest.Kit) {
		ledger := k.Ledger(t)
		one, _ := ledgertest.Follow(t, ledger)
		other, _ := ledgertest.Follow(t, k.Ledger(t))
		seed := rand.Uint64()
		t.Logf("seed %d", seed)

		ctx, stop := context.WithTimeout(t.Context(), life)
		defer stop()
		stepDowns := k.StepDowns(t, bus.LedgerStream, 400*time.Millisecond)
		c := newCrowd(t, k, ledgers, riders, limit)
		c.run(ctx, k, users, seed)
		took := time.Since(c.start)
		stop()
		downs := stepDowns()

		found := ledgertest.Inspect(t, ledger, inspect.Options{Acknowledged: c.acknowledged(), Grace: time.Hour})
		for _, f := range found.Findings {
			t.Errorf("found %s", f)
		}
		if len(found.Refused) > 0 {
			t.Errorf("readers refuse %v, and nobody has forged anything", found.Refused)
		}

		began := time.Now()
		answers := map[string]int{}
		for _, x := range c.history {
			answers[fmt.Sprintf("%s %s", x.Op, x.Answer)]++
		}
		calls := len(c.history)
		c.settle(ledger)
		checked := bookingtest.CheckCalls(t, c.history, c.riderIDs())
		t.Logf("%d calls about %d bookings in %v, %d step-downs; %d histories checked in %v: %v", calls, len(c.floor),
			took.Round(time.Millisecond), downs,
			checked, time.Since(began).Round(time.Millisecond), answers)
		if k.Replicas > 1 && downs == 0 {
			t.Error("no leader ever stepped down")
		}

		replay, _ := ledgertest.Follow(t, k.Ledger(t))
		for name, board := range map[string]*board.Board{"one": one, "another": other, "a new": replay} {
			ledgertest.Await(t, ledger, board)
			c.same(name, board, found.Board)
		}
		c.shown(found.Board)
	})
}

// settle drops the unanswered calls whose command is not in the ledger once all calls are over:
// they had no effect on any answer, or the answers tell. Nobody could try all orders of a hundred
// calls that may or may not have happened at any time. The remaining ones never end. Their time of
// storing is no end: it is when the leader sent them on, and a new leader may take a second to
// agree.
func (c *crowd) settle(l *ledger.Ledger) {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	stored := map[booking.CommandID]bool{}
	for _, o := range c.floor {
		h, err := l.Load(ctx, o.id, booking.Fresh)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, e := range h.Events {
			stored[e.Command] = true
		}
	}
	c.history = slices.DeleteFunc(c.history, func(x *call) bool { return x.Answer == unknown && !stored[x.Command] })
}

// acknowledged returns the events that clients were told of.
func (c *crowd) acknowledged() []inspect.Acknowledged {
	var all []inspect.Acknowledged
	for _, x := range c.history {
		if x.Answer != ok || x.Op == opShow {
			continue
		}
		a := inspect.Acknowledged{Booking: x.ID, Kind: kindOf(x.Op), Actor: x.Actor.ID}
		if x.Op == opRate && x.Actor.Role == booking.Rider {
			a.Kind = booking.RiderRated
		}
		switch x.Op {
		case opExpire:
			a.Command = x.Command
		default: // perhaps by another command of the same person
		}
		all = append(all, a)
	}
	return all
}

// kindOf returns the kind of event that a successful call causes.
func kindOf(o op) booking.Kind {
	return map[op]booking.Kind{
		opBook: booking.Requested, opAccept: booking.Accepted, opArrive: booking.Arrived, opStart: booking.Started,
		opComplete: booking.Completed,
		opCancel:   booking.Cancelled, opRelease: booking.Released, opExpire: booking.Expired, opRate: booking.Rated,
	}[o]
}

// same fails the test unless two boards give the same answers.
func (c *crowd) same(name string, got, want *board.Board) {
	equal := func(what string, got, want any) {
		if !reflect.DeepEqual(got, want) {
			c.t.Errorf("%s board says of %s\n %+v, and a fresh replay\n %+v", name, what, got, want)
		}
	}
	const many = 1 << 20
	at := c.start.Add(time.Minute)
	all := want.Newest(many, 0) // what is asked otherwise is told from this
	equal("everything", got.Newest(many, 0), all)
	of := func(is func(b booking.Booking) bool) []booking.Booking {
		var some []booking.Booking
		for _, b := range all {
			if is(b) {
				some = append(some, b)
			}
		}
		return some
	}
	byOpening := func(a, b booking.Booking) int { return int(a.OpenedSeq) - int(b.OpenedSeq) }
	open := of(func(b booking.Booking) bool { return b.State == booking.StateOpen && !b.Overdue(at) })
	slices.SortFunc(open, byOpening)
	// none is none, whatever slice it is
	equal("what is open", append([]booking.Booking(nil), got.Open(at, many, 0)...), open)
	overdue := of(func(b booking.Booking) bool { return b.Overdue(at) })
	slices.SortFunc(overdue, byOpening)
	equal("what is overdue", got.Overdue(at), overdue)
	for _, d := range c.riders {
		r := booking.RiderID(d.ID)
		active := of(func(b booking.Booking) bool { return isWith(b, d.ID) })
		equal("a rider", got.OfRider(r, many, 0), of(func(b booking.Booking) bool { return b.Rider == r }))
		equal("what a rider is under way for", got.Active(r), active)
		equal("whether a rider is busy", got.Busy(r), len(active) > 0)
	}
	for _, b := range all {
		equal("a user", got.OfUser(b.User, many, 0), of(func(x booking.Booking) bool { return x.User == b.User }))
		one, _ := got.Get(b.ID)
		equal("a booking", one, b)
	}
}

// shown fails the test unless every instance shows every booking as a board has it.
func (c *crowd) shown(board *board.Board) {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	for i, b := range board.Newest(1<<20, 0) {
		got, err := c.desks[i%len(c.desks)][0].Show(ctx, b.ID)
		if err != nil || !reflect.DeepEqual(got, b) {
			c.t.Errorf("a desk shows %+v (%v), and the board %+v", got, err, b)
		}
	}
}
