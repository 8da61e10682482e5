package ridersvc

import (
	"net/http"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus/story"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/bookings"
)

// story answers with the story of a booking that the caller has: its events since the caller has
// accepted it, with the claims of their tokens. It shows no more of an event than the stream does.
// A booking of another rider is not found.
func (s *Service) story(w http.ResponseWriter, r *http.Request) error {
	b, err := s.c.Desk.Show(r.Context(), bookings.PathID(r))
	if err != nil {
		return err
	}
	if b.Rider != caller(r) {
		return booking.ErrNotFound
	}
	told, err := s.c.Story(r.Context(), b.ID)
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, told.As(booking.Accepted, lookOfRider))
}

// lookOfRider is what the rider sees of a change, as in eventView.
func lookOfRider(c *booking.Change) (story.Look, bool) {
	v, visible := bookings.NewEventView(c, booking.Rider)
	l := story.Look{Event: v.Event, Stars: v.Stars}
	if v.Event == booking.Cancelled || v.Event == booking.Released {
		l.Reason = c.Event.Reason
	}
	return l, visible
}
