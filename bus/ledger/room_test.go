package ledger_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/wait"
)

// ledgerWithBoard opens a ledger like an instance of a service, with a board of its own.
func ledgerWithBoard(k *ledgertest.Kit, t testing.TB, o ledger.Options) *ledger.Ledger {
	t.Helper()
	conn := k.Connect(t)
	o.Source, o.Tokens, o.Board = "/test", k.Auth.Verifier(), board.New()
	l, err := ledger.Open(conn, o)
	if err != nil {
		t.Fatal(err)
	}
	follower := l.Follow(o.Board)
	ctx, stop := context.WithCancel(t.Context())
	var running errgroup.Group
	running.Go(func() error { return follower.Run(ctx) })
	t.Cleanup(func() {
		stop()
		if err := running.Wait(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// A ledger that several instances fill as fast as they can keeps room for everything that has
// begun: every ride takes its longest way to the end, and unwanted bookings expire.
func TestFullLedgerKeepsRoomForWhatWasBegun(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string]bustest.Setup{"one server": {}, "three servers": {Replicas: 3}} {
		if setup.Replicas == 0 || wait.Long() {
			t.Run(name, func(t *testing.T) {
				fillLedger(t, bustest.StartWith(t, setup,
					bus.Plan{LedgerSize: 1 << 20}))
			})
		}
	}
}

func fillLedger(t *testing.T, e *bustest.Env) {
	k := ledgertest.New(t, e)
	var mu sync.Mutex
	var booked []booking.ID
	var desks []*booking.Desk
	var filling errgroup.Group
	user := k.Person(booking.User)
	for range 2 {
		l := ledgerWithBoard(k, t, ledger.Options{})
		if err := l.Room(t.Context()); err != nil {
			t.Fatalf("an empty ledger: %v", err)
		}
		desk, err := booking.NewDesk(l, booking.DeskOptions{Deadline: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		desks = append(desks, desk)
		for range 16 {
			filling.Go(func() error {
				for {
					id := booking.ID(booking.NewID())
					switch _, err := desk.Book(t.Context(), user.Command(), id, booking.Trip{}); {
					case errors.Is(err, ledger.ErrFull):
						if room := l.Room(t.Context()); !errors.Is(room, ledger.ErrFull) &&
							!errors.Is(room, ledger.ErrNotCaughtUp) {
							t.Errorf("no booking is taken, and of the room is said: %v", room)
						}
						return nil
					case errors.Is(err, booking.ErrContended):
					case err != nil:
						return err
					default:
						mu.Lock()
						booked = append(booked, id)
						mu.Unlock()
					}
				}
			})
		}
	}
	if err := filling.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(booked) < 20 {
		t.Fatalf("a ledger of a MiB is full with %d bookings", len(booked))
	}
	service := k.Person(booking.Service)
	var riding errgroup.Group
	riding.SetLimit(16)
	for i, id := range booked {
		desk, rider := desks[i%2], k.Person(booking.Rider)
		riding.Go(func() error {
			if i%3 == 0 {
				return expire(t, desk, service, id)
			}
			if _, err := desk.Accept(t.Context(), rider.Command(), id); errors.Is(err, booking.ErrExpired) {
				return expire(t, desk, service, id)
			} else if err != nil {
				return err
			}
			_, err := desk.Arrive(t.Context(), rider.Command(), id)
			for range booking.MaxWrongCodes - 1 {
				if err == nil {
					_, err = desk.RefuseStart(t.Context(), rider.Command(), id)
				}
			}
			if err == nil {
				_, err = desk.Start(t.Context(), rider.Command(), id)
			}
			if err == nil {
				_, err = desk.Complete(t.Context(), rider.Command(), id)
			}
			return err
		})
	}
	if err := riding.Wait(); err != nil {
		t.Errorf("of %d bookings not all could be ended: %v", len(booked), err)
	}
}

func expire(t *testing.T, desk *booking.Desk, as ledgertest.Person, id booking.ID) (err error) {
	wait.Until(t, "the deadline has passed", func() bool {
		_, err = desk.Expire(t.Context(), as.Command(), id)
		return !errors.Is(err, booking.ErrNotOverdue)
	})
	return err
}

// Repeating a booking finds it, even when the ledger is full.
func TestFullLedgerKnowsWhatItHas(t *testing.T) {
	k := ledgertest.New(t, bustest.RunWith(t, bus.Plan{LedgerSize: 1 << 20}))
	desk := ledgertest.NewDesk(t, ledgerWithBoard(k, t, ledger.Options{}))
	user := k.Person(booking.User)
	first, id := user.Command(), booking.ID(booking.NewID())
	if _, err := desk.Book(t.Context(), first, id, booking.Trip{}); err != nil {
		t.Fatal(err)
	}
	for {
		_, err := desk.Book(t.Context(), user.Command(), booking.ID(booking.NewID()), booking.Trip{})
		if errors.Is(err, ledger.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if b, err := desk.Book(t.Context(), first, id, booking.Trip{}); err != nil || b.ID != id {
		t.Errorf("a booking that is there, asked for again: %v, %v", b, err)
	}
}

// The room of the disk limits the ledger.
func TestFullDiskTakesNoBookings(t *testing.T) {
	k := ledgertest.New(t, bustest.Run(t))
	free := int64(1 << 30)
	l := ledgerWithBoard(k, t, ledger.Options{Disk: func() (int64, int64, bool) { return 1 << 30, free, true }})
	desk := ledgertest.NewDesk(t, l)
	user := k.Person(booking.User)
	book := func() error {
		_, err := desk.Book(t.Context(), user.Command(), booking.ID(booking.NewID()), booking.Trip{})
		return err
	}
	if err := book(); err != nil {
		t.Fatal(err)
	}
	free = 64 << 20
	wait.Until(t, "no booking is taken", func() bool { return errors.Is(book(), ledger.ErrFull) })
	if err := l.Room(t.Context()); !errors.Is(err, ledger.ErrFull) {
		t.Errorf("of the room is said: %v", err)
	}
	free = 1 << 30
	wait.Until(t, "bookings are taken again", func() bool { return book() == nil })
}
