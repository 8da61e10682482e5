// Package bookings is what the services of users and of riders have in common: commands, lists and streams of bookings as HTTP has them. It holds
// nothing, and decides nothing about bookings.
//
// Begin with [Command], for a request that is to change a booking; [List] and [Story] are for those that only look.
package bookings

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/web"
)

// Command returns the command that a request is, by its caller, asking for what is in body; and its idempotency key, which is empty where there is
// none. With a key the command has the same id each time, else one that newID makes. Errors: web.ErrIdempotencyKey.
func Command(r *http.Request, body any, newID func() string) (c booking.Command, key string, err error) {
	if key, _, err = web.IdempotencyKey(r); err != nil {
		return booking.Command{}, "", err
	}
	claims, proof := web.Caller(r.Context())
	c = booking.Command{Actor: booking.Actor{ID: claims.Subject, Role: booking.Role(claims.Role)}, Proof: proof}
	if key == "" {
		c.ID = booking.CommandID(newID())
		return c, "", nil
	}
	asked, err := json.Marshal(body)
	if err != nil {
		return booking.Command{}, "", fmt.Errorf("fingerprint a request: %w", err)
	}
	c.ID, c.Request = booking.Keyed(claims.Subject, r.URL.Path, key, asked)
	return c, key, nil
}

// Named returns the booking that a path names as {id}. A desk refuses what is no id.
func Named(r *http.Request) booking.ID { return booking.ID(chi.URLParam(r, "id")) }
