package ledger_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/trustkey"
)

// An upgraded process is one that reads the ledger with the keys of the bucket.
type upgraded struct {
	*ledger.Ledger
	keys     *trust.KeyWatch
	board    *board.Board
	metrics  *prometheus.Registry
	follower *ledger.Follower
}

func newUpgraded(t *testing.T, k *ledgertest.Kit, anchor *trustkey.Anchor) *upgraded {
	t.Helper()
	p := &upgraded{metrics: prometheus.NewRegistry()}
	conn, epoch := k.ConnectWith(t, bus.Config{Registerer: p.metrics}), new(trust.Epoch)
	p.keys = trust.NewKeyWatch(conn, anchor, time.Second, epoch)
	bustest.Running(t, p.keys.Run)
	tokens, err := token.NewVerifier(token.Config{Keys: p.keys})
	if err != nil {
		t.Fatal(err)
	}
	if p.Ledger, err = ledger.Open(conn, ledger.Options{Source: "/test", Tokens: tokens, Epoch: epoch}); err != nil {
		t.Fatal(err)
	}
	p.board, p.follower = ledgertest.Follow(t, p.Ledger)
	return p
}

// shows waits until the board has the state of a booking, and checks that of its history. The state
// "" is that of a booking that does not exist.
func (p *upgraded) shows(t *testing.T, what string, id booking.ID, state booking.State) {
	t.Helper()
	ledgertest.Await(t, p.Ledger, p.board)
	wait.Until(t, what+" is on the board as it should be", func() bool {
		b, _ := p.board.Get(id)
		return b.State == state
	})
	if got := ledgertest.State(t, p.Ledger, id); got != state {
		t.Errorf("%s: its history says %q, want %q", what, got, state)
	}
}

// TestUpgradeClosesTheOldRule has a ledger from before event tokens, and an old writer that still
// writes. Nothing of it is lost before the rule is closed. From then on what it writes is refused,
// counted and in the quarantine, and what was stored before stays what it is, for those that were
// reading and for those that start later.
func TestUpgradeClosesTheOldRule(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		conn := k.Connect(t)
		key, err := trustkey.New()
		if err != nil {
			t.Fatal(err)
		}
		authority := trust.NewAuthority(conn, key, filepath.Join(t.TempDir(), "published.jwt"))
		change := func(do func(*token.KeySet) *token.KeySet) {
			t.Helper()
			if _, _, err := authority.ChangeKeys(t.Context(),
				func(set *token.KeySet, _ time.Time) (*token.KeySet, error) { return do(set), nil }); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := conn.Bucket(bus.KeysBucket).Create(t.Context(), bus.JWKSKey, k.Auth.KeySet().JWKS()); err != nil {
			t.Fatal(err) // as an older authsvc has left it
		}
		user := k.Person(booking.User)
		write := func(n int, id booking.ID, kind booking.Kind) uint64 {
			t.Helper()
			return ledgertest.Store(t, conn, ledgertest.Message(id, n, kind, user.Actor, user.Token,
				func(_ *nats.Msg, body map[string]any) { body["v"] = 1 }))
		}
		var ids [5]booking.ID
		for i := range ids {
			ids[i] = booking.ID(booking.NewID())
		}
		stored, during, between, after, since := ids[0], ids[1], ids[2], ids[3], ids[4]
		write(1, stored, booking.Requested)

		change(func(set *token.KeySet) *token.KeySet { return set }) // the new authsvc signs it
		p := newUpgraded(t, k, key.Anchor())
		p.shows(t, "what was stored before the upgrade", stored, booking.StateOpen)
		last := write(1, during, booking.Requested)
		p.shows(t, "what an old writer stores during it", during, booking.StateOpen)
		write(1, between, booking.Requested)
		p.shows(t, "what it stores while the command is given", between, booking.StateOpen)

		change(func(set *token.KeySet) *token.KeySet { return set.CloseOldRule(last) })
		p.shows(t, "what was stored behind the signed sequence", between, "")
		write(1, after, booking.Requested)
		write(2, stored, booking.Cancelled)
		desk := ledgertest.NewDesk(t, p.Ledger)
		if _, err := desk.Book(t.Context(), user.Command(), since, booking.Trip{}); err != nil {
			t.Fatal(err)
		}
		if _, err := desk.Cancel(t.Context(), user.Command(), during, ""); err != nil {
			t.Errorf("an old booking does not go on: %v", err)
		}
		wait.Until(t, "three refusals are recorded", func() bool { return len(reasonsIn(t, conn)) == 3 })
		for subject, reason := range reasonsIn(t, conn) {
			if reason != "token_old_rule" {
				t.Errorf("%s was refused for %s", subject, reason)
			}
		}
		again := newUpgraded(t, k, key.Anchor())
		for what, p := range map[string]*upgraded{"who was reading": p, "who starts later": again} {
			p.shows(t, what+": an old booking", stored, booking.StateOpen)
			p.shows(t, what+": another, which went on", during, booking.StateCancelled)
			p.shows(t, what+": one behind the sequence", between, "")
			p.shows(t, what+": one after the command", after, "")
			p.shows(t, what+": a new one", since, booking.StateOpen)
			if n := p.refusals(t); n < 2 {
				t.Errorf("%s: %v refusals are counted", what, n)
			}
			if err := p.keys.Ready(t.Context()); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		if until := again.keys.OldRuleUntil(); until == nil || *until != last {
			t.Errorf("a process that starts later says the rule ends at %v, want %d", until, last)
		}
	})
}

// refusals returns how many messages were refused by the old rule's end.
func (p *upgraded) refusals(t *testing.T) (n float64) {
	t.Helper()
	families, err := p.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "pillion_events_refused_total" && m.GetLabel()[0].GetValue() == "token_old_rule" {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// reasonsIn returns the reasons in the quarantine, by subject.
func reasonsIn(t *testing.T, conn *bus.Conn) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	msgs, err := conn.ReadAll(ctx, bus.QuarantineStream, bus.QuarantinePattern, 1)
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]string{}
	for _, m := range msgs {
		reasons[m.Subject] = m.Header.Get("Pillion-Reason")
	}
	return reasons
}
