// Package bookings is the HTTP code that usersvc and ridersvc share: commands, steps of a ride,
// lists and event streams of bookings. It keeps no state and takes no decisions about bookings.
//
// Begin with [Command] or [Step] for a request that changes a booking, and with [List] or
// [EventStream] for one that reads. [TrustedBoard] keeps a read from an incomplete board.
package bookings

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/web"
)

// Command returns the command of the caller who sent r, and the request's idempotency key, which
// may be empty. With a key, the command's id depends on the caller, the path and the key, and the
// command carries a fingerprint of body. Without one, newID makes the id. Errors:
// web.ErrIdempotencyKey, and those of token.Claims.Proof.
func Command(r *http.Request, body any, newID func() string) (c booking.Command, key string, err error) {
	if key, _, err = web.IdempotencyKey(r); err != nil {
		return booking.Command{}, "", err
	}
	claims, _ := web.Caller(r.Context())
	proof, err := claims.Proof()
	if err != nil {
		return booking.Command{}, "", err
	}
	c = booking.Command{Actor: booking.Actor{ID: claims.Subject, Role: booking.Role(claims.Role)}, Proof: string(proof)}
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

// PathID returns the booking id in the {id} of r's path. It may be malformed: the desk checks it.
func PathID(r *http.Request) booking.ID { return booking.ID(chi.URLParam(r, "id")) }
