package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/wait"
)

// A forgery is a message that must never be acted on.
type forgery struct {
	name   string
	reason string
	make   func(id booking.ID) *nats.Msg
}

// forgeries returns every way to forge an event of an open booking of user.
func forgeries(k *ledgertest.Kit, user, other ledgertest.Person, rider ledgertest.Person) []forgery {
	now := time.Now()
	expired := k.Auth.Raw(k.Auth.Private, k.Auth.EventHeader(),
		k.Auth.EventClaims(string(booking.Rider), rider.ID, now.Add(-time.Hour), now.Add(-20*time.Second)))
	expiredAccess := k.Auth.Raw(k.Auth.Private, k.Auth.Header(), k.Auth.Claims(string(booking.Rider), rider.ID,
		"somebody@example.com", now.Add(-time.Hour), now.Add(-20*time.Second)))
	accepted := func(proof string, change ...func(*nats.Msg, map[string]any)) func(booking.ID) *nats.Msg {
		return func(id booking.ID) *nats.Msg {
			return ledgertest.Message(id, 2, booking.Accepted, rider.Actor, proof, change...)
		}
	}
	header := func(name, value string) func(*nats.Msg, map[string]any) {
		return func(m *nats.Msg, _ map[string]any) { m.Header.Set(name, value) }
	}
	field := func(name string, value any) func(*nats.Msg, map[string]any) {
		return func(_ *nats.Msg, body map[string]any) { body[name] = value }
	}
	old := field("v", 1)
	raw := func(data []byte) func(*nats.Msg, map[string]any) {
		return func(m *nats.Msg, _ map[string]any) { m.Data = data }
	}
	noise := make([]byte, 1_000_000)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(noise)

	list := []forgery{
		{"no token", "no_token", accepted("", func(m *nats.Msg, _ map[string]any) { m.Header.Del("Authorization") })},
		{"two tokens", "no_token", accepted(rider.Proof, func(m *nats.Msg, _ map[string]any) { m.Header.Add("Authorization", "Bearer "+rider.Proof) })},
		{"another scheme", "no_token", accepted("", header("Authorization", "Basic "+rider.Proof))},
		{"expired when stored", "token_expired", accepted(expired)},
		{"expired when stored, by an old build", "token_expired", accepted(expiredAccess, old)},
		{"an access token", "token_type", accepted(rider.Token)},
		{"an event token, by an old build", "token_type", accepted(rider.Proof, old)},
		{"an event token of a key that nobody trusts", "token_signature", accepted(k.Auth.Raw(k.Auth.Other,
			k.Auth.EventHeader(), k.Auth.EventClaims("raider", rider.ID, now, now.Add(time.Hour))))},
		{"a user's token on accepted", "role", func(id booking.ID) *nats.Msg {
			return ledgertest.Message(id, 2, booking.Accepted, other.Actor, other.Proof)
		}},
		{"a user's token that says rider in the body", "role", func(id booking.ID) *nats.Msg {
			return ledgertest.Message(id, 2, booking.Accepted, booking.Actor{ID: other.ID, Role: booking.Rider},
				other.Proof)
		}},
		{"a rider's token on requested", "role", func(booking.ID) *nats.Msg {
			return ledgertest.Message(booking.ID(booking.NewID()), 1, booking.Requested, rider.Actor, rider.Proof)
		}},
		{"a deadline two days ahead", "deadline", func(booking.ID) *nats.Msg {
			return ledgertest.Message(booking.ID(booking.NewID()), 1, booking.Requested, user.Actor, user.Proof,
				field("deadline", now.Add(48*time.Hour)))
		}},
		{"a rider's rated, which is the user's", "role", func(id booking.ID) *nats.Msg {
			return ledgertest.Message(id, 2, booking.Rated, rider.Actor, rider.Proof)
		}},
		{"sub is not the actor", "actor", func(id booking.ID) *nats.Msg {
			return ledgertest.Message(id, 2, booking.Accepted, k.Person(booking.Rider).Actor, rider.Proof)
		}},
		{"subject and body disagree on the booking", "mismatch", accepted(rider.Proof, field("booking_id", booking.NewID()))},
		{"subject and type disagree", "mismatch", accepted(rider.Proof, header("ce-type", "pillion.booking.cancelled"))},
		{"type and subject header disagree", "mismatch", accepted(rider.Proof, header("ce-subject", booking.NewID()))},
		{"a schema nobody knows", "schema", accepted(rider.Proof, field("v", 99))},
		{"broken JSON", "body", accepted(rider.Proof, raw([]byte(`{"v":2,"booking_id":`)))},
		{"an empty body", "body", accepted(rider.Proof, raw([]byte{}))},
		{"1 MB of noise", "body", accepted(rider.Proof, raw(noise))},
		{"no event id", "body", accepted(rider.Proof, header("ce-id", ""))},
		{"does not follow: completed while open", "does_not_follow", func(id booking.ID) *nats.Msg {
			return ledgertest.Message(id, 2, booking.Completed, rider.Actor, rider.Proof)
		}},
		{"does not follow: somebody else cancels", "does_not_follow", func(id booking.ID) *nats.Msg {
			return ledgertest.Message(id, 2, booking.Cancelled, other.Actor, other.Proof)
		}},
		{"a version far ahead", "position", func(id booking.ID) *nats.Msg {
			return ledgertest.Message(id, 999, booking.Arrived, rider.Actor, rider.Proof)
		}},
		{"first but not requested", "does_not_follow", func(booking.ID) *nats.Msg {
			return ledgertest.Message(booking.ID(booking.NewID()), 1, booking.Arrived, rider.Actor, rider.Proof)
		}},
		{"an acceptance without its record", "not_engaged", accepted(rider.Proof)},
		{"a user's token on what is the operator's", "role", func(id booking.ID) *nats.Msg {
			return ledgertest.Message(id, 2, booking.OperatorCancelled, user.Actor, user.Proof)
		}},
		{"no event's subject", "subject", func(id booking.ID) *nats.Msg {
			return ledgertest.Message(id, 2, "stolen", rider.Actor, rider.Proof)
		}},
		{"a position with a leading zero", "subject", accepted(rider.Proof, func(m *nats.Msg, _ map[string]any) {
			m.Subject = strings.Replace(m.Subject, ".2.", ".02.", 1)
		})},
		{"an older time of storing in a header", "token_expired",
			accepted(expired, func(m *nats.Msg, _ map[string]any) {
				m.Header.Set("Nats-Time-Stamp", now.Add(-30*time.Minute).UTC().Format(time.RFC3339Nano))
			})},
		{"an end of the history in a header", "body", accepted(rider.Proof, raw([]byte{}),
			func(m *nats.Msg, _ map[string]any) {
				m.Header.Set("Status", "204")
				m.Header.Set("Description", "EOB")
			})},
	}
	// other keys, alg none, HS256 with the public key, and the rest of the table
	for _, f := range k.Auth.Forgeries() {
		if f.Token == "" || len(f.Token) > 60_000 || strings.ContainsAny(f.Token, "\r\n\t ") {
			continue // a NATS header cannot carry it: it would arrive as another token
		}
		list = append(list, forgery{"token: " + f.Name, "token_" + f.Reason, accepted(f.Token, old)})
	}
	return list
}

// No forgery is ever acted on, the real command still succeeds, and each forgery is in the
// quarantine once, with its reason and without its token.
func TestForgedEvents(t *testing.T) {
	t.Parallel()
	e := bustest.Run(t)
	k := ledgertest.New(t, e)
	registry := prometheus.NewRegistry()
	conn := k.ConnectWith(t, bus.Config{Registerer: registry})
	ledger := k.LedgerOn(t, conn)
	desk := ledgertest.NewDesk(t, ledger)
	board, _ := ledgertest.Follow(t, ledger)
	// another instance, which refuses and records the same
	second, _ := ledgertest.Follow(t, k.Ledger(t))
	attacker := k.Connect(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()

	user, other, forger := k.Person(booking.User), k.Person(booking.User), k.Person(booking.Rider)
	reasons := map[uint64]string{} // by sequence
	tokens := map[string]string{}
	for _, f := range forgeries(k, user, other, forger) {
		id, rider := booking.ID(booking.NewID()), k.Person(booking.Rider)
		before, err := desk.Book(ctx, user.Command(), id, booking.Trip{})
		if err != nil {
			t.Fatal(err)
		}
		m := f.make(id)
		seq := ledgertest.Store(t, attacker, m)
		reasons[seq] = f.reason
		if tok := strings.TrimPrefix(m.Header.Get("Authorization"), "Bearer "); len(tok) > 20 {
			tokens[tok] = f.name
		}
		ledgertest.Await(t, ledger, board)
		if b, ok := board.Get(id); !ok || b.State != booking.StateOpen || b.Version != 1 {
			t.Errorf("%s: the board was moved: %+v", f.name, b)
		}
		if b, err := desk.Show(ctx, id); err != nil || b.State != before.State || b.Version != 1 {
			t.Errorf("%s: the answer was moved: %+v %v", f.name, b, err)
		}
		// What really happens next is stored. Hundreds of forgeries differ in their token alone,
		// and an accept, which is a batch, costs the server several syncs: there the user cancels.
		var b booking.Booking
		want := booking.StateAccepted
		if strings.HasPrefix(f.name, "token: ") && !wait.Long() {
			want = booking.StateCancelled
			b, err = desk.Cancel(ctx, user.Command(), id, "")
		} else {
			b, err = desk.Accept(ctx, rider.Command(), id)
		}
		if err != nil || b.State != want {
			t.Errorf("%s: the real command failed: %+v %v", f.name, b, err)
		}
		ledgertest.Await(t, ledger, board)
		if b, _ := board.Get(id); b.State != want || want == booking.StateAccepted && string(b.Rider) != rider.ID {
			t.Errorf("%s: the board missed the real command: %+v", f.name, b)
		}
	}
	ledgertest.Await(t, ledger, second)
	for seq, record := range quarantine(t, conn, len(reasons)) {
		want, ok := reasons[seq]
		if !ok {
			t.Errorf("message %d is in the quarantine and was no forgery: %v", seq, record.Header)
			continue
		}
		got := record.Header.Get("Pillion-Reason")
		if got != want {
			t.Errorf("message %d was refused for %q, want %q", seq, got, want)
		}
		if len(record.Data) > 4<<10 {
			t.Errorf("message %d: %d bytes of its body were kept", seq, len(record.Data))
		}
		whole := fmt.Sprint(record.Header) + string(record.Data)
		for tok, name := range tokens {
			if strings.Contains(whole, tok) {
				t.Errorf("message %d: the token of %q is in the quarantine", seq, name)
			}
		}
	}
	declared, err := testutil.GatherAndCount(registry, "pillion_events_refused_total")
	if err != nil || declared != 27 {
		t.Errorf("%d reasons exist, want the 27 that are declared at the start: %v", declared, err)
	}
	total, counted := 0.0, 0
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "pillion_events_refused_total" {
			for _, m := range f.GetMetric() {
				if n := m.GetCounter().GetValue(); n > 0 {
					total += n
					counted++
				}
			}
		}
	}
	if counted < 8 {
		t.Errorf("%d reasons were counted", counted)
	}
	if int(total) != len(reasons) {
		t.Errorf("the counters say %v refused, want %d", total, len(reasons))
	}
}

// quarantine returns want records by the sequence of the recorded message, once they are there.
func quarantine(t testing.TB, c *bus.Conn, want int) map[uint64]*jetstream.RawStreamMsg {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	s, err := c.JetStream().Stream(ctx, bus.QuarantineStream)
	if err != nil {
		t.Fatal(err)
	}
	var info *jetstream.StreamInfo
	wait.Until(t, fmt.Sprintf("%d records in the quarantine", want), func() bool {
		info, err = s.Info(ctx)
		return err != nil || info.State.Msgs >= uint64(want)
	})
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Msgs != uint64(want) {
		t.Errorf("the quarantine holds %d records, want %d", info.State.Msgs, want)
	}
	records := map[uint64]*jetstream.RawStreamMsg{}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		m, err := s.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var of uint64
		if _, err := fmt.Sscanf(m.Subject, "quarantine.%d", &of); err != nil {
			t.Fatalf("record on %s", m.Subject)
		}
		if records[of] != nil {
			t.Errorf("message %d is in the quarantine twice", of)
		}
		records[of] = m
	}
	return records
}

// A thousand forgeries on a booking's next positions stop nobody.
func TestThousandForgeries(t *testing.T) {
	t.Parallel()
	e := bustest.Run(t)
	k := ledgertest.New(t, e)
	ledger := k.Ledger(t)
	desk := ledgertest.NewDesk(t, ledger)
	board, _ := ledgertest.Follow(t, ledger)
	attacker := k.Connect(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	user, rider := k.Person(booking.User), k.Person(booking.Rider)
	id := booking.ID(booking.NewID())
	if _, err := desk.Book(ctx, user.Command(), id, booking.Trip{}); err != nil {
		t.Fatal(err)
	}
	const forged = 1100 // more than a direct get returns
	for n := 2; n < 2+forged; n++ {
		m := ledgertest.Message(id, n, booking.Accepted, rider.Actor, "forged")
		if err := attacker.NATS().PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	if err := attacker.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "all forgeries are stored", func() bool {
		seq, err := ledger.LastSequence(ctx)
		return err == nil && seq >= forged+1
	})
	b, err := desk.Accept(ctx, rider.Command(), id)
	if err != nil || b.State != booking.StateAccepted {
		t.Fatalf("the real accept: %+v %v", b, err)
	}
	ledgertest.Await(t, ledger, board)
	if b, _ := board.Get(id); string(b.Rider) != rider.ID {
		t.Errorf("the board: %+v", b)
	}
	quarantine(t, k.Connect(t), forged)
}

// A publisher that speaks raw NATS can write headers that end before the server's begin. The reader
// of one booking must not believe them either.
func TestHeadersThatPretend(t *testing.T) {
	e := bustest.Run(t)
	k := ledgertest.New(t, e)
	ledger := k.Ledger(t)
	desk := ledgertest.NewDesk(t, ledger)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	user := k.Person(booking.User)
	now := time.Now()
	expired := k.Auth.Raw(k.Auth.Private, k.Auth.EventHeader(),
		k.Auth.EventClaims(string(booking.User), user.ID, now.Add(-time.Hour), now.Add(-time.Minute)))
	past := now.Add(-30 * time.Minute).UTC().Format(time.RFC3339Nano)

	for name, pretend := range map[string]func(id booking.ID, m *nats.Msg) []byte{
		"a second set of the server's headers": func(id booking.ID, m *nats.Msg) []byte {
			m.Header.Set("Nats-Time-Stamp", past)
			return rawHeader(m, "")
		},
		"headers that end early": func(id booking.ID, m *nats.Msg) []byte {
			m.Header.Set("Nats-Stream", bus.LedgerStream)
			m.Header.Set("Nats-Subject", m.Subject)
			m.Header.Set("Nats-Sequence", "2")
			m.Header.Set("Nats-Time-Stamp", past)
			m.Header.Set("Nats-Num-Pending", "0")
			return rawHeader(m, "junk: behind an empty line\r\n\r\n")
		},
		"an end of the answer": func(id booking.ID, m *nats.Msg) []byte {
			m.Data = nil
			return append([]byte("NATS/1.0 204 EOB\r\n"), rawHeader(m, "")[len("NATS/1.0\r\n"):]...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			id := booking.ID(booking.NewID())
			if _, err := desk.Book(ctx, user.Command(), id, booking.Trip{}); err != nil {
				t.Fatal(err)
			}
			m := ledgertest.Message(id, 2, booking.Cancelled, user.Actor, expired)
			before, err := ledger.LastSequence(ctx)
			if err != nil {
				t.Fatal(err)
			}
			publishRaw(t, e.URL(), m.Subject, pretend(id, m), m.Data)
			wait.Until(t, "the forgery is stored", func() bool {
				seq, err := ledger.LastSequence(ctx)
				return err == nil && seq > before
			})
			for _, reading := range []booking.Reading{booking.Quick, booking.Fresh} {
				h, err := ledger.Load(ctx, id, reading)
				if err != nil {
					t.Fatal(err)
				}
				if h.Booking.State != booking.StateOpen || len(h.Events) != 1 || h.Revision != before+1 {
					t.Errorf("the history was forged: %+v", h)
				}
			}
			if b, err := desk.Cancel(ctx, user.Command(), id, ""); err != nil || b.State != booking.StateCancelled {
				t.Errorf("the booking cannot be cancelled any more: %v", err)
			}
		})
	}
}

// rawHeader writes a message's headers like nats.go, and other bytes behind their end.
func rawHeader(m *nats.Msg, behind string) []byte {
	var b bytes.Buffer
	b.WriteString("NATS/1.0\r\n")
	for name, values := range m.Header {
		for _, v := range values {
			fmt.Fprintf(&b, "%s: %s\r\n", name, v)
		}
	}
	b.WriteString("\r\n" + behind)
	return b.Bytes()
}
