package leaving_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/leaving"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token/tokentest"
)

func TestMain(m *testing.M) { os.Exit(wait.Main(m)) }

// One instance answers a question about the rides of an account. Without an answer they are
// unknown.
func TestRidesOfAnAccount(t *testing.T) {
	e := bustest.Run(t)
	asks := e.Connect(t)
	if err := leaving.Withdraw(t.Context(), asks, tokentest.Ulla, booking.User); !errors.Is(err, leaving.ErrUnknown) {
		t.Errorf("nobody answers: %v", err)
	}
	asked := make(chan leaving.Notice, 1)
	says := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan error, 2)
	for _, role := range []booking.Role{booking.User, booking.Rider} {
		serves := e.Connect(t)
		go func() {
			over <- leaving.Serve(ctx, serves, role, func(_ context.Context, l leaving.Notice) error {
				if l.Role != role {
					t.Errorf("the service of a %s's bookings is asked for %+v", role, l)
				}
				asked <- l
				return <-says
			})
		}()
	}
	says <- nil
	wait.Until(t, "the service answers", func() bool {
		return leaving.Withdraw(t.Context(), asks, tokentest.Ulla, booking.User) == nil
	})
	if got := <-asked; got.Account != tokentest.Ulla || got.Role != booking.User || got.Gone {
		t.Errorf("asked for %+v", got)
	}
	var err error
	says <- booking.ErrRideUnderWay
	wait.Until(t, "the other service answers", func() bool {
		err = leaving.Withdraw(t.Context(), asks, tokentest.Rita, booking.Rider)
		return !errors.Is(err, leaving.ErrUnknown)
	})
	if f := fault.From(err); f.Kind != fault.Conflict || f.Code != booking.ErrRideUnderWay.Code ||
		f.Message != booking.ErrRideUnderWay.Message {
		t.Errorf("a ride is under way: %v", err)
	}
	<-asked
	says <- errors.New("broken")
	if err := leaving.EndRides(t.Context(), asks, tokentest.Rita, booking.Rider); !errors.Is(err, leaving.ErrUnknown) {
		t.Errorf("the service fails: %v", err)
	}
	if got := <-asked; !got.Gone || got.Role != booking.Rider {
		t.Errorf("asked for %+v", got)
	}
	if err := leaving.Withdraw(t.Context(), asks, "nobody", booking.Rider); !errors.Is(err, leaving.ErrUnknown) {
		t.Errorf("what is no account: %v", err)
	}
	stop()
	for range 2 {
		if err := <-over; err != nil {
			t.Errorf("it ends with %v", err)
		}
	}
}
