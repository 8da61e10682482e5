// Package ledgertest is for tests of what stands on the ledger: users and riders with tokens,
// ledgers, boards, and messages as a forger would write them. Begin with [New].
package ledgertest

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// A Kit is a NATS server or cluster, and an authority that issues tokens.
type Kit struct {
	*bustest.Env
	Auth *tokentest.Authority

	GroupFrom int // of its ledgers; see [ledger.Options]
}

// A Person is an actor with an access token, and the event token in it.
type Person struct {
	booking.Actor
	Token, Proof string
}

// New returns a Kit on e, with a new authority.
func New(t testing.TB, e *bustest.Env) *Kit {
	t.Helper()
	return &Kit{Env: e, Auth: tokentest.New(t)}
}

// Races is [bustest.Races] for what appends. On one server acceptances share batches, as in pillion
// with a server that syncs later. It runs test once more with group commit that groups whatever it
// can, on one server that syncs each write. In the long form it does so on a cluster of three too.
func Races(t *testing.T, test func(t *testing.T, k *Kit)) {
	t.Helper()
	bustest.Races(t, func(t *testing.T, e *bustest.Env) {
		k := New(t, e)
		if e.Replicas == 1 {
			k.GroupFrom = ledger.GroupBatches
		}
		test(t, k)
	})
	t.Run("grouped", func(t *testing.T) {
		bustest.Setup{SyncAlways: true}.Sizes(t, func(t *testing.T, e *bustest.Env) {
			k := New(t, e)
			k.GroupFrom = 2
			test(t, k)
		})
	})
}

// Person returns a new user or rider.
func (k *Kit) Person(role booking.Role) Person {
	id := booking.NewID()
	raw, proof := k.Auth.Pair(token.Role(role), id)
	return Person{booking.Actor{ID: id, Role: role}, raw, proof}
}

// Command returns a new command of the person.
func (p Person) Command() booking.Command {
	return booking.Command{ID: booking.CommandID(booking.NewID()), Actor: p.Actor, Proof: p.Proof}
}

// Ledger opens a ledger on a connection of its own.
func (k *Kit) Ledger(t testing.TB) *ledger.Ledger {
	t.Helper()
	return k.LedgerOn(t, k.Connect(t))
}

// LedgerOn opens a ledger on a connection.
func (k *Kit) LedgerOn(t testing.TB, c *bus.Conn) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(c, ledger.Options{Source: "/test", Tokens: k.Auth.Verifier(), GroupFrom: k.GroupFrom})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// NewDesk returns a desk whose bookings stay open for an hour.
func NewDesk(t testing.TB, log booking.Log) *booking.Desk {
	t.Helper()
	d, err := booking.NewDesk(log, booking.DeskOptions{Deadline: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Follow feeds a new board from the ledger until the test ends.
func Follow(t testing.TB, l *ledger.Ledger) (*board.Board, *ledger.Follower) {
	t.Helper()
	b, f, _ := FollowUntil(t, l)
	return b, f
}

// FollowUntil is Follow, and the follower ends with stop, if that is before the end of the test.
func FollowUntil(t testing.TB, l *ledger.Ledger) (_ *board.Board, _ *ledger.Follower, stop func()) {
	t.Helper()
	board := board.New()
	f := l.Follow(board)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("follower: %v", err)
		}
	})
	t.Cleanup(stop)
	return board, f, stop
}

// Await waits until the board has everything that the ledger has now.
func Await(t testing.TB, l *ledger.Ledger, b *board.Board) {
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

// Message makes the message of an event like a publisher who knows the format and obeys no rule.
// The changes are applied to it.
func Message(
	id booking.ID, n int, kind booking.Kind, actor booking.Actor, proof string,
	change ...func(m *nats.Msg, body map[string]any),
) *nats.Msg {
	body := map[string]any{
		"v": 2, "booking_id": id, "actor": actor.ID, "role": actor.Role, "command_id": booking.NewID(),
	}
	switch kind {
	case booking.Requested, booking.Released, booking.OperatorReleased:
		body["deadline"] = time.Now().Add(time.Hour).UTC().Format(time.RFC3339Nano)
	case booking.Rated, booking.RiderRated:
		body["stars"] = 5
	}
	m := nats.NewMsg(fmt.Sprintf("ledger.booking.%s.%d.%s", id, n, kind))
	eventID := booking.NewID()
	for name, value := range map[string]string{
		"ce-specversion": "1.0", "ce-id": eventID, "ce-type": "pillion.booking." + string(kind), "ce-source": "/forger",
		"ce-subject": string(id), "ce-time": time.Now().UTC().Format(time.RFC3339Nano),
		"Content-Type":  "application/json",
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

// Record makes the record of an engagement, like [Message] does an event: that the rider has
// accepted a booking by an event.
func Record(rider Person, proof string, version int, id booking.ID, event string) *nats.Msg {
	m := nats.NewMsg(fmt.Sprintf("ledger.rider.%s.%s.engaged", rider.ID, id))
	m.Header.Set("Authorization", "Bearer "+proof)
	m.Data, _ = json.Marshal(map[string]any{"v": version, "rider": rider.ID, "booking_id": id, "event_id": event,
		"command_id": booking.NewID()})
	return m
}

// Accept stores an acceptance with its record, without any guard, and returns its sequence.
func Accept(t testing.TB, c *bus.Conn, id booking.ID, n int, rider Person) uint64 {
	t.Helper()
	m := Message(id, n, booking.Accepted, rider.Actor, rider.Proof)
	Store(t, c, Record(rider, rider.Proof, 2, id, m.Header.Get("ce-id")))
	return Store(t, c, m)
}

// Store publishes a message to its stream, and fails the test unless it is stored.
func Store(t testing.TB, c *bus.Conn, m *nats.Msg) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	ack, err := c.JetStream().PublishMsg(ctx, m)
	if err != nil {
		t.Fatalf("store %s: %v", m.Subject, err)
	}
	return ack.Sequence
}
