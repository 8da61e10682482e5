package ledger_test

import (
	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/bookingtest"
)

// The words of the specification that the crowd's history is held against.
type (
	call = bookingtest.Call
	op   = bookingtest.Op
)

const (
	opShow     = bookingtest.OpShow
	opBook     = bookingtest.OpBook
	opAccept   = bookingtest.OpAccept
	opArrive   = bookingtest.OpArrive
	opStart    = bookingtest.OpStart
	opComplete = bookingtest.OpComplete
	opCancel   = bookingtest.OpCancel
	opRelease  = bookingtest.OpRelease
	opExpire   = bookingtest.OpExpire
	opRate     = bookingtest.OpRate

	ok        = bookingtest.OK
	unknown   = bookingtest.Unknown
	contended = bookingtest.Contended
	forever   = bookingtest.Forever
)

// isWith reports whether a rider has a booking.
func isWith(b booking.Booking, rider string) bool {
	return string(b.Rider) == rider && (b.State == booking.StateAccepted || b.State == booking.StateArrived ||
		b.State == booking.StateStarted)
}

// riderIDs returns the IDs of the riders.
func (c *crowd) riderIDs() (ids []string) {
	for _, d := range c.riders {
		ids = append(ids, d.ID)
	}
	return ids
}
