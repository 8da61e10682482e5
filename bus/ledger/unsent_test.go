package ledger_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token/tokentest"
)

// An event that was never sent was not recorded, and the error says so.
func TestNothingSent(t *testing.T) {
	t.Parallel()
	server := bustest.Serve(t, "127.0.0.1:0", "")
	conn := bustest.ConnectTo(t, bus.Config{URL: server.URL()})
	if err := bus.Provision(t.Context(), conn, bus.Plan{}); err != nil {
		t.Fatal(err)
	}
	auth := tokentest.New(t)
	l, err := ledger.Open(conn, ledger.Options{Source: "/test", Tokens: auth.Verifier()})
	if err != nil {
		t.Fatal(err)
	}
	bustest.StopServer(t, server)
	wait.Until(t, "the connection is lost", func() bool { return conn.Ready(t.Context()) != nil })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	e := booking.Event{Kind: booking.Requested, Actor: booking.Actor{ID: tokentest.Ulla, Role: booking.User},
		Details: booking.Details{Deadline: time.Now().Add(time.Minute)}}
	c := booking.Command{ID: booking.CommandID(booking.NewID()), Actor: e.Actor, Proof: "none is looked at"}
	_, err = l.Append(ctx, c, booking.ID(booking.NewID()), booking.History{}, e)
	if errors.Is(err, ledger.ErrOutcomeUnknown) || !errors.Is(err, bus.ErrUnavailable) ||
		!strings.Contains(fault.From(err).Message, "Nothing was recorded.") {
		t.Errorf("append without a connection: %v", err)
	}
}
