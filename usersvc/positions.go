package usersvc

import (
	"context"
	"sync"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/web"
)

// A Position is where a rider was at a time.
type Position struct {
	booking.Place
	At time.Time
}

// told is a position as a user is told of it.
type told struct {
	booking.Place
	At jsontime.Time `json:"at"`
}

// Positions knows where riders are. It is somebody else's: a service without it tells no positions.
type Positions interface {
	// Follow calls tell with where a rider is, now where that is known and then whenever it is told anew, until ctx ends; then it
	// returns. tell never waits.
	Follow(ctx context.Context, rider booking.RiderID, tell func(Position))
}

// A companion follows the rider of one stream's booking while its user waits for that rider. Only the newest position is kept. It follows nobody at
// first. Close it.
type companion struct {
	ctx       context.Context //nolint:containedctx // that of its stream, with which it ends
	positions Positions

	rider  booking.RiderID // "": nobody
	newest chan web.Event
	stop   context.CancelFunc
	work   sync.WaitGroup
}

// Follow makes c follow whoever comes to the pickup, if somebody does.
func (c *companion) Follow(b *booking.Booking) {
	rider := b.Rider
	if b.State != booking.StateAccepted && b.State != booking.StateArrived {
		rider = ""
	}
	if rider == c.rider {
		return
	}
	c.Close()
	if rider == "" {
		return
	}
	ctx, stop := context.WithCancel(c.ctx)
	newest := make(chan web.Event, 1)
	c.rider, c.newest, c.stop = rider, newest, stop
	c.work.Go(func() {
		c.positions.Follow(ctx, rider, func(at Position) {
			select {
			case <-newest:
			default:
			}
			select {
			case newest <- web.Event{Event: "position", Data: told{at.Place, jsontime.Time(at.At)}}:
			default: // another one came in between, and is as new
			}
		})
	})
}

// News is where the rider is, whenever that changes.
func (c *companion) News() <-chan web.Event { return c.newest }

// Close makes c follow nobody, and waits until it does not.
func (c *companion) Close() {
	if c.rider == "" {
		return
	}
	c.stop()
	c.work.Wait()
	c.rider, c.newest, c.stop = "", nil, nil
}
