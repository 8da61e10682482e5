package feed

import (
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/jsontime"
)

// An OfferNotice is what one rider is told of a booking that is open near them, or is not open any more.
type Offer struct {
	Rider   booking.RiderID
	Booking booking.ID
	Seq     uint64 // of the event by which it is so
	What    string // "open" or "gone": one token of a subject
	At      time.Time
	Body    []byte // JSON without anything personal
}

// TellRider tells a rider, as feed.rider.<rider>.open.<booking>.<sequence>.<what>, on core NATS: nothing is stored, and who is not connected does not hear
// it. Its ce-id is the same whenever somebody is told the same. Errors are of kind fault.Unavailable: there is no connection.
func SendOffer(c *bus.Conn, n Offer) error {
	if !booking.ValidID(string(n.Rider)) || !booking.ValidID(string(n.Booking)) { // they become tokens of a subject
		return fmt.Errorf("tell of an offer: %q or %q is no id", n.Rider, n.Booking)
	}
	place := string(n.Booking) + "." + strconv.FormatUint(n.Seq, 10) + "." + n.What
	if err := c.Send(&nats.Msg{Subject: bus.FeedRiderPrefix + string(n.Rider) + bus.FeedOpenToken + place, Data: n.Body, Header: nats.Header{
		bus.HeaderSpecVersion: {"1.0"},
		bus.HeaderID:          {place},
		bus.HeaderType:        {typeOffer + n.What},
		bus.HeaderSubject:     {string(n.Booking)},
		bus.HeaderTime:        {jsontime.Format(n.At)},
		bus.HeaderContentType: {"application/json"},
	}}); err != nil {
		return bus.Unavailable("tell of an offer", err)
	}
	return nil
}

// typeOffer begins the ce-type of what riders are told of open bookings.
const typeOffer = "pillion.offer."
