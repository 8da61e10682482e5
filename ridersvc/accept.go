package ridersvc

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/bookings"
)

const (
	anyPatience = 10 * time.Second // how long a request for any booking tries one after another
	boardPage   = 64               // bookings taken from the board at a time
)

// acceptRequest is the body of POST /accept-booking: empty, or with the id of a booking.
type acceptRequest struct {
	Booking choice `json:"booking_id"`
}

// A choice is the booking that a rider asks for. null counts as a named booking that does not
// exist: a client that lost the id of the booking it means must not get another.
type choice struct {
	named bool
	id    booking.ID
}

// MarshalJSON makes a command's fingerprint tell a named booking from none.
func (c choice) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"named": c.named, "id": c.id})
}

// UnmarshalJSON reads the id from a string. null leaves an empty id, which no booking has.
func (c *choice) UnmarshalJSON(data []byte) error {
	c.named = true
	return json.Unmarshal(data, &c.id)
}

type acceptAnswer struct {
	Success bool   `json:"success"`
	Message string `json:"message"`
	Rider   string `json:"raider"` // the caller's own email

	Booking booking.ID     `json:"booking_id"`
	State   booking.State  `json:"state"`
	Pickup  *booking.Place `json:"pickup,omitempty"`
	Dropoff *booking.Place `json:"dropoff,omitempty"`
	*booking.Quote
	UpdatedAt jsontime.Time `json:"updated_at"`
}

// accept accepts the booking that the rider names, or else the first one in the order of choose.
func (s *Service) accept(w http.ResponseWriter, r *http.Request) error {
	var req acceptRequest
	if err := web.DecodeOptional(r, &req); err != nil {
		return err
	}
	c, key, err := bookings.Command(r, req, s.c.NewID)
	if err != nil {
		return err
	}
	ctx := r.Context()
	claims, _ := web.Caller(ctx)
	b, err := s.acceptOnce(ctx, c, key != "", req.Booking)
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, acceptAnswer{
		Success: true, Message: "Booking accepted", Rider: claims.Email,
		Booking: b.ID, State: b.State, Pickup: b.Pickup, Dropoff: b.Dropoff, Quote: b.Quote,
		UpdatedAt: jsontime.Time(b.UpdatedAt),
	})
}

// acceptOnce accepts the chosen booking. If the command may be a retry, acceptOnce first looks for
// the booking that an earlier try has accepted. So a retry that names no booking does not get
// another one.
func (s *Service) acceptOnce(
	ctx context.Context, c booking.Command, retried bool, chosen choice,
) (booking.Booking, error) {
	accept := func() (booking.Booking, error) {
		if err := s.checkOnline(ctx, booking.RiderID(c.Actor.ID)); err != nil {
			return s.alreadyMine(ctx, booking.RiderID(c.Actor.ID), chosen, err)
		}
		if chosen.named {
			return s.c.Desk.Accept(ctx, c, chosen.id)
		}
		return s.acceptAny(ctx, c)
	}
	if !retried {
		return accept()
	}
	b, err := s.acceptedBy(ctx, c)
	if errors.Is(err, booking.ErrNotFound) {
		b, err = accept()
		// perhaps by a concurrent request with the same command
		if errors.Is(err, booking.ErrRiderBusy) {
			if first, failed := s.acceptedBy(ctx, c); failed == nil {
				b, err = first, nil
			}
		}
	}
	if err == nil && chosen.named && b.ID != chosen.id {
		return booking.Booking{}, booking.ErrKeyReused
	}
	return b, err
}

// acceptedBy returns the booking that a rider accepted by a command, as the ledger's leader has it.
// The board knows which one that is: the rider's own records of all acceptances are spread over the
// whole ledger. Errors: bookings.ErrCatchingUp, and those of the desk.
func (s *Service) acceptedBy(ctx context.Context, c booking.Command) (booking.Booking, error) {
	if err := s.catchUp(ctx); err != nil {
		return booking.Booking{}, err
	}
	id, ok := s.board.AcceptedBy(booking.RiderID(c.Actor.ID), c.ID)
	if !ok {
		return booking.Booking{}, booking.ErrNotFound
	}
	return s.c.Desk.AcceptedBy(ctx, c, id)
}

// catchUp waits until the board has what the ledger's leader has now. Errors:
// bookings.ErrCatchingUp; of kind fault.Unavailable.
func (s *Service) catchUp(ctx context.Context) error {
	if err := s.board.Check(ctx); err != nil {
		return err
	}
	last, err := s.c.Ledger.LastSequence(ctx)
	if err != nil {
		return err
	}
	return s.board.Reach(ctx, last)
}

// acceptAny accepts the first booking, in the order of choose, for which the rider wins the race.
//
// Before each look, the board catches up with the ledger. Therefore ErrNoneOpen is true of some
// moment during the call, and a booking that the rider already has is not accepted again. Errors:
// ErrNoneOpen, ErrCrowded, bookings.ErrCatchingUp, and those of the desk.
func (s *Service) acceptAny(ctx context.Context, c booking.Command) (booking.Booking, error) {
	limited, cancel := context.WithTimeout(ctx, anyPatience)
	defer cancel()

	lost := make(map[booking.ID]uint64)
	for {
		if err := s.catchUp(limited); err != nil {
			return booking.Booking{}, err
		}
		next := s.choose(booking.RiderID(c.Actor.ID), lost)
		switch {
		case next.end != nil:
			b, err := s.try(ctx, c, next) // not limited: let an append that has begun finish
			if err == nil || !tryNext(err) {
				return b, err
			}
			lost[next.id] = next.opened
		case next.busy != nil: // the other rider's attempt may fail
			select {
			case <-next.busy:
			case <-limited.Done():
			}
		default:
			return booking.Booking{}, s.noneOpen(booking.RiderID(c.Actor.ID), next)
		}
		if err := limited.Err(); err != nil {
			return booking.Booking{}, ErrCrowded.Because(err)
		}
	}
}

// A candidate is the result of a look at the board. The zero candidate means that no booking is
// open.
type candidate struct {
	id     booking.ID // the booking to try next
	opened uint64     // its OpenedSeq
	end    func()     // to be called after trying it; nil: no booking can be tried now

	// closed when another rider's attempt at the first booking in flight has ended
	busy  <-chan struct{}
	known bool // whether the rider's position is known
}

// choose returns the first booking that the rider may accept and that no other rider of this
// process is trying. It skips the bookings in lost, unless they have been opened again since. lost
// maps them to their OpenedSeq.
//
// The order is: the nearest pickup within the radius, and then, of the bookings without places, the
// longest waiting. It never chooses a pickup farther away, or any pickup for a rider whose position
// is unknown. Such a booking must be named.
//
// choose looks at more and more bookings, from the beginning each time, so that its last look is at
// one state of the board.
func (s *Service) choose(rider booking.RiderID, lost map[booking.ID]uint64) candidate {
	at, known := s.c.Fleet.Where(rider)
	var place *booking.Place
	if known {
		place = &at.Place
	}
	for limit := boardPage; ; limit *= 4 {
		found := s.board.Reachable(place, s.c.Radius, s.c.Now(), limit)
		c := s.first(found, rider, lost)
		c.known = known
		if c.end != nil || len(found) < limit {
			return c
		}
	}
}

// first returns the first booking of found that can be tried now, or else an attempt to wait for.
func (s *Service) first(found []booking.Booking, rider booking.RiderID, lost map[booking.ID]uint64) candidate {
	var wait candidate
	for _, b := range found {
		if lost[b.ID] == b.OpenedSeq || slices.Contains(b.ReleasedBy, rider) {
			continue
		}
		end, busy := s.inFlight.begin(b.ID)
		if end != nil {
			return candidate{id: b.ID, opened: b.OpenedSeq, end: end}
		}
		if wait.busy == nil {
			wait.busy = busy
		}
	}
	return wait
}

// noneOpen returns ErrNoneOpen, with a hint if there are bookings that the rider could name.
func (s *Service) noneOpen(rider booking.RiderID, c candidate) error {
	switch {
	case !s.elsewhere(rider):
		return ErrNoneOpen
	case c.known:
		return ErrNoneOpen.Sayingf("No open bookings within %g km of you", s.c.Radius/1000)
	}
	return ErrNoneOpen.Saying("No open bookings without a pickup, and your position is unknown or too old. " +
		"Report it with PUT /position and try again, or accept a booking by its id.")
}

// elsewhere reports whether the rider may accept an open booking with a pickup, at whatever
// distance.
func (s *Service) elsewhere(rider booking.RiderID) bool {
	for after := uint64(0); ; {
		page := s.board.Open(s.c.Now(), boardPage, after)
		for _, b := range page {
			if b.Pickup != nil && !slices.Contains(b.ReleasedBy, rider) {
				return true
			}
		}
		if len(page) < boardPage {
			return false
		}
		after = page[len(page)-1].OpenedSeq
	}
}

func (s *Service) try(ctx context.Context, c booking.Command, next candidate) (booking.Booking, error) {
	defer next.end()
	return s.c.Desk.Accept(ctx, c, next.id)
}

// tryNext reports whether, after err, another booking may be tried. A busy rider would lose every
// race. After an unknown outcome, another try could give the rider two bookings.
func tryNext(err error) bool {
	switch {
	case errors.Is(err, booking.ErrRiderBusy):
		return false
	case errors.Is(err, booking.ErrNotFound): // the ledger has deleted it by age
		return true
	}
	return fault.KindOf(err) == fault.Conflict
}
