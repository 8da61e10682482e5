package ridersvc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/web"
	bookingweb "github.com/example/pillion/web/bookings"
)

const (
	// anyPatience is how long a rider who asks for any booking goes on trying while others are faster.
	anyPatience = 10 * time.Second
	// boardPatience is how long one look at the board waits for it to include what the ledger has.
	boardPatience = 2 * time.Second
	// boardPage is how many open bookings are taken from the board at a time.
	boardPage = 64
)

// acceptRequest is the body of POST /accept-booking: nothing at all, or which booking.
type acceptRequest struct {
	Booking choice `json:"booking_id"`
}

// A choice is a booking that was named, rightly or wrongly. A name that is null was named too: a client that has lost the id of
// the booking it means must not be given any other.
type choice struct {
	named bool
	id    booking.ID
}

// MarshalJSON tells what was named from what was not.
func (c choice) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"named": c.named, "id": c.id})
}

// UnmarshalJSON takes a string for the id. Whatever else it is stays an id that no booking has.
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

// accept takes the booking that the rider names, or else the first one in the order of choose.
func (s *Service) accept(w http.ResponseWriter, r *http.Request) error {
	var req acceptRequest
	if err := web.DecodeOptional(r, &req); err != nil {
		return err
	}
	c, key, err := bookingweb.Command(r, req, s.newID)
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
		Booking: b.ID, State: b.State, Pickup: b.Pickup, Dropoff: b.Dropoff, Quote: b.Quote, UpdatedAt: jsontime.Time(b.UpdatedAt),
	})
}

// acceptOnce accepts what was chosen. A command that may be a retry is answered with what the first try has accepted, where it has: the booking
// that it did not name, and not the next one.
func (s *Service) acceptOnce(ctx context.Context, c booking.Command, retried bool, chosen choice) (booking.Booking, error) {
	accept := func() (booking.Booking, error) {
		if err := s.onDuty(ctx, booking.RiderID(c.Actor.ID)); err != nil {
			return s.alreadyMine(ctx, booking.RiderID(c.Actor.ID), chosen, err)
		}
		if chosen.named {
			return s.desk.Accept(ctx, c, chosen.id)
		}
		return s.acceptAny(ctx, c)
	}
	if !retried {
		return accept()
	}
	b, err := s.desk.AcceptedBy(ctx, c)
	if errors.Is(err, booking.ErrNotFound) {
		b, err = accept()
		if errors.Is(err, booking.ErrRiderBusy) { // perhaps by this very command, sent twice at once
			if first, failed := s.desk.AcceptedBy(ctx, c); failed == nil {
				b, err = first, nil
			}
		}
	}
	if err == nil && chosen.named && b.ID != chosen.id {
		return booking.Booking{}, booking.ErrKeyReused
	}
	return b, err
}

// acceptAny accepts an open booking: the first, in the order of choose, of those that nobody else takes first.
//
// It looks only at a board that includes everything that the ledger's leader had when it was asked, after this call began. So
// ErrNoneOpen is true: there was a moment during the call at which no booking was open to this rider, or, where it says so,
// none within reach. And so a booking that the rider has already is not taken for an open one and accepted again.
func (s *Service) acceptAny(ctx context.Context, c booking.Command) (booking.Booking, error) {
	if err := s.trusted(ctx); err != nil {
		return booking.Booking{}, err
	}
	limited, cancel := context.WithTimeout(ctx, anyPatience)
	defer cancel()

	lost := make(map[booking.ID]uint64)
	for {
		last, err := s.ledger.LastSequence(limited)
		if err != nil {
			return booking.Booking{}, err
		}
		if err := s.reach(limited, last); err != nil {
			return booking.Booking{}, err
		}
		next := s.choose(booking.RiderID(c.Actor.ID), lost)
		switch {
		case next.end != nil:
			b, err := s.try(ctx, c, next) // ctx: an append that has begun is worth its own patience
			if err == nil || !tryNext(err) {
				return b, err
			}
			lost[next.id] = next.opened
		case next.under != nil: // whoever is trying it may be about to fail
			select {
			case <-next.under:
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

// A chance is what a look at the board has come to. The zero chance is that nothing is open.
type chance struct {
	id     booking.ID // what to try next
	opened uint64     // its OpenedSeq
	end    func()     // to be called after trying it; nil: there is nothing to try now

	under <-chan struct{} // closed when another rider has done with the first of those under attempt
	known bool            // whether it was known where the rider is
}

// choose returns the first booking that the rider may have and that no other rider of this process is trying. What the rider has tried in
// vain is in lost, with the OpenedSeq it then had: what was opened anew may be tried again.
//
// That is the nearest within the radius, and after those the longest waiting of the bookings without places. A booking whose
// pickup is farther away, or that may be so because nobody knows where the rider is, is never chosen for a rider: neither it
// nor its passenger would want to find out. A rider who wants one names it.
//
// It looks at ever more, each time from the beginning, so that what it has seen in the end was all there at one moment.
func (s *Service) choose(rider booking.RiderID, lost map[booking.ID]uint64) chance {
	at, known := s.fleet.Where(rider)
	var place *booking.Place
	if known {
		place = &at.Place
	}
	for limit := boardPage; ; limit *= 4 {
		found := s.board.Reachable(place, s.radius, s.now(), limit)
		c := s.first(found, rider, lost)
		c.known = known
		if c.end != nil || len(found) < limit {
			return c
		}
	}
}

// first returns the first of some bookings that can be tried now, or else what to wait for.
func (s *Service) first(bookings []booking.Booking, rider booking.RiderID, lost map[booking.ID]uint64) chance {
	var wait chance
	for _, b := range bookings {
		if lost[b.ID] == b.OpenedSeq || slices.Contains(b.ReleasedBy, rider) {
			continue
		}
		end, under := s.attempts.begin(b.ID)
		if end != nil {
			return chance{id: b.ID, opened: b.OpenedSeq, end: end}
		}
		if wait.under == nil {
			wait.under = under
		}
	}
	return wait
}

// noneOpen returns ErrNoneOpen, and says so where there are others that the rider could name.
func (s *Service) noneOpen(rider booking.RiderID, c chance) error {
	switch {
	case !s.elsewhere(rider):
		return ErrNoneOpen
	case c.known:
		return ErrNoneOpen.Saying(fmt.Sprintf("No open bookings within %g km of you", s.radius/1000))
	}
	return ErrNoneOpen.Saying("No open bookings without a pickup, and where you are is not known, or no longer. " +
		"Report your position (PUT /position) and try again, or accept a booking by its id.")
}

// elsewhere reports whether a booking is open that has a pickup, and that the rider may accept.
func (s *Service) elsewhere(rider booking.RiderID) bool {
	for after := uint64(0); ; {
		page := s.board.Open(s.now(), boardPage, after)
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

func (s *Service) try(ctx context.Context, c booking.Command, next chance) (booking.Booking, error) {
	defer next.end()
	return s.desk.Accept(ctx, c, next.id)
}

// tryNext reports whether err says that this booking is lost and another may be had. A busy rider would lose them all. Of an
// outcome that is not known nothing is said: going on could give one rider two bookings.
func tryNext(err error) bool {
	switch {
	case errors.Is(err, booking.ErrRiderBusy):
		return false
	case errors.Is(err, booking.ErrNotFound): // it has aged out of the ledger
		return true
	}
	return fault.KindOf(err) == fault.Conflict
}

// reach waits until the board includes everything up to sequence seq.
func (s *Service) reach(ctx context.Context, seq uint64) error {
	ctx, cancel := context.WithTimeout(ctx, boardPatience)
	defer cancel()
	if err := s.board.Await(ctx, seq); err != nil {
		return ErrCatchingUp.Because(err)
	}
	return nil
}
