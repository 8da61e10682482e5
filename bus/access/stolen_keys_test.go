package access_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger/ledgertest"
)

// A thief has the keys of usersvc and ridersvc, and every token that passed through them, and tries
// each event with each token in each state of a booking. Readers believe what that service may
// write for the owner of the token, and nothing else: no operator's event, no end of a ride that
// has begun but its rider's, and nothing in the name of somebody whose token the thief never had.
func TestStolenServiceKeys(t *testing.T) {
	e := bustest.RunClosed(t, false)
	k := ledgertest.New(t, e)
	at := map[string]*bus.Conn{}
	for _, who := range []string{access.Usersvc, access.Ridersvc} {
		at[who] = e.ConnectAs(t, who)
	}
	reader := k.LedgerOn(t, e.ConnectAs(t, access.Operator))
	writer := func(kind booking.Kind) *bus.Conn {
		for _, g := range access.Table() {
			if at[g.Who] != nil && slices.Contains(g.Publish, bus.EventPattern(kind)) {
				return at[g.Who]
			}
		}
		return nil
	}
	user, rider, service := k.Person(booking.User), k.Person(booking.Rider), k.Person(booking.Service)
	another := ledgertest.Person{Actor: k.Person(booking.Rider).Actor, Proof: rider.Proof}
	store := func(id booking.ID, n int, kind booking.Kind, p ledgertest.Person) {
		// NATS takes one record of a rider and a booking.
		if kind == booking.Accepted && (n == 2 || p.Actor != rider.Actor) {
			ledgertest.Accept(t, writer(kind), id, n, p)
			return
		}
		ledgertest.Store(t, writer(kind), ledgertest.Message(id, n, kind, p.Actor, p.Proof))
	}
	ride := []booking.Kind{booking.Requested, booking.Accepted, booking.Arrived, booking.Started, booking.Completed}

	believed := map[string]bool{}
	for _, kind := range booking.Kinds() {
		if writer(kind) == nil {
			if kind != booking.OperatorCancelled && kind != booking.OperatorReleased {
				t.Errorf("neither service writes %s", kind)
			}
			continue
		}
		for done := range len(ride) + 1 {
			for name, thief := range map[string]ledgertest.Person{
				"user": user, "rider": rider, "service": service, "another": another,
			} {
				id := booking.ID(booking.NewID())
				for i, step := range ride[:done] {
					by := rider
					if step == booking.Requested {
						by = user
					}
					store(id, i+1, step, by)
				}
				store(id, done+1, kind, thief)
				h, err := reader.Load(t.Context(), id, booking.Fresh)
				if err != nil {
					t.Fatal(err)
				}
				if len(h.Events) > done {
					believed[fmt.Sprintf("%s by the %s after %d steps", kind, name, done)] = true
				}
			}
		}
	}
	want := map[string]bool{}
	for what, after := range map[string][]int{
		"requested by the user": {0}, "accepted by the rider": {1}, "arrived by the rider": {2},
		"started by the rider": {3}, "start_refused by the rider": {3}, "completed by the rider": {4},
		"rated by the user": {5}, "rider_rated by the rider": {5},
		"cancelled by the user": {1, 2, 3}, "cancelled by the service": {1, 2, 3},
		"released by the rider": {2, 3}, "released by the service": {2, 3},
	} {
		for _, done := range after {
			want[fmt.Sprintf("%s after %d steps", what, done)] = true
		}
	}
	for what := range believed {
		if !want[what] {
			t.Errorf("readers believe %s", what)
		}
	}
	for what := range want {
		if !believed[what] {
			t.Errorf("readers do not believe %s, which shows that nothing was tried", what)
		}
	}
}
