package ridersvc

import (
	"context"
	"errors"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/internal/fault"
)

// A Roster remembers which riders have said to be offline, for longer than any instance runs.
type Roster interface {
	// Say stores that a rider has said to be online or offline, at a time.
	Say(ctx context.Context, rider booking.RiderID, online bool, at time.Time) error
	// Said returns what a rider has said last, and when: a rider who has never said anything is
	// online, at the zero time. It is never older than the call.
	Said(ctx context.Context, rider booking.RiderID) (online bool, at time.Time, err error)
}

// ErrOffline refuses a booking to a rider who has said to be offline.
var ErrOffline = fault.New(fault.Conflict, "offline",
	"You are offline. Go online with POST /online before you accept a booking.")

// remember sees to it that the map knows what a rider has said to be, before a report makes the
// rider count as online: an instance that has just started knows nothing of it.
func (s *Service) remember(ctx context.Context, rider booking.RiderID) error {
	if s.fleet.HasSaid(rider) {
		return nil
	}
	online, at, err := s.roster.Said(ctx, rider)
	if err != nil {
		return err
	}
	said := max(1, at.UnixMilli()) // 1: before anything that was ever said
	_, err = s.fleet.Learn(fleet.Status{Rider: rider, Online: online, Said: said})
	return err
}

// alreadyMine returns the booking that was chosen where the rider has it already, which is no
// acceptance any more, and else the refusal.
func (s *Service) alreadyMine(
	ctx context.Context, rider booking.RiderID, chosen choice, refusal error,
) (booking.Booking, error) {
	if chosen.named && errors.Is(refusal, ErrOffline) {
		if b, err := s.desk.Show(ctx, chosen.id); err == nil && b.IsWith(rider) {
			return b, nil
		}
	}
	return booking.Booking{}, refusal
}

// onDuty returns ErrOffline to a rider who has said to be offline. It asks the roster and not the
// map, which may not have heard of it yet.
func (s *Service) onDuty(ctx context.Context, rider booking.RiderID) error {
	online, _, err := s.roster.Said(ctx, rider)
	if err == nil && !online {
		err = ErrOffline
	}
	return err
}
