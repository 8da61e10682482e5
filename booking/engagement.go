package booking

import "context"

// An Engagement says what a rider may be busy with: the booking that the rider accepted last. The
// booking's own history says whether the ride is over, so nothing has to be undone when it ends.
// The zero Engagement is that of a rider who has accepted no booking.
type Engagement struct {
	Booking  ID
	Revision uint64 // sequence of the rider's last record; 0: there is none
}

// free returns a rider's engagement. The error is ErrRiderBusy if the rider has an unfinished ride.
// Like a refusal on a Quick history, that needs a Fresh reading to confirm it.
func (d *Desk) free(ctx context.Context, r RiderID, reading Reading) (Engagement, error) {
	at, err := d.log.Engagement(ctx, r, reading)
	if err != nil || at.Booking == "" {
		return at, err
	}
	h, err := d.log.Load(ctx, at.Booking, Quick)
	if err == nil && !h.Booking.isOverFor(r) { // a stale one may lack the acceptance, or the end
		h, err = d.log.Load(ctx, at.Booking, Fresh)
	}
	if err != nil {
		return Engagement{}, err
	}
	if h.Booking.IsWith(r) {
		return at, unfinished(h.Booking, Rider, ErrRiderBusy, "before you accept another")
	}
	return at, nil
}
