package booking_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/booking/bookingtest"
)

func codes(t testing.TB) *booking.StartCodes {
	t.Helper()
	c, err := booking.NewStartCodes(bytes.Repeat([]byte{7}, booking.StartCodeKeySize))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A code is four digits, the same with the same key, another for another booking, another
// key, and once the booking was released.
func TestStartCodes(t *testing.T) {
	c := codes(t)
	b := booking.Booking{ID: "b", State: booking.StateArrived, OpenedSeq: 7}
	if got := c.Of(b); got != codes(t).Of(b) || len(got) != 4 {
		t.Errorf("the code is %q", got)
	}
	other, err := booking.NewStartCodes(bytes.Repeat([]byte{8}, booking.StartCodeKeySize))
	if err != nil {
		t.Fatal(err)
	}
	differ := 0
	for i := range uint64(1000) {
		a := booking.Booking{ID: booking.ID(fmt.Sprint(i)), State: booking.StateOpen, OpenedSeq: i}
		released := a
		released.OpenedSeq++
		if c.Of(a) != other.Of(a) {
			differ++
		}
		if c.Of(a) != c.Of(released) {
			differ++
		}
	}
	if differ < 1980 { // one in ten thousand is the same by chance
		t.Errorf("of 2000 pairs %d differ", differ)
	}
	for _, s := range booking.States() {
		b.State = s
		want := s == booking.StateOpen || s == booking.StateAccepted || s == booking.StateArrived
		if got := c.Of(b) != ""; got != want {
			t.Errorf("in state %q there is a code: %v", s, got)
		}
	}
	if _, err := booking.NewStartCodes(make([]byte, 31)); err == nil {
		t.Error("a short key is taken")
	}
}

// coded is a house whose desk knows codes, with a booking whose rider has arrived.
func coded(t *testing.T) (*house, *booking.Desk, *booking.StartCodes) {
	t.Helper()
	h, c := newHouse(t), codes(t)
	h.tell(
		t,
		step{Kind: booking.Requested, Actor: owner},
		step{Kind: booking.Accepted, Actor: rider},
		step{Kind: booking.Arrived, Actor: rider},
	)
	d, err := booking.NewDesk(
		h.log,
		booking.DeskOptions{Deadline: time.Minute, Codes: c, Now: func() time.Time { return h.now }},
	)
	if err != nil {
		t.Fatal(err)
	}
	return h, d, c
}

// wrong returns a code that is not the right one.
func wrong(right string) string {
	if right == "0000" {
		return "0001"
	}
	return "0000"
}

// Of any number of wrong codes at once five count, and not even the right one helps then; each
// retry gets its own first answer.
func TestWrongStartCodes(t *testing.T) {
	h, d, c := coded(t)
	right := c.Of(h.history(t).Booking)
	first := by(rider)
	for range 2 {
		if _, err := d.StartWith(t.Context(), first, h.id, wrong(right)); !errors.Is(err, booking.ErrWrongCode) {
			t.Fatalf("a wrong code: %v", err)
		}
	}
	if _, err := d.StartWith(t.Context(), by(owner), h.id, right); !errors.Is(err, booking.ErrWrongRole) {
		t.Errorf("by the user: %v", err)
	}
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if _, err := d.StartWith(
				t.Context(),
				by(rider),
				h.id,
				wrong(right),
			); !errors.Is(
				err,
				booking.ErrWrongCode,
			) {
				t.Errorf("a wrong code: %v", err)
			}
		})
	}
	group.Wait()
	if b := h.history(t).Booking; b.WrongCodes != booking.MaxWrongCodes || b.State != booking.StateArrived {
		t.Errorf("%d wrong codes count, in state %s", b.WrongCodes, b.State)
	}
	if _, err := d.StartWith(t.Context(), by(rider), h.id, right); !errors.Is(err, booking.ErrWrongCode) {
		t.Errorf("the right code after five wrong ones: %v", err)
	}
}

func TestRightStartCode(t *testing.T) {
	h, d, c := coded(t)
	right := c.Of(h.history(t).Booking)
	command := by(rider)
	for range 2 {
		if b, err := d.StartWith(t.Context(), command, h.id, right); err != nil || b.State != booking.StateStarted {
			t.Errorf("the right code: %s, %v", b.State, err)
		}
	}
}

// The manager ends what is overdue, once, and releases a rider after the fifth wrong code, once;
// somebody who was faster is no error.
func TestSteward(t *testing.T) {
	h, d, c := coded(t)
	all := board.New()
	show := func() {
		t.Helper()
		for _, e := range h.history(t).Events {
			if e.Seq > all.Seq() {
				if err := all.Apply(e); err != nil {
					t.Fatal(err)
				}
				all.Advance(e.Seq)
			}
		}
	}
	var away error
	manager, err := booking.NewProcessManager(booking.ProcessManagerConfig{
		Desk:  d,
		Board: all,
		Act:   func(context.Context) (booking.Actor, string, error) { return service, "proof", away },
	})
	if err != nil {
		t.Fatal(err)
	}
	attend := func() {
		t.Helper()
		if _, err := (booking.Releases{ProcessManager: manager}).Attend(t.Context(), h.history(t).Booking); err != nil {
			t.Fatal(err)
		}
	}
	right := c.Of(h.history(t).Booking)
	for range booking.MaxWrongCodes {
		if b := h.history(t).Booking; b.State != booking.StateArrived {
			t.Fatalf("after %d wrong codes it is %s", b.WrongCodes, b.State)
		}
		if _, err := d.StartWith(t.Context(), by(rider), h.id, wrong(right)); !errors.Is(err, booking.ErrWrongCode) {
			t.Fatal(err)
		}
		attend()
		attend()
	}
	b := h.history(t).Booking
	if b.State != booking.StateOpen || b.Reason != booking.ReasonWrongCodes || b.Version != 3+booking.MaxWrongCodes+1 {
		t.Fatalf("after five wrong codes it is %s %q, version %d", b.State, b.Reason, b.Version)
	}
	show()

	if n, err := manager.Expire(t.Context(), b.Deadline.Add(-time.Nanosecond)); n != 0 || err != nil {
		t.Errorf("before the deadline: %d, %v", n, err)
	}
	if n, err := manager.Expire(t.Context(), b.Deadline); n != 0 || !errors.Is(err, booking.ErrNotOverdue) {
		t.Errorf("while this machine's clock is behind: %d, %v", n, err)
	}
	h.now = b.Deadline
	away = bookingtest.ErrAway
	if _, err := manager.Expire(t.Context(), b.Deadline); !errors.Is(err, bookingtest.ErrAway) {
		t.Errorf("with nobody to act as: %v", err)
	}
	away = nil
	for want := 1; want >= 0; want-- {
		if n, err := manager.Expire(t.Context(), b.Deadline); n != want && n != 1 || err != nil {
			t.Errorf("at the deadline: %d, %v", n, err)
		}
		if b := h.history(t).Booking; b.State != booking.StateExpired || b.Version != 3+booking.MaxWrongCodes+2 {
			t.Errorf("it is %s, version %d", b.State, b.Version)
		}
	}
	show()
	if n, err := manager.Expire(t.Context(), b.Deadline); n != 0 || err != nil {
		t.Errorf("afterwards: %d, %v", n, err)
	}
}

// Who deletes their account leaves nobody alone in a ride, and no booking that others would come
// for.
func TestLeaving(t *testing.T) {
	for _, c := range []struct {
		name      string
		story     []step
		who       booking.Actor
		withdraws error         // what Withdraw says
		left      booking.State // what it leaves
		bereaved  booking.State // what EndRidesOf leaves
	}{
		{"an open booking", given(), owner, nil, booking.StateCancelled, booking.StateCancelled},
		{"a user whose rider comes", taken(), owner, booking.ErrRideUnderWay, booking.StateAccepted, booking.StateCancelled},
		{"a user under way", with(taken(), step{Kind: booking.Arrived, Actor: rider}, step{Kind: booking.Started, Actor: rider}), owner, booking.ErrRideUnderWay, booking.StateStarted, booking.StateStarted},
		{"a rider who comes", taken(), rider, booking.ErrRideUnderWay, booking.StateAccepted, booking.StateOpen},
		{"a rider who is there", taken(step{Kind: booking.Arrived, Actor: rider}), rider, booking.ErrRideUnderWay, booking.StateArrived, booking.StateOpen},
		{"a rider under way", taken(step{Kind: booking.Arrived, Actor: rider}, step{Kind: booking.Started, Actor: rider}), rider, booking.ErrRideUnderWay, booking.StateStarted, booking.StateStarted},
		{"a rider who has given it back", given(), former, nil, booking.StateOpen, booking.StateOpen},
		{"a ride that is over", with(completed), owner, nil, booking.StateCompleted, booking.StateCompleted},
		{"its rider", with(completed), rider, nil, booking.StateCompleted, booking.StateCompleted},
		{"somebody else", taken(), other, nil, booking.StateAccepted, booking.StateAccepted},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, gone := range []bool{false, true} {
				h := newHouse(t)
				h.tell(t, c.story...)
				all := board.New()
				for _, e := range h.history(t).Events {
					if err := all.Apply(e); err != nil {
						t.Fatal(err)
					}
				}
				manager, err := booking.NewProcessManager(booking.ProcessManagerConfig{
					Desk:  h.Desk,
					Board: all,
					Act:   func(context.Context) (booking.Actor, string, error) { return service, "proof", nil },
				})
				if err != nil {
					t.Fatal(err)
				}
				leave, says, want := manager.Withdraw, c.withdraws, c.left
				if gone {
					leave, says, want = manager.EndRidesOf, nil, c.bereaved
					// An operator has to end it.
					if c.who == rider && c.bereaved == booking.StateStarted {
						says = booking.ErrRideUnderWay
					}
				}
				for range 2 { // it may be asked for again, of a board that has not heard
					err := leave(t.Context(), c.who)
					if !errors.Is(err, says) {
						t.Errorf("gone=%v: %v, want %v", gone, err, says)
					}
					if err != nil && !gone {
						wantsToEnd(t, err, h.id, toEnd(c.who, c.left))
					}
				}
				if got := h.history(t).Booking.State; got != want {
					t.Errorf("gone=%v: it is %s, want %s", gone, got, want)
				}
			}
		})
	}
}

// toEnd returns the call by which a user or rider can end a ride under way; "": there is none.
func toEnd(who booking.Actor, s booking.State) string {
	switch {
	case who.Role == booking.User && s == booking.StateStarted:
		return ""
	case who.Role == booking.User:
		return "/cancel"
	case s == booking.StateStarted:
		return "/complete"
	}
	return "/release"
}
