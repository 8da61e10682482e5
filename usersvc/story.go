package usersvc

import (
	"net/http"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus/story"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/bookings"
)

// story answers with the story of one of the caller's bookings: its events with the claims of their
// tokens. It shows no more of an event than the stream does. A booking of another user is not
// found.
func (s *Service) story(w http.ResponseWriter, r *http.Request) error {
	b, err := s.c.Desk.Show(r.Context(), bookings.PathID(r))
	if err != nil {
		return err
	}
	if claims, _ := web.Caller(r.Context()); b.User != booking.UserID(claims.Subject) {
		return booking.ErrNotFound
	}
	told, err := s.c.Story(r.Context(), b.ID)
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, told.As(booking.Requested, lookOfUser))
}

// lookOfUser is what the user sees of a change, as in eventView.
func lookOfUser(c *booking.Change) (story.Look, bool) {
	v, visible := bookings.NewEventView(c, booking.User)
	l := story.Look{Event: v.Event, Stars: v.Stars}
	if c.Booking.State == booking.StateCancelled {
		l.Reason = c.Booking.Reason
	}
	return l, visible
}
