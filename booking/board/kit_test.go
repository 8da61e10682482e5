package board_test

import (
	"github.com/example/pillion/booking/bookingtest"
)

// The people of these tests, and their stories.
var (
	owner          = bookingtest.Owner
	rider, other   = bookingtest.TheRider, bookingtest.Other
	service        = bookingtest.Service
	noon, deadline = bookingtest.Noon, bookingtest.Deadline
)

const ride = bookingtest.Ride

type step = bookingtest.Step

var (
	tell, given, taken = bookingtest.Tell, bookingtest.Given, bookingtest.Taken
	replay, wants      = bookingtest.Replay, bookingtest.Wants
	by                 = bookingtest.By
)
