package bus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

func TestMain(m *testing.M) { os.Exit(bustest.Main(m)) }

// A kit is a NATS, an authority for its tokens, and people who hold them.
type kit struct {
	*bustest.Env
	auth *tokentest.Authority
}

// A person is an actor with the token that proves it.
type person struct {
	booking.Actor
	proof string
}

func newKit(t testing.TB, e *bustest.Env) *kit {
	t.Helper()
	return &kit{Env: e, auth: tokentest.New(t)}
}

func (k *kit) person(role booking.Role) person {
	id := booking.NewID()
	return person{booking.Actor{ID: id, Role: role}, k.auth.Token(token.Role(role), id, "somebody@example.com")}
}

func (p person) command() booking.Command {
	return booking.Command{ID: booking.CommandID(booking.NewID()), Actor: p.Actor, Proof: p.proof}
}

// ledger opens a ledger on a connection of its own.
func (k *kit) ledger(t testing.TB) *bus.Ledger {
	t.Helper()
	return k.ledgerOn(t, k.Connect(t))
}

func (k *kit) ledgerOn(t testing.TB, c *bus.Conn) *bus.Ledger {
	t.Helper()
	l, err := bus.OpenLedger(c, bus.LedgerOptions{Source: "/test", Tokens: k.auth.Verifier()})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func newDesk(t testing.TB, log booking.Log) *booking.Desk {
	t.Helper()
	d, err := booking.NewDesk(log, booking.DeskOptions{Deadline: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// follow feeds a new board from the ledger until the test ends, and returns it.
func follow(t testing.TB, l *bus.Ledger) (*board.Board, *bus.Follower) {
	t.Helper()
	board := board.New()
	f := l.Follow(board)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("follower: %v", err)
		}
	})
	return board, f
}

// await waits until the board has everything that the ledger has now.
func await(t testing.TB, l *bus.Ledger, b *board.Board) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	seq, err := l.LastSequence(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Await(ctx, seq); err != nil {
		t.Fatalf("the board stays at %d of %d: %v", b.Seq(), seq, err)
	}
}

// message makes an event's message as a publisher would who knows the format and obeys no rule.
func message(id booking.ID, n int, kind booking.Kind, actor booking.Actor, proof string, change ...func(m *nats.Msg, body map[string]any)) *nats.Msg {
	body := map[string]any{
		"v": 1, "booking_id": id, "actor": actor.ID, "role": actor.Role, "command_id": booking.NewID(),
	}
	switch kind {
	case booking.Requested, booking.Released:
		body["deadline"] = time.Now().Add(time.Hour).UTC().Format(time.RFC3339Nano)
	case booking.Rated:
		body["stars"] = 5
	}
	m := nats.NewMsg(fmt.Sprintf("ledger.booking.%s.%d.%s", id, n, kind))
	eventID := booking.NewID()
	for name, value := range map[string]string{
		"ce-specversion": "1.0", "ce-id": eventID, "ce-type": "pillion.booking." + string(kind), "ce-source": "/forger",
		"ce-subject": string(id), "ce-time": time.Now().UTC().Format(time.RFC3339Nano), "Content-Type": "application/json",
		"Authorization": "Bearer " + proof, "Nats-Msg-Id": eventID,
	} {
		m.Header.Set(name, value)
	}
	for _, c := range change {
		c(m, body)
	}
	if m.Data == nil {
		m.Data, _ = json.Marshal(body) // maps of plain values cannot fail
	}
	return m
}

// store publishes a message straight to the stream and fails the test unless it is stored.
func store(t testing.TB, c *bus.Conn, m *nats.Msg) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	ack, err := c.JetStream().PublishMsg(ctx, m)
	if err != nil {
		t.Fatalf("store %s: %v", m.Subject, err)
	}
	return ack.Sequence
}
