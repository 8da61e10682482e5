package ledger_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/ledger/ledgertest"
)

// An acceptance counts only directly behind the record that its rider is engaged by it. All readers
// agree on that: the one that follows the ledger, one of a single booking, and one that begins
// between the two.
func TestAcceptancesNeedTheirRecord(t *testing.T) {
	k := ledgertest.New(t, bustest.Run(t))
	l, writer := k.Ledger(t), k.Connect(t)
	user, other := k.Person(booking.User), k.Person(booking.Rider)
	type record func(rider ledgertest.Person, id booking.ID, event string) *nats.Msg
	right := func(r ledgertest.Person, id booking.ID, event string) *nats.Msg {
		return ledgertest.Record(r, r.Proof, 2, id, event)
	}
	for name, c := range map[string]struct {
		record  record // nil: none
		between bool   // whether something is stored between the two
		counts  bool
	}{
		"its record":                           {right, false, true},
		"no record":                            {nil, false, false},
		"its record, and something in between": {right, true, false},
		"a record of another acceptance": {func(r ledgertest.Person, id booking.ID, _ string) *nats.Msg {
			return ledgertest.Record(r, r.Proof, 2, id, booking.NewID())
		}, false, false},
		"a record of another booking": {func(r ledgertest.Person, _ booking.ID, event string) *nats.Msg {
			return ledgertest.Record(r, r.Proof, 2, booking.ID(booking.NewID()), event)
		}, false, false},
		"a record of another rider": {func(_ ledgertest.Person, id booking.ID, event string) *nats.Msg {
			return ledgertest.Record(other, other.Proof, 2, id, event)
		}, false, false},
		"a record that nothing proves": {func(r ledgertest.Person, id booking.ID, event string) *nats.Msg {
			return ledgertest.Record(r, "forged", 2, id, event)
		}, false, false},
		"a record of an older build": {func(r ledgertest.Person, id booking.ID, event string) *nats.Msg {
			return ledgertest.Record(r, r.Proof, 1, id, event)
		}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			rider, want := k.Person(booking.Rider), booking.StateOpen
			if c.counts {
				want = booking.StateAccepted
			}
			id := ledgertest.Booked(t, l, user, time.Hour)
			m := ledgertest.Message(id, 2, booking.Accepted, rider.Actor, rider.Proof)
			if c.record != nil {
				ledgertest.Store(t, writer, c.record(rider, id, m.Header.Get("ce-id")))
			}
			if c.between {
				ledgertest.Booked(t, l, user, time.Hour)
			}
			seq := ledgertest.Store(t, writer, m)
			if got := ledgertest.State(t, k.Ledger(t), id); got != want {
				t.Errorf("a reader of the booking has it %s, want %s", got, want)
			}
			board, _ := ledgertest.Follow(t, k.Ledger(t))
			ledgertest.Await(t, l, board)
			if b, _ := board.Get(id); b.State != want {
				t.Errorf("a reader of the ledger has it %s, want %s", b.State, want)
			}
			stored, err := writer.Get(t.Context(), bus.LedgerStream, bus.GetRequest{Seq: seq})
			if err != nil {
				t.Fatal(err)
			}
			_, err = k.Ledger(t).Verify(t.Context(), stored, bus.Message{})
			if reason, refused := ledger.RefusalReason(err); refused == c.counts || refused && reason != "not_engaged" {
				t.Errorf("a reader that begins with it says %q: %v", reason, err)
			}
		})
	}
}
