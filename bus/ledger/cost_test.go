package ledger_test

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/wait"
)

// traffic returns how many messages a connection sends and receives during do.
func traffic(c *bus.Conn, do func()) (out, in uint64) {
	before := c.NATS().Stats()
	do()
	after := c.NATS().Stats()
	return after.OutMsgs - before.OutMsgs, after.InMsgs - before.InMsgs
}

// few is how many requests a read may take, however long the history is.
const few = 60

// A booking with more junk than fits one answer is still read with a few requests.
func TestJunkDoesNotMultiplyRequests(t *testing.T) {
	t.Parallel()
	// As usersvc may, and no more.
	bustest.Setup{Closed: true}.Sizes(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		conn, user := e.ConnectAs(t, access.Usersvc), k.Person(booking.User)
		ledger := k.LedgerOn(t, conn)
		desk := ledgertest.NewDesk(t, ledger)
		id := booking.ID(booking.NewID())
		if _, err := desk.Book(t.Context(), user.Command(), id, booking.Trip{}); err != nil {
			t.Fatal(err)
		}
		const junk = 1500
		forger := e.ConnectAs(t, access.Usersvc)
		for i := range junk {
			if err := forger.NATS().PublishMsg(ledgertest.Message(id, i+2, booking.Cancelled, user.Actor,
				"junk")); err != nil {
				t.Fatal(err)
			}
		}
		wait.Until(t, "the junk is stored", func() bool {
			last, err := ledger.LastSequence(t.Context())
			return err == nil && last == junk+1
		})
		var b booking.Booking
		var err error
		out, _ := traffic(conn, func() { b, err = desk.Show(t.Context(), id) })
		if err != nil || b.State != booking.StateOpen || out > few {
			t.Errorf("with %d messages of junk on it: %v %v, after %d requests", junk, b.State, err, out)
		}
		if _, err := desk.Cancel(t.Context(), user.Command(), id, ""); err != nil {
			t.Errorf("cancel behind the junk: %v", err)
		}
	})
}

// The board goes on whatever is rejected, even without the quarantine. When that is back,
// everything is recorded.
func TestBoardDoesNotWaitForTheQuarantine(t *testing.T) {
	t.Parallel()
	e := bustest.Run(t)
	k := ledgertest.New(t, e)
	ledger, admin, user := k.Ledger(t), k.Connect(t), k.Person(booking.User)
	if err := admin.JetStream().DeleteStream(t.Context(), bus.QuarantineStream); err != nil {
		t.Fatal(err)
	}
	board, _ := ledgertest.Follow(t, ledger)
	const junk = 4200
	for i := range junk {
		if err := admin.NATS().PublishMsg(&nats.Msg{Subject: fmt.Sprintf("ledger.junk.%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	wait.Until(t, "the junk is stored", func() bool {
		last, err := ledger.LastSequence(t.Context())
		return err == nil && last == junk
	})
	id := booking.ID(booking.NewID())
	if _, err := ledgertest.NewDesk(t, ledger).Book(t.Context(), user.Command(), id, booking.Trip{}); err != nil {
		t.Fatal(err)
	}
	ledgertest.Await(t, ledger, board)
	if _, ok := board.Get(id); !ok {
		t.Error("the board does not have what came after the junk")
	}
	if err := bus.Provision(t.Context(), admin, e.Plan()); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "all is recorded", func() bool {
		s, err := admin.JetStream().Stream(t.Context(), bus.QuarantineStream)
		return err == nil && s.CachedInfo().State.Msgs == junk
	})
}
