package natsfleet_test

import (
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/fleet/natsfleet"
	"github.com/example/pillion/internal/fault"
)

// What a rider has said last is known everywhere at once, and stays.
func TestRoster(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		here, there := natsfleet.NewRoster(e.Connect(t)), natsfleet.NewRoster(e.Connect(t))
		rita := booking.RiderID(booking.NewID())
		said := func(r *natsfleet.Roster, want bool, at time.Time) {
			t.Helper()
			online, when, err := r.Said(t.Context(), rita)
			if err != nil || online != want || !when.Equal(at) {
				t.Errorf("online: %v since %s, %v; want %v since %s", online, when, err, want, at)
			}
		}
		said(here, true, time.Time{})
		for i, online := range []bool{true, false, false, true, false} {
			at := time.Unix(int64(i+1), 0)
			if err := here.Say(t.Context(), rita, online, at); err != nil {
				t.Fatal(err)
			}
			switch i {
			case 0: // who has never been offline is in no roster
				at = time.Time{}
			case 2: // said again
				at = time.Unix(2, 0)
			}
			said(there, online, at)
		}
		var work sync.WaitGroup
		for i := range 8 { // on two phones
			work.Go(func() {
				if err := []*natsfleet.Roster{here, there}[i%2].Say(t.Context(), rita, i%2 == 0,
					time.Unix(9, 0)); err != nil {
					t.Error(err)
				}
			})
		}
		work.Wait()
		if err := there.Say(t.Context(), rita, true, time.Unix(10, 0)); err != nil {
			t.Fatal(err)
		}
		if online, _, err := here.Said(t.Context(), rita); err != nil || !online {
			t.Errorf("online: %v, %v", online, err)
		}
		if err := here.Ready(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Without the bucket no rider counts as online.
func TestRosterWithoutItsBucket(t *testing.T) {
	e := bustest.Run(t)
	conn := e.Connect(t)
	if err := conn.JetStream().DeleteKeyValue(t.Context(), bus.RidersBucket); err != nil {
		t.Fatal(err)
	}
	roster := natsfleet.NewRoster(conn)
	rita := booking.RiderID(booking.NewID())
	if online, _, err := roster.Said(t.Context(), rita); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("online: %v, %v", online, err)
	}
	if err := roster.Say(t.Context(), rita, false, time.Now()); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("said: %v", err)
	}
	if roster.Ready(t.Context()) == nil {
		t.Error("it is ready")
	}
}
