package bookings

import (
	"context"
	"net/http"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus/story"
	"github.com/example/pillion/web"
)

// Story answers with the story of a booking, with the claims of its events' tokens, as far as the
// stream shows those events. It answers booking.ErrNotFound to everybody but the party.
func (s EventStream) Story(read func(context.Context, booking.ID) (story.Story, error)) web.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx := r.Context()
		b, err := s.Desk.Show(ctx, PathID(r))
		if err != nil {
			return err
		}
		if claims, _ := web.Caller(ctx); !s.IsParty(&b, claims.Subject) {
			return booking.ErrNotFound
		}
		told, err := read(ctx, b.ID)
		if err != nil {
			return err
		}
		return web.WriteJSON(w, http.StatusOK, told.As(s.Since, s.look))
	}
}

// look returns what the stream shows of a change.
func (s EventStream) look(c *booking.Change) (story.Look, bool) {
	v, show := s.View(c)
	return story.Look{Event: v.Event, Reason: v.Reason, Stars: v.Stars}, show
}
