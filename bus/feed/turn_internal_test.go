package feed

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token/tokentest"
)

// readyPublishers returns instances that could publish.
func readyPublishers(t *testing.T, e *bustest.Env, n int) (all []*publisher) {
	t.Helper()
	auth := tokentest.New(t)
	for range n {
		l, err := ledger.Open(e.Connect(t), ledger.Options{Source: "/test", Tokens: auth.Verifier()})
		if err != nil {
			t.Fatal(err)
		}
		follower := l.Follow(board.New())
		bustest.Running(t, follower.Run)
		wait.Until(t, "the follower is ready", func() bool { return follower.Ready(t.Context()) == nil })
		all = append(all, newPublisher(l, follower))
	}
	return all
}

// takes has instances try to take the turn for some time, and returns those that got it.
func takes(t *testing.T, all []*publisher, most time.Duration) (got []*turn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	turns := make(chan *turn, len(all))
	for _, p := range all {
		go func() { turns <- p.take(ctx, time.Time{}) }()
	}
	for range all {
		if x := <-turns; x != nil {
			got = append(got, x)
		}
	}
	return got
}

// Of several instances one gets the turn. The others get it no sooner than its owner has lost it,
// one of them again, and the former owner knows.
func TestTurnIsTakenByOne(t *testing.T) {
	bustest.Virtual(t, func(t *testing.T, e *bustest.Env) {
		all := readyPublishers(t, e, 4)
		first := takes(t, all, turnLife)
		if len(first) != 1 {
			t.Fatalf("%d instances have the turn", len(first))
		}
		var others []*publisher
		for _, p := range all {
			if p.owner != first[0].owner {
				others = append(others, p)
			}
		}
		if early := takes(t, others, turnLife); len(early) > 0 && e.Virtual {
			t.Fatalf("%d take it while its owner may publish", len(early))
		}
		second := takes(t, others, 2*turnTaken-turnLook)
		if len(second) != 1 {
			t.Fatalf("%d instances have the turn of one that is dead", len(second))
		}
		if first[0].valid() {
			t.Error("the first owner would still publish")
		}
		if err := first[0].renew(t.Context(), first[0].owner, 0); !errors.Is(err, errTurnOver) {
			t.Errorf("the first owner renews its turn: %v", err)
		}
		if err := second[0].renew(t.Context(), second[0].owner, 0); err != nil {
			t.Errorf("the second owner does not: %v", err)
		}
	})
}

// An owner that has slept longer than its turn lasts asks before it publishes: it goes on if nobody
// has taken the turn, and else publishes nothing.
func TestTurnOfAnOwnerThatSlept(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		all := readyPublishers(t, e, 2)
		p, other := all[0], all[1]
		heard := make(chan *nats.Msg, 8)
		nc := p.ledger.Conn().NATS() // what it publishes comes back in order
		sub, err := nc.ChanSubscribe("feed.booking.>", heard)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = sub.Unsubscribe() }()
		x := p.take(t.Context(), time.Time{})
		told := func() int {
			t.Helper()
			if err := nc.FlushTimeout(wait.Patience); err != nil {
				t.Fatal(err)
			}
			return len(heard)
		}
		change := []*ledger.Change{{Event: booking.Event{Booking: "b", N: 1, Kind: booking.Requested, Seq: 1}}}
		x.renewed = time.Now().Add(-turnLife)
		if err := p.tell(t.Context(), x, change); err != nil || told() != 1 {
			t.Errorf("nobody has taken the turn, and %d of 1 is told: %v", len(heard), err)
		}
		// A renewal of which the answer was lost is its own.
		lost := *x
		if err := lost.write(t.Context(), p.owner, 0); err != nil {
			t.Fatal(err)
		}
		if err := x.renew(t.Context(), p.owner, 0); err != nil {
			t.Errorf("after a lost answer: %v", err)
		}
		taken := turn{conn: other.ledger.Conn(), owner: other.owner, revision: x.revision}
		if err := taken.write(t.Context(), other.owner, 0); err != nil {
			t.Fatal(err)
		}
		x.renewed = time.Now().Add(-turnLife)
		if err := p.tell(t.Context(), x, change); !errors.Is(err, errTurnOver) || told() != 1 {
			t.Errorf("another one has the turn, and %d is told, want 1: %v", len(heard), err)
		}
	})
}
