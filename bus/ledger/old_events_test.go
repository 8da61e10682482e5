package ledger_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/ledger/ledgertest"
)

// Events of builds without event tokens stay valid, with the access token of their actor and with a
// service's token, and a booking goes on from them.
func TestOldEvents(t *testing.T) {
	k := ledgertest.New(t, bustest.Run(t))
	l, writer := k.Ledger(t), k.Connect(t)
	desk := ledgertest.NewDesk(t, l)
	board, _ := ledgertest.Follow(t, l)
	user, rider, service := k.Person(booking.User), k.Person(booking.Rider), k.Person(booking.Service)
	id := booking.ID(booking.NewID())
	old := func(_ *nats.Msg, body map[string]any) {
		body["v"] = 1
		if body["deadline"] != nil {
			body["deadline"] = time.Now().Add(48 * time.Hour) // which had no bound
		}
	}
	engaged := ledgertest.Store(t, writer, ledgertest.Record(rider, rider.Token, 1, id, booking.NewID()))
	for i, e := range []struct {
		kind booking.Kind
		by   ledgertest.Person
	}{
		{booking.Requested, user}, {booking.Accepted, k.Person(booking.Rider)}, {booking.Released, service},
		{booking.Accepted, rider}, {booking.Arrived, rider}, {booking.Started, rider}, {booking.Completed, rider},
		{booking.Rated, rider},
	} {
		ledgertest.Store(t, writer, ledgertest.Message(id, i+1, e.kind, e.by.Actor, e.by.Token, old))
	}
	if _, err := desk.Rate(t.Context(), rider.Command(), id, 5); err != nil {
		t.Errorf("a rider rates as before: %v", err)
	}
	b, err := desk.Rate(t.Context(), user.Command(), id, 4)
	if err != nil || b.Version != 9 || b.UserStars != 4 || b.RiderStars != 5 {
		t.Errorf("after eight old events a new one makes %+v, %v", b, err)
	}
	// Its services could cancel a ride that had begun.
	ended := booking.ID(booking.NewID())
	for i, e := range []struct {
		kind booking.Kind
		by   ledgertest.Person
	}{
		{booking.Requested, user}, {booking.Accepted, rider}, {booking.Arrived, rider}, {booking.Started, rider},
		{booking.Cancelled, service},
	} {
		ledgertest.Store(t, writer, ledgertest.Message(ended, i+1, e.kind, e.by.Actor, e.by.Token, old))
	}
	ledgertest.Await(t, l, board)
	if b, _ := board.Get(id); b.Version != 9 {
		t.Errorf("the board has %+v", b)
	}
	if b, _ := board.Get(ended); b.State != booking.StateCancelled {
		t.Errorf("the ride that was broken off is %+v", b)
	}
	at, err := l.Engagement(t.Context(), booking.RiderID(rider.ID), booking.Fresh)
	if err != nil || at.Booking != id || at.Revision != engaged {
		t.Errorf("an old record engages the rider in %+v, %v", at, err)
	}
}

// A record of an engagement is proved like an event.
func TestForgedEngagements(t *testing.T) {
	k := ledgertest.New(t, bustest.Run(t))
	l, writer := k.Ledger(t), k.Connect(t)
	rider, other := k.Person(booking.Rider), k.Person(booking.Rider)
	for name, m := range map[string]struct {
		m      *nats.Msg
		reason string
	}{
		"an access token":                 {record(rider, rider.Token, 2), "token_type"},
		"an event token, by an old build": {record(rider, rider.Proof, 1), "token_type"},
		"another rider's":                 {record(rider, other.Proof, 2), "actor"},
		"a schema nobody knows":           {record(rider, rider.Proof, 3), "schema"},
	} {
		ledgertest.Store(t, writer, m.m)
		got, err := writer.Last(t.Context(), "BOOKINGS", m.m.Subject)
		if err != nil {
			t.Fatal(err)
		}
		_, err = l.VerifyEngagement(t.Context(), got)
		if reason, _ := ledger.RefusalReason(err); reason != m.reason {
			t.Errorf("%s: %v, want it refused for %s", name, err, m.reason)
		}
	}
	if at, err := l.Engagement(t.Context(), booking.RiderID(rider.ID), booking.Fresh); err != nil || at.Booking != "" || at.Revision == 0 {
		t.Errorf("forged records engage the rider in %+v, %v", at, err)
	}
}

// record makes the record of an engagement in a new booking.
func record(rider ledgertest.Person, proof string, version int) *nats.Msg {
	return ledgertest.Record(rider, proof, version, booking.ID(booking.NewID()), booking.NewID())
}
