package ridersvc

import (
	"context"
	"errors"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/internal/fault"
)

// A Roster stores whether riders are online or offline. It outlives the instances.
type Roster interface {
	// Say stores that a rider went online or offline at a time.
	Say(ctx context.Context, rider booking.RiderID, online bool, at time.Time) error
	// Said returns what Say stored last, and when, not older than the call. A rider of whom nothing
	// is stored is online, at the zero time.
	Said(ctx context.Context, rider booking.RiderID) (online bool, at time.Time, err error)
}

// ErrOffline refuses a booking to a rider who is offline.
var ErrOffline = fault.New(fault.Conflict, "offline",
	"You are offline. Go online with POST /online before you accept a booking.")

// loadStatus loads what the roster stores of a rider into the map, which a new instance does not
// know yet. It must precede a position report, which would otherwise make an offline rider count as
// online.
func (s *Service) loadStatus(ctx context.Context, rider booking.RiderID) error {
	if s.c.Fleet.HasSaid(rider) {
		return nil
	}
	online, at, err := s.c.Roster.Said(ctx, rider)
	if err != nil {
		return err
	}
	said := max(1, at.UnixMilli()) // 1: before every real time
	_, err = s.c.Fleet.Learn(fleet.Status{Rider: rider, Online: online, Said: said})
	return err
}

// alreadyMine returns the chosen booking if the offline rider has already accepted it, and
// otherwise refusal.
func (s *Service) alreadyMine(
	ctx context.Context, rider booking.RiderID, chosen choice, refusal error,
) (booking.Booking, error) {
	if chosen.named && errors.Is(refusal, ErrOffline) {
		if b, err := s.c.Desk.Show(ctx, chosen.id); err == nil && b.IsWith(rider) {
			return b, nil
		}
	}
	return booking.Booking{}, refusal
}

// checkOnline returns ErrOffline for a rider who is offline. It asks the roster, because the map
// may lag behind.
func (s *Service) checkOnline(ctx context.Context, rider booking.RiderID) error {
	online, _, err := s.c.Roster.Said(ctx, rider)
	if err == nil && !online {
		err = ErrOffline
	}
	return err
}
