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

// An Offer tells one rider that a booking near them is open, or no longer is.
type Offer struct {
	Rider   booking.RiderID
	Booking booking.ID
	Seq     uint64 // of the event that made it so
	What    string // "open" or "gone": one token of a subject
	At      time.Time
	Body    []byte // JSON without personal data
}

// SendOffer tells a rider, as feed.rider.<rider>.open.<booking>.<sequence>.<what>, on core NATS: a
// rider who is not connected misses it. The ce-id of a repeated offer is the same. Errors are of
// kind fault.Unavailable: there is no connection.
func SendOffer(c *bus.Conn, n Offer) error {
	// they become tokens of the subject
	if !booking.ValidID(string(n.Rider)) || !booking.ValidID(string(n.Booking)) {
		return fmt.Errorf("send offer: %q or %q is not an ID", n.Rider, n.Booking)
	}
	id := string(n.Booking) + "." + strconv.FormatUint(n.Seq, 10) + "." + n.What
	event := bus.CloudEvent{ID: id, Type: offerTypePrefix + n.What, Subject: string(n.Booking),
		Time: jsontime.Format(n.At)}
	m := &nats.Msg{Subject: bus.FeedRiderPrefix + string(n.Rider) + bus.FeedOpenToken + id, Data: n.Body,
		Header: event.Header()}
	if err := c.Send(m); err != nil {
		return bus.Unavailable("send offer", err)
	}
	return nil
}

// offerTypePrefix begins the ce-type of offers.
const offerTypePrefix = "pillion.offer."
