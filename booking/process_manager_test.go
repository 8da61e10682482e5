package booking_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/bookingtest"
	"github.com/example/pillion/internal/wait"
)

// Patience with a rider is measured by how it comes nearer to the pickup: it ends that long after
// the rider has last done so, and sooner for one who comes nearer more slowly than somebody jogs,
// or whose way nobody can measure.
func TestPatience(t *testing.T) {
	const patience = 10 * time.Minute
	pickup := booking.Trip{Pickup: &booking.Place{Lat: 1, Lng: 2}, Dropoff: &booking.Place{Lat: 1, Lng: 3}}
	for name, c := range map[string]struct {
		trip   booking.Trip
		begun  time.Duration // since when it could be known, after it was accepted
		after  time.Duration // when the rider had last come nearer, after it was accepted; 0: never
		metres float64
		want   time.Duration // until when the rider keeps the booking, after it was accepted
	}{
		"it does not come":              {pickup, -time.Hour, 0, 0, patience},
		"it comes nearer":               {pickup, -time.Hour, 7 * time.Minute, 3000, 7*time.Minute + patience},
		"it came nearer before":         {pickup, -time.Hour, -time.Minute, 3000, patience},
		"it creeps":                     {pickup, -time.Hour, 9 * time.Minute, 60, 24*time.Second + patience},
		"nobody knew what was before":   {pickup, 5 * time.Minute, 0, 0, 5*time.Minute + patience},
		"it comes nearer since":         {pickup, 5 * time.Minute, 6 * time.Minute, 3000, 6*time.Minute + patience},
		"it moves, nobody knows where":  {booking.Trip{}, -time.Hour, 15 * time.Minute, 0, 15*time.Minute + patience},
		"it moves for ever":             {booking.Trip{}, -time.Hour, 25 * time.Minute, 0, 3 * patience},
		"it stands, nobody knows where": {booking.Trip{}, -time.Hour, 0, 0, patience},
	} {
		t.Run(name, func(t *testing.T) {
			now := noon
			ledger := bookingtest.NewLedger(bookingtest.WithClock(func() time.Time { return now }))
			desk, err := booking.NewDesk(
				ledger,
				booking.DeskOptions{Deadline: time.Hour, Now: func() time.Time { return now }},
			)
			if err != nil {
				t.Fatal(err)
			}
			id := booking.ID(booking.NewID())
			if _, err := desk.Book(t.Context(), by(owner), id, c.trip); err != nil {
				t.Fatal(err)
			}
			if _, err := desk.Accept(t.Context(), by(rider), id); err != nil {
				t.Fatal(err)
			}
			manager, err := booking.NewProcessManager(booking.ProcessManagerConfig{
				Desk: desk, Board: ledger.Board, Patience: patience, Begun: noon.Add(c.begun),
				Act: func(context.Context) (booking.Actor, string, error) { return service, "proof", nil },
				Approach: func(b booking.Booking) booking.Approach {
					if b.ID != id || b.Rider != booking.RiderID(rider.ID) {
						t.Errorf("asked about %+v", b)
					}
					if c.after == 0 {
						return booking.Approach{}
					}
					return booking.Approach{At: noon.Add(c.after), Metres: c.metres}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			for at := noon.Add(patience); ; {
				now = at
				again, err := manager.ReleaseNoShows(t.Context(), at)
				if err != nil {
					t.Fatal(err)
				}
				b, _ := ledger.Board.Get(id)
				if b.State == booking.StateOpen {
					if at.Sub(noon) != c.want || b.Reason != booking.ReasonNotComing || !again.IsZero() {
						t.Errorf("lost after %s (%s), want %s; again %s", at.Sub(noon), b.Reason, c.want, again)
					}
					return
				}
				if !again.After(at) {
					t.Fatalf("after %s it is %s, and is to be looked at again at %s", at.Sub(noon), b.State, again)
				}
				at = again
			}
		})
	}
}

// Many overdue bookings are expired several at a time, because each has to reach the disk.
func TestExpiresSeveralAtATime(t *testing.T) {
	const together = 8
	now := noon
	ledger := bookingtest.NewLedger(bookingtest.WithClock(func() time.Time { return now }))
	log := &crowdedLog{Log: ledger, together: together, met: make(chan struct{})}
	desk, err := booking.NewDesk(log, booking.DeskOptions{Deadline: time.Minute, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 * together {
		if _, err := desk.Book(t.Context(), by(owner), booking.ID(booking.NewID()), booking.Trip{}); err != nil {
			t.Fatal(err)
		}
	}
	manager, err := booking.NewProcessManager(booking.ProcessManagerConfig{Desk: desk, Board: ledger.Board,
		Act: func(context.Context) (booking.Actor, string, error) { return service, "proof", nil }})
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	log.crowded.Store(true)
	n, err := manager.Expire(t.Context(), now)
	if n != 3*together || err != nil {
		t.Errorf("expired %d bookings, %v", n, err)
	}
}

// A crowdedLog stores nothing, once it is crowded, before so many appends wait together.
type crowdedLog struct {
	booking.Log
	crowded  atomic.Bool
	waiting  atomic.Int32
	together int32
	met      chan struct{}
}

func (l *crowdedLog) Append(
	ctx context.Context, c booking.Command, id booking.ID, after booking.History, events ...booking.Event,
) (booking.History, error) {
	if l.crowded.Load() {
		if l.waiting.Add(1) == l.together {
			close(l.met)
		}
		select {
		case <-l.met:
		case <-time.After(wait.Patience):
			return booking.History{}, context.DeadlineExceeded
		}
	}
	return l.Log.Append(ctx, c, id, after, events...)
}
