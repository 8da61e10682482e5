package booking_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/bookingtest"
)

// A history is folded into a booking. The second accept does not follow from what was before it, so
// nobody acts on it.
func ExampleBooking_Apply() {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	john := booking.Actor{ID: "john", Role: booking.User}
	rita := booking.Actor{ID: "rita", Role: booking.Rider}
	otto := booking.Actor{ID: "otto", Role: booking.Rider}

	var b booking.Booking
	for _, e := range []booking.Event{
		{
			ID:      "a",
			Booking: "ride",
			N:       1,
			Kind:    booking.Requested,
			Actor:   john,
			At:      at,
			Details: booking.Details{Deadline: at.Add(2 * time.Minute)},
		},
		{ID: "b", Booking: "ride", N: 2, Kind: booking.Accepted, Actor: rita, At: at.Add(time.Second)},
		{ID: "c", Booking: "ride", N: 3, Kind: booking.Accepted, Actor: otto, At: at.Add(time.Second)},
	} {
		if next, err := b.Apply(e); err == nil {
			b = next
		}
	}
	fmt.Println(b.State, b.Rider, b.Version)

	_, err := b.Accept(otto, at.Add(time.Second))
	fmt.Println(err)
	// Output:
	// accepted rita 2
	// already_accepted: Another raider has already accepted this booking. Please choose another one.
}

// A desk takes commands. Here its log is the one in memory that tests use; services give it the
// ledger.
func ExampleDesk() {
	desk, err := booking.NewDesk(bookingtest.NewLog(), booking.DeskOptions{Deadline: 2 * time.Minute})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	john := booking.Actor{ID: booking.NewID(), Role: booking.User}
	rita := booking.Actor{ID: booking.NewID(), Role: booking.Rider}
	otto := booking.Actor{ID: booking.NewID(), Role: booking.Rider}
	command := func(a booking.Actor) booking.Command {
		return booking.Command{ID: booking.CommandID(booking.NewID()), Actor: a, Proof: "the actor's token"}
	}

	id := booking.ID(booking.NewID())
	b, err := desk.Book(ctx, command(john), id, booking.Trip{})
	fmt.Println(b.State, err)

	b, err = desk.Accept(ctx, command(rita), id)
	fmt.Println(b.State, b.Rider == booking.RiderID(rita.ID), err)

	_, err = desk.Accept(ctx, command(otto), id)
	fmt.Println(errors.Is(err, booking.ErrAlreadyAccepted))

	cancel := command(john)
	b, err = desk.Cancel(ctx, cancel, id, "it has stopped raining")
	fmt.Println(b.State, b.Version, err)

	b, err = desk.Cancel(ctx, cancel, id, "it has stopped raining") // the same command once more
	fmt.Println(b.State, b.Version, err)
	// Output:
	// open <nil>
	// accepted true <nil>
	// true
	// cancelled 3 <nil>
	// cancelled 3 <nil>
}
