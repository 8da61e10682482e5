package bench

import "errors"

// A task is what clients do again and again while it is a system's turn.
type task struct {
	name string
	do   func(*client) error
	// undo does what the next turn needs, for each ride that the client has accepted. It is not
	// measured. nil: nothing.
	undo func(*client, ride) error
}

// errNothingLeft ends a client's turn early.
var errNothingLeft = errors.New("nothing is left to do")

// bookTask books.
var bookTask = task{name: "book", do: func(c *client) error {
	_, err := c.book()
	return err
}}

// acceptTask books, and another person accepts. Each rider does so once in a turn, because a rider
// has one ride at a time; afterwards the users cancel.
var acceptTask = task{
	name: "book and accept",
	do: func(c *client) error {
		rider, err := c.freeRider()
		if err != nil {
			return err
		}
		_, err = c.accept(rider)
		return err
	},
	undo: func(c *client, r ride) error { return c.cancel(r.booking) },
}

// rideTask is a whole ride: book, accept, arrive, read the start code, start, complete.
var rideTask = task{name: "whole ride", do: func(c *client) error {
	r, err := c.accept(c.riders[0])
	if err != nil {
		return err
	}
	path := "/bookings/" + r.booking
	if _, err := c.post(c.system.riderAt, path+"/arrive", r.rider, "{}"); err != nil {
		return err
	}
	seen, err := c.call(c.system.userAt[c.number%len(c.system.userAt)], "GET", path, r.user.token, "")
	if err != nil {
		return err
	}
	code := `{"start_code":"` + seen.field("start_code") + `"}`
	if _, err := c.post(c.system.riderAt, path+"/start", r.rider, code); err != nil {
		return err
	}
	_, err = c.post(c.system.riderAt, path+"/complete", r.rider, "{}")
	return err
}}

// anyTask accepts the booking that has waited longest, of those that are open already. Afterwards
// the riders give theirs back.
var anyTask = task{
	name: "accept any",
	do: func(c *client) error {
		rider, err := c.freeRider()
		if err != nil {
			return err
		}
		accepted, err := c.post(c.system.riderAt, "/accept-booking", rider, "{}")
		if err != nil {
			return err
		}
		c.rides = append(c.rides, ride{booking: accepted.field("booking_id"), rider: rider})
		return nil
	},
	undo: func(c *client, r ride) error {
		_, err := c.post(c.system.riderAt, "/bookings/"+r.booking+"/release", r.rider, "{}")
		return err
	},
}

// fillTask is a ride and nine bookings that are cancelled. It fills the ledger faster than rides
// alone, because a server stores an acceptance in a batch of its own.
var fillTask = task{name: "fill", do: func(c *client) error {
	if err := rideTask.do(c); err != nil {
		return err
	}
	for range 9 {
		booked, err := c.book()
		if err != nil {
			return err
		}
		if err := c.cancel(booked.field("booking_id")); err != nil {
			return err
		}
	}
	return nil
}}

// freeRider returns a rider who has not accepted in this turn.
func (c *client) freeRider() (person, error) {
	if c.next == len(c.riders) {
		return person{}, errNothingLeft
	}
	c.next++
	return c.riders[c.next-1], nil
}

func (c *client) cancel(id string) error {
	_, err := c.post(c.system.userAt, "/bookings/"+id+"/cancel", c.user, `{"reason":"measured"}`)
	return err
}

func (c *client) book() (answer, error) { return c.post(c.system.userAt, "/book", c.user, "{}") }

// accept books, and has a rider accept.
func (c *client) accept(rider person) (ride, error) {
	booked, err := c.book()
	if err != nil {
		return ride{}, err
	}
	r := ride{booking: booked.field("booking_id"), user: c.user, rider: rider}
	if _, err := c.post(c.system.riderAt, "/accept-booking", rider, `{"booking_id":"`+r.booking+`"}`); err != nil {
		return ride{}, err
	}
	c.rides = append(c.rides, r)
	return r, nil
}
