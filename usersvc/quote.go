package usersvc

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/web"
)

var (
	errQuery = fault.New(fault.Malformed, "bad_query", "Give from and to once each, "+
		"as latitude and longitude in degrees: /quote?from=12.9716,77.5946&to=12.9352,77.6245.")
	errNoTariff = fault.New(fault.Unavailable, "no_tariff",
		"Fares are not configured on this server. Book without a quote, or try again later.")
)

type quoteAnswer struct {
	Pickup  *booking.Place `json:"pickup"`
	Dropoff *booking.Place `json:"dropoff"`
	*booking.Quote
}

// quote answers what a ride would cost if it were booked now. It stores nothing: POST /book fixes
// the fare.
func (s *Service) quote(w http.ResponseWriter, r *http.Request) error {
	var trip booking.Trip
	var err error
	query := r.URL.Query()
	if trip.Pickup, err = parsePlace(query.Get("from")); err != nil {
		return err
	}
	if trip.Dropoff, err = parsePlace(query.Get("to")); err != nil {
		return err
	}
	q, err := s.c.Desk.Quote(trip)
	if err != nil {
		return err
	}
	if q == nil {
		return errNoTariff
	}
	return web.WriteJSON(w, http.StatusOK, quoteAnswer{Pickup: trip.Pickup, Dropoff: trip.Dropoff, Quote: q})
}

// parsePlace reads a query parameter of the form lat,lng.
func parsePlace(value string) (*booking.Place, error) {
	lat, lng, ok := strings.Cut(value, ",")
	if !ok {
		return nil, errQuery
	}
	var p booking.Place
	var err error
	if p.Lat, err = strconv.ParseFloat(lat, 64); err != nil {
		return nil, errQuery.Because(err)
	}
	if p.Lng, err = strconv.ParseFloat(lng, 64); err != nil {
		return nil, errQuery.Because(err)
	}
	return &p, p.Valid()
}
