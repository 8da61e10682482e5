package inspect_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/inspect"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
)

// A ledger that only desks have written to has no findings; forgeries of every kind are counted.
func TestInspectHealthyLedger(t *testing.T) {
	k := ledgertest.New(t, bustest.Run(t))
	ledger := k.Ledger(t)
	desk := ledgertest.NewDesk(t, ledger)
	ctx := t.Context()
	user, rider, second, service := k.Person(booking.User), k.Person(booking.Rider), k.Person(booking.Rider),
		k.Person(booking.Service)

	if empty := ledgertest.Inspect(t, ledger, inspect.Options{}); empty.Last != 0 || len(empty.Findings) != 0 {
		t.Errorf("of an empty ledger: %+v", empty)
	}
	var ids [4]booking.ID
	var acknowledged []inspect.Acknowledged
	did := func(c booking.Command, b booking.Booking, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		acknowledged = append(acknowledged, inspect.Acknowledged{Booking: b.ID, Command: c.ID, Seq: b.Seq})
	}
	do := func(p ledgertest.Person, f func(context.Context, booking.Command, booking.ID) (booking.Booking, error),
		id booking.ID) {
		t.Helper()
		c := p.Command()
		b, err := f(ctx, c, id)
		did(c, b, err)
	}
	for i := range ids {
		ids[i] = booking.ID(booking.NewID())
		c := user.Command()
		b, err := desk.Book(ctx, c, ids[i], booking.Trip{})
		did(c, b, err)
	}
	do(rider, desk.Accept, ids[0])
	do(rider, desk.Arrive, ids[0])
	do(rider, desk.Start, ids[0])
	do(rider, desk.Complete, ids[0])
	do(rider, desk.Accept, ids[1])
	c := service.Command()
	b, err := desk.Release(ctx, c, ids[1], "lost")
	did(c, b, err)
	do(second, desk.Accept, ids[1])
	do(rider, desk.Accept, ids[2])

	attacker := k.Connect(t)
	ledgertest.Store(t, attacker, ledgertest.Message(ids[3], 2, booking.Accepted, rider.Actor, "forged"))
	forged := ledgertest.Record(rider, rider.Proof, 2, ids[3], booking.NewID())
	forged.Header.Set("Authorization", "Bearer forged")
	last := ledgertest.Store(t, attacker, forged)

	// Known by its id alone, and by what it must be.
	h, err := ledger.Load(ctx, ids[1], booking.Fresh)
	if err != nil {
		t.Fatal(err)
	}
	acknowledged = append(acknowledged, inspect.Acknowledged{Event: h.Events[2].ID},
		inspect.Acknowledged{Booking: ids[1], Kind: booking.Accepted, Actor: second.ID})

	got := ledgertest.Inspect(t, ledger, inspect.Options{Acknowledged: acknowledged})
	for _, f := range got.Findings {
		t.Errorf("found %s", f)
	}
	want := inspect.Report{
		First: 1, Last: last, Engagements: 4, Board: got.Board,
		Events: map[booking.Kind]int{booking.Requested: 4, booking.Accepted: 4, booking.Arrived: 1,
			booking.Started: 1, booking.Completed: 1, booking.Released: 1},
		Bookings: map[booking.State]int{booking.StateCompleted: 1, booking.StateAccepted: 2, booking.StateOpen: 1},
		Refused:  map[string]int{"token_malformed": 2},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the inspection says\n %+v, want\n %+v", got, want)
	}
	board, _ := ledgertest.Follow(t, ledger)
	ledgertest.Await(t, ledger, board)
	if live, fresh := board.Newest(9, 0), got.Board.Newest(9, 0); len(live) != 4 || !reflect.DeepEqual(live, fresh) ||
		got.Board.Seq() != board.Seq() {
		t.Errorf("its board has\n %+v, and another\n %+v", fresh, live)
	}
}

// Every kind of finding, made by a writer with a valid token who bypasses our guards.
func TestInspectFinds(t *testing.T) {
	k := ledgertest.New(t, bustest.Run(t))
	ledger := k.Ledger(t)
	desk := ledgertest.NewDesk(t, ledger)
	writer := k.Connect(t)
	ctx := t.Context()
	user := k.Person(booking.User)
	open := func(d *booking.Desk) booking.ID {
		t.Helper()
		id := booking.ID(booking.NewID())
		if _, err := d.Book(ctx, user.Command(), id, booking.Trip{}); err != nil {
			t.Fatal(err)
		}
		return id
	}
	accepted := func(rider ledgertest.Person) booking.ID {
		t.Helper()
		id := open(desk)
		if _, err := desk.Accept(ctx, rider.Command(), id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	var want []inspect.Finding
	wants := func(what inspect.What, seq uint64, id booking.ID, rider ledgertest.Person) {
		want = append(want, inspect.Finding{What: what, Seq: seq, Booking: id, Rider: booking.RiderID(rider.ID)})
	}
	var nobody ledgertest.Person
	rider, other := k.Person(booking.Rider), k.Person(booking.Rider)

	// Two riders: readers refuse the second, so that a forger cannot make the booking anybody
	// else's. That it was tried is found.
	id := accepted(rider)
	wants(inspect.FoundTwoRiders, ledgertest.Accept(t, writer, id, 3, other), id, other)
	taken := id

	// A second ride: for readers both are good, since each booking by itself is.
	id = open(desk)
	wants(inspect.FoundTwoRides, ledgertest.Accept(t, writer, id, 2, rider), id, rider)

	// A record alone: before an event of something else, before another record, before an
	// acceptance that is not the one it names, and at the end.
	alone := func() uint64 {
		id := open(desk)
		r := k.Person(booking.Rider)
		seq := ledgertest.Store(t, writer, ledgertest.Record(r, r.Proof, 2, id, booking.NewID()))
		wants(inspect.FoundEngagedAlone, seq, id, r)
		return seq
	}
	alone()
	id, r := open(desk), k.Person(booking.Rider)
	for range 2 {
		other := open(desk)
		wants(inspect.FoundEngagedAlone, ledgertest.Store(t, writer,
			ledgertest.Record(r, r.Proof, 2, other, booking.NewID())), other, r)
	}
	wants(inspect.FoundNotEngaged, ledgertest.Store(t, writer,
		ledgertest.Message(id, 2, booking.Accepted, r.Actor, r.Proof)), id, nobody)

	// An event that does not follow: not possible now, too far ahead, and stored once more under
	// the same id.
	id = open(desk)
	wants(inspect.FoundUnfollowed, ledgertest.Store(t, writer,
		ledgertest.Message(id, 2, booking.Completed, rider.Actor, rider.Proof)), id, nobody)
	wants(inspect.FoundUnfollowed, ledgertest.Store(t, writer,
		ledgertest.Message(id, 9, booking.Cancelled, user.Actor, user.Proof)), id, nobody)
	rated := ledgertest.Message(id, 2, booking.Cancelled, user.Actor, user.Proof)
	ledgertest.Store(t, writer, rated)
	again := nats.NewMsg(fmt.Sprintf("ledger.booking.%s.3.cancelled", id))
	again.Header, again.Data = maps.Clone(rated.Header), rated.Data
	again.Header.Del("Nats-Msg-Id")
	wants(inspect.FoundUnfollowed, ledgertest.Store(t, writer, again), id, nobody)

	last := alone()

	// About the end of the ledger: who still waits, and what should be there.
	hasty, err := booking.NewDesk(ledger, booking.DeskOptions{Deadline: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	id = open(hasty)
	b, err := desk.Show(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "the deadline has passed", func() bool { return time.Now().After(b.Deadline.Add(time.Millisecond)) })
	wants(inspect.FoundOverdue, b.OpenedSeq, id, nobody)
	missing := []inspect.Acknowledged{
		{Booking: id, Command: booking.CommandID(booking.NewID()), Seq: 7},
		{Event: booking.EventID(booking.NewID())},
		{Booking: id, Kind: booking.Expired},
		// who was told so and never had it
		{Booking: taken, Kind: booking.Accepted, Actor: other.ID},
	}
	for _, a := range missing {
		wants(inspect.FoundMissing, a.Seq, a.Booking, nobody)
	}

	got := ledgertest.Inspect(t, ledger, inspect.Options{Acknowledged: missing, Grace: time.Nanosecond})
	for i := range got.Findings {
		if got.Findings[i].Detail == "" {
			t.Errorf("nothing is said about %s", got.Findings[i])
		}
		got.Findings[i].Detail = ""
	}
	if !slices.Equal(got.Findings, want) {
		t.Errorf("found\n %+v, want\n %+v", got.Findings, want)
	}
	refused := map[string]int{"does_not_follow": 2, "position": 1, "duplicate": 1, "not_engaged": 1}
	if !maps.Equal(got.Refused, refused) {
		t.Errorf("refused %v, want %v", got.Refused, refused)
	}
	if b, _ := got.Board.Get(taken); string(b.Rider) != rider.ID {
		t.Errorf("a forger has taken the booking: %+v", b)
	}
	if got.Last <= last {
		t.Errorf("the inspection ends at %d", got.Last)
	}

	few := ledgertest.Inspect(t, ledger, inspect.Options{Acknowledged: missing, Grace: time.Nanosecond, Limit: 2})
	if len(few.Findings) != 2 || few.More != len(want)-2 {
		t.Errorf("with a limit of 2 it keeps %d and counts %d", len(few.Findings), few.More)
	}
}

// A record at the very end of the ledger, without an acceptance.
func TestInspectFindsRecordAtTheEnd(t *testing.T) {
	k := ledgertest.New(t, bustest.Run(t))
	rider, id := k.Person(booking.Rider), booking.ID(booking.NewID())
	seq := ledgertest.Store(t, k.Connect(t), ledgertest.Record(rider, rider.Proof, 2, id, booking.NewID()))
	got := ledgertest.Inspect(t, k.Ledger(t), inspect.Options{})
	if len(got.Findings) != 1 || got.Findings[0].What != inspect.FoundEngagedAlone || got.Findings[0].Seq != seq {
		t.Errorf("found %v", got.Findings)
	}
}

// Our stream forbids deletion, so this one allows it.
func TestInspectFindsGap(t *testing.T) {
	k := ledgertest.New(t, bustest.Run(t))
	ctx, conn := t.Context(), k.Connect(t)
	stream, err := conn.JetStream().Stream(ctx, bus.LedgerStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(ctx, 1); err == nil {
		t.Error("a message of the ledger was deleted")
	}
	config := stream.CachedInfo().Config
	config.DenyDelete = false
	if err := conn.JetStream().DeleteStream(ctx, bus.LedgerStream); err != nil {
		t.Fatal(err)
	}
	if stream, err = conn.JetStream().CreateStream(ctx, config); err != nil {
		t.Fatal(err)
	}
	ledger := k.Ledger(t)
	desk := ledgertest.NewDesk(t, ledger)
	user := k.Person(booking.User)
	for range 6 {
		if _, err := desk.Book(ctx, user.Command(), booking.ID(booking.NewID()), booking.Trip{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, seq := range []uint64{1, 3, 4} { // the first may have aged
		if err := stream.DeleteMsg(ctx, seq); err != nil {
			t.Fatal(err)
		}
	}
	got := ledgertest.Inspect(t, ledger, inspect.Options{})
	if len(got.Findings) != 1 || got.Findings[0].What != inspect.FoundGap || got.Findings[0].Seq != 3 ||
		got.First != 2 || got.Last != 6 {
		t.Errorf("found %v from %d to %d", got.Findings, got.First, got.Last)
	}
}

// A failed inspection returns an error and no findings.
func TestInspectWithoutLedger(t *testing.T) {
	k := ledgertest.New(t, bustest.Run(t))
	conn := k.Connect(t)
	ledger := k.LedgerOn(t, conn)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for what, prepare := range map[string]func() context.Context{
		"a context that has ended": func() context.Context { return ctx },
		"no stream": func() context.Context {
			if err := conn.JetStream().DeleteStream(t.Context(), bus.LedgerStream); err != nil &&
				!errors.Is(err, jetstream.ErrStreamNotFound) {
				t.Fatal(err)
			}
			short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			t.Cleanup(cancel)
			return short
		},
	} {
		got, err := inspect.Run(prepare(), ledger, inspect.Options{})
		if fault.KindOf(err) != fault.Unavailable || !reflect.DeepEqual(got, inspect.Report{}) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
}
