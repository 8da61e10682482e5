package bookingweb

import (
	"errors"

	"pillion/booking"
	"pillion/web"
)

// EndingOf returns why a stream ends whose watch has ended.
func EndingOf(err error) web.Ending {
	switch {
	case errors.Is(err, booking.ErrSlow):
		return web.SlowReader
	case errors.Is(err, booking.ErrForgotten):
		return web.BookingOver
	}
	return web.Restart
}
