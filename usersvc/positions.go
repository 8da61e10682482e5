package usersvc

import (
	"context"
	"sync"
	"time"

	"pillion/booking"
)

// A Position is where a rider was at a time.
type Position struct {
	booking.Place
	At time.Time `json:"at"`
}

// Positions knows where riders are. It is somebody else's: a service without it tells no positions.
type Positions interface {
	// Follow calls tell with where a rider is, now where that is known and then whenever it is told anew, until ctx ends; then it
	// returns. tell never waits.
	Follow(ctx context.Context, rider booking.RiderID, tell func(Position))
}

// A companion follows the rider of one stream's booking while its user waits for that rider. Only the newest position is kept. The zero
// companion follows nobody. Close it.
type companion struct {
	rider  booking.RiderID // "": nobody
	newest chan Position
	stop   context.CancelFunc
	work   sync.WaitGroup
}

// follow makes c follow whoever comes to the pickup, if somebody does.
func (c *companion) follow(ctx context.Context, p Positions, b *booking.Booking) {
	rider := b.Rider
	if p == nil || b.State != booking.StateAccepted && b.State != booking.StateArrived {
		rider = ""
	}
	if rider == c.rider {
		return
	}
	c.close()
	if rider == "" {
		return
	}
	ctx, c.stop = context.WithCancel(ctx)
	newest := make(chan Position, 1)
	c.rider, c.newest = rider, newest
	c.work.Go(func() {
		p.Follow(ctx, rider, func(at Position) {
			select {
			case <-newest:
			default:
			}
			select {
			case newest <- at:
			default: // another one came in between, and is as new
			}
		})
	})
}

// close makes c follow nobody, and waits until it does not.
func (c *companion) close() {
	if c.rider == "" {
		return
	}
	c.stop()
	c.work.Wait()
	c.rider, c.newest, c.stop = "", nil, nil
}
