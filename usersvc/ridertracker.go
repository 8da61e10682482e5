package usersvc

import (
	"context"
	"sync"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/bookings"
)

// A Position is where a rider was at a time.
type Position struct {
	booking.Place
	At time.Time
}

// positionView is a position as the user sees it.
type positionView struct {
	booking.Place
	At jsontime.Time `json:"at"`
}

// Positions are the live positions of riders.
type Positions interface {
	// Follow calls report with the rider's position, first with the present one if it is known and
	// then with each new one, and returns when ctx ends. report does not block.
	Follow(ctx context.Context, rider booking.RiderID, report func(Position))
}

// A riderTracker sends a stream the positions of the rider who is on the way to its user. It keeps
// the newest position only. The zero tracker follows nobody.
type riderTracker struct {
	ctx       context.Context //nolint:containedctx // the stream's, which it must not outlive
	positions Positions

	rider  booking.RiderID // "" while it follows nobody
	newest chan web.Event
	stop   context.CancelFunc
	work   sync.WaitGroup
}

var _ bookings.SideEvents = (*riderTracker)(nil)

// Follow tracks the rider of b until the ride starts.
func (t *riderTracker) Follow(b *booking.Booking) {
	rider := b.Rider
	if b.State != booking.StateAccepted && b.State != booking.StateArrived {
		rider = ""
	}
	if rider == t.rider {
		return
	}
	t.Close()
	if rider == "" {
		return
	}
	ctx, stop := context.WithCancel(t.ctx)
	newest := make(chan web.Event, 1)
	t.rider, t.newest, t.stop = rider, newest, stop
	t.work.Go(func() {
		t.positions.Follow(ctx, rider, func(p Position) {
			select {
			case <-newest:
			default:
			}
			select {
			case newest <- web.Event{Event: "position", Data: positionView{p.Place, jsontime.Time(p.At)}}:
			default: // a concurrent call has put in a position that is as new
			}
		})
	})
}

// Events returns the channel of the rider's positions.
func (t *riderTracker) Events() <-chan web.Event { return t.newest }

// Close stops tracking, and waits until it has stopped.
func (t *riderTracker) Close() {
	if t.rider == "" {
		return
	}
	t.stop()
	t.work.Wait()
	t.rider, t.newest, t.stop = "", nil, nil
}
