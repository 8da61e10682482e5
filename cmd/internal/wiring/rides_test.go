package wiring

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/internal/wait"
)

// settings are valid settings.
var settings = setting.Rides{Deadline: setting.Duration{Value: time.Minute}}

func TestMain(m *testing.M) { os.Exit(wait.Main(m)) }

// TestServicesAreReadyToAct checks that a service without a token of its own is not ready.
func TestServicesAreReadyToAct(t *testing.T) {
	t.Parallel()
	e := bustest.Run(t)
	base, err := NewBase(slog.New(slog.DiscardHandler), "none", bus.Config{URL: e.URL(), Name: "all"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(base.Close)
	dir := t.TempDir()
	rides, err := base.Rides(settings, setting.Fleet{PositionAge: setting.Duration{Value: time.Minute}},
		filepath.Join(dir, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	limits := setting.Streams{PerAccount: setting.Count{Value: 1}, Total: setting.Count{Value: 1}}
	user, err := rides.User(setting.Bookings{Tariff: setting.Tariff{Value: booking.DefaultTariff()}}, setting.HTTP{},
		limits, filepath.Join(dir, "usersvc.nk"))
	if err != nil {
		t.Fatal(err)
	}
	rider, err := rides.Rider(setting.HTTP{}, setting.Arrival{}, limits, filepath.Join(dir, "ridersvc.nk"))
	if err != nil {
		t.Fatal(err)
	}
	for service, part := range map[string]Component{"usersvc": user, "ridersvc": rider} {
		var refused error
		for _, c := range part.Checks {
			refused = errors.Join(refused, c.Ready(t.Context()))
		}
		if !errors.Is(refused, trust.ErrNoIdentity) {
			t.Errorf("%s, without a token, is not ready because of: %v", service, refused)
		}
	}
}

// TestServicesKnowWhatIsShown shows a booking on the board that the leader has not applied yet, as
// a replica may. No service of the process may answer that there is no such booking.
func TestServicesKnowWhatIsShown(t *testing.T) {
	t.Parallel()
	e := bustest.Run(t)
	base, err := NewBase(slog.New(slog.DiscardHandler), "none", bus.Config{URL: e.URL(), Name: "all"},
		bus.Config{URL: e.URL(), Name: "ridersvc", Inbox: "ridersvc"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(base.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rides, err := base.Rides(settings, setting.Fleet{PositionAge: setting.Duration{Value: time.Minute}},
		filepath.Join(t.TempDir(), "secret"))
	if err != nil {
		t.Fatal(err)
	}
	id, user := booking.ID(booking.NewID()), booking.Actor{ID: booking.NewID(), Role: booking.User}
	if err := rides.board.Apply(booking.Event{
		ID: booking.EventID(booking.NewID()), Booking: id, N: 1, Kind: booking.Requested, Actor: user, Seq: 1,
		At:      time.Now(),
		Command: booking.CommandID(booking.NewID()), Details: booking.Details{Deadline: time.Now().Add(time.Hour)},
	}); err != nil {
		t.Fatal(err)
	}
	for _, service := range []string{"usersvc", "ridersvc"} {
		ledger, err := base.Of(service).ledger("/"+service, rides.board)
		if err != nil {
			t.Fatal(err)
		}
		if h, err := ledger.Load(ctx, booking.ID(booking.NewID()), booking.Fresh); err != nil || h.Revision != 0 {
			t.Errorf("%s, of a booking that is not on the board: %v %v", service, h.Booking, err)
		}
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		if h, err := ledger.Load(short, id, booking.Fresh); err == nil {
			t.Errorf("%s says of a booking on the board that it is %q", service, h.Booking.State)
		}
		cancel()
	}
}
