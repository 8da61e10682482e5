package bookingtest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/bookingtest"
)

func TestLogIsALog(t *testing.T) {
	for name, options := range map[string][]bookingtest.Option{
		"as it is":         nil,
		"with stale reads": {bookingtest.WithStaleReads(3)},
	} {
		t.Run(name, func(t *testing.T) {
			bookingtest.LogSuite(t, func(*testing.T) bookingtest.Env {
				log := bookingtest.NewLog(options...)
				return bookingtest.Env{Log: log, As: as, Forge: log.Forge}
			})
		})
	}
}

func as(role booking.Role) (booking.Actor, string) {
	return booking.Actor{ID: booking.NewID(), Role: role}, "believe me"
}

// The options of a Log work as documented.
func TestOptions(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	lost := false
	log := bookingtest.NewLog(bookingtest.WithStaleReads(2), bookingtest.WithLostAcks(func() bool { return lost }),
		bookingtest.WithClock(func() time.Time { return noon }))
	ctx, id := t.Context(), booking.ID(booking.NewID())
	user, proof := as(booking.User)
	c := booking.Command{ID: booking.CommandID(booking.NewID()), Actor: user, Proof: proof}
	read := func(r booking.Reading) booking.History {
		t.Helper()
		h, err := log.Load(ctx, id, r)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	e, err := booking.Request(user, booking.Trip{}, nil, noon.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	lost = true
	if _, err := log.Append(ctx, c, id, booking.History{}, e); !errors.Is(err, bookingtest.ErrAckLost) {
		t.Errorf("lost ack: error %v", err)
	}
	h := read(booking.Fresh)
	if len(h.Events) != 1 || !h.Events[0].At.Equal(noon) {
		t.Fatalf("after a lost ack the history is %+v", h)
	}
	if h := read(booking.Quick); len(h.Events) != 0 || h.Revision != 0 {
		t.Errorf("a read that misses 2 messages returns %+v", h)
	}
	for _, n := range []int{2, 3} {
		if err := log.Forge(ctx, id, n, booking.Accepted); err != nil {
			t.Fatal(err)
		}
	}
	if h := read(booking.Quick); len(h.Events) != 1 || h.Revision != 1 {
		t.Errorf("a read that misses 2 messages returns %+v", h)
	}
	if err := log.Forge(ctx, id, 2, booking.Accepted); err == nil {
		t.Error("two messages occupy one position")
	}
	rider, _ := as(booking.Rider)
	if err := log.Publish(
		ctx,
		booking.Event{ID: "x", Booking: id, N: 4, Kind: booking.Accepted, Actor: rider},
	); err != nil {
		t.Fatal(err)
	}
	if h := read(
		booking.Fresh,
	); len(h.Events) != 2 || h.Booking.State != booking.StateAccepted || h.Events[1].Seq != 4 ||
		!h.Events[1].At.Equal(noon) {
		t.Errorf("after Publish of an event that follows, the history is %+v", h)
	}
	log.Age(id, 1)
	if h := read(booking.Fresh); len(h.Events) != 0 || h.Revision != 4 {
		t.Errorf("an aged history is %+v", h)
	}
}
