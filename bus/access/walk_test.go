package access_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

func TestMain(m *testing.M) { os.Exit(bustest.Main(m)) }

// Everybody there is.
const (
	user  = "user"
	rider = "rider"
)

var everybody = []string{access.Authsvc, access.Usersvc, access.Ridersvc, access.Operator, access.Callout, access.Watcher, user, rider}

// A cell is something on NATS that one may do or not, and who may.
type cell struct {
	verb, subject string
	may           []string
}

const (
	pub = "publish"
	sub = "subscribe"
	b   = "bbbbbbbbbbbbbbbbbbbbbbbbbb" // a booking
)

// cells are the table once more, from the other side: here each subject says who may use it. Ulla is the user, and Rita the rider.
func cells() []cell {
	ours := []string{access.Usersvc, access.Ridersvc}
	all := []string{access.Authsvc, access.Usersvc, access.Ridersvc, access.Operator}
	cs := []cell{
		// The ledger, event by event.
		{pub, "ledger.booking." + b + ".1.requested", []string{access.Usersvc}},
		{pub, "ledger.booking." + b + ".2.accepted", []string{access.Ridersvc}},
		{pub, "ledger.booking." + b + ".3.arrived", []string{access.Ridersvc}},
		{pub, "ledger.booking." + b + ".4.started", []string{access.Ridersvc}},
		{pub, "ledger.booking." + b + ".4.start_refused", []string{access.Ridersvc}},
		{pub, "ledger.booking." + b + ".5.completed", []string{access.Ridersvc}},
		{pub, "ledger.booking." + b + ".2.cancelled", []string{access.Usersvc, access.Operator}},
		{pub, "ledger.booking." + b + ".3.released", []string{access.Usersvc, access.Ridersvc, access.Operator}},
		{pub, "ledger.booking." + b + ".2.expired", ours},
		{pub, "ledger.booking." + b + ".6.rated", ours},
		{pub, "ledger.rider." + tokentest.Rita + "." + b + ".engaged", []string{access.Ridersvc}},
		{pub, "ledger.anything", nil},
		{pub, "booking." + b + ".2.accepted", nil},
		{sub, "ledger.>", nil},
		{sub, "booking.>", []string{access.Operator, access.Watcher}}, // which is two things: see TestWatcher
		{sub, "booking.*.*.accepted", []string{access.Operator, access.Watcher}},
		// Reading it.
		{pub, "$JS.API.STREAM.INFO.BOOKINGS", all},
		{pub, "$JS.API.STREAM.MSG.GET.BOOKINGS", []string{access.Usersvc, access.Ridersvc, access.Operator}},
		{pub, "$JS.API.DIRECT.GET.BOOKINGS", []string{access.Usersvc, access.Ridersvc, access.Operator}},
		{pub, "$JS.API.DIRECT.GET.BOOKINGS.ledger.booking." + b + ".1.requested", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.CREATE.BOOKINGS.one", []string{access.Usersvc, access.Ridersvc, access.Operator}},
		{pub, "$JS.API.CONSUMER.CREATE.BOOKINGS.one.ledger.>", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.CREATE.BOOKINGS.deadlines", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.CREATE.BOOKINGS.feed", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.CREATE.BOOKINGS.feed.ledger.booking.>", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.DURABLE.CREATE.BOOKINGS.feed", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.CREATE.BOOKINGS", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.DELETE.BOOKINGS.feed", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.INFO.BOOKINGS.feed", all},
		{pub, "$JS.API.CONSUMER.INFO.BOOKINGS.deadlines", []string{access.Usersvc, access.Ridersvc, access.Operator}},
		{pub, "$JS.API.CONSUMER.MSG.NEXT.BOOKINGS.feed", []string{access.Usersvc, access.Operator}},
		{pub, "$JS.API.CONSUMER.UNPIN.BOOKINGS.feed", []string{access.Usersvc, access.Operator}},
		{pub, "$JS.API.CONSUMER.UNPIN.BOOKINGS.deadlines", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.MSG.NEXT.BOOKINGS.deadlines", []string{access.Usersvc, access.Ridersvc, access.Operator}},
		{pub, "$JS.ACK.BOOKINGS.feed.1.1.1.1.0", []string{access.Usersvc, access.Operator}},
		{pub, "$JS.ACK.BOOKINGS.deadlines.1.1.1.1.0", []string{access.Usersvc, access.Ridersvc, access.Operator}},
		{pub, "$JS.FC.BOOKINGS.one.x", []string{access.Usersvc, access.Ridersvc, access.Operator}},
		// Timers.
		{pub, "timer.set.1", ours},
		{pub, "timer.due.1", nil},
		{sub, "timer.>", nil},
		{pub, "$JS.API.CONSUMER.INFO.TIMERS.timers", []string{access.Usersvc, access.Ridersvc, access.Operator}},
		{pub, "$JS.API.CONSUMER.MSG.NEXT.TIMERS.timers", []string{access.Usersvc, access.Ridersvc, access.Operator}},
		{pub, "$JS.ACK.TIMERS.timers.1.1.1.1.0", []string{access.Usersvc, access.Ridersvc, access.Operator}},
		{pub, "$JS.API.CONSUMER.CREATE.TIMERS.timers", []string{access.Operator}},
		{pub, "$JS.API.STREAM.MSG.GET.TIMERS", []string{access.Operator}},
		// Quarantine and audit trail.
		{pub, "quarantine.17", []string{access.Usersvc, access.Ridersvc, access.Operator}},
		{sub, "quarantine.>", nil},
		{pub, "$JS.API.STREAM.MSG.GET.QUARANTINE", []string{access.Operator}},
		{pub, "audit.auth.login", []string{access.Authsvc, access.Operator}},
		{sub, "audit.>", nil},
		{pub, "$JS.API.STREAM.MSG.GET.AUDIT", []string{access.Operator}},
		// Streams are nobody's but the operator's to make, change and empty.
		{pub, "$JS.API.STREAM.LIST", []string{access.Operator}},
		{pub, "$JS.API.STREAM.CREATE.MORE", []string{access.Operator}},
		{pub, "$JS.API.STREAM.UPDATE.BOOKINGS", []string{access.Operator}},
		{pub, "$JS.API.STREAM.DELETE.BOOKINGS", []string{access.Operator}},
		{pub, "$JS.API.STREAM.PURGE.BOOKINGS", []string{access.Operator}},
		{pub, "$JS.API.STREAM.MSG.DELETE.BOOKINGS", []string{access.Operator}},
		{pub, "$JS.API.STREAM.RESTORE.BOOKINGS", []string{access.Operator}},
		{pub, "$JS.API.STREAM.SNAPSHOT.BOOKINGS", []string{access.Operator}},
		{pub, "$JS.SNAPSHOT.RESTORE.BOOKINGS.x", []string{access.Operator}},
		{pub, "$JS.SNAPSHOT.ACK.BOOKINGS.x.1.1", []string{access.Operator}},
		{pub, "$JS.API.CONSUMER.RESET.BOOKINGS.deadlines", []string{access.Operator}},
		{sub, "$JS.SNAPSHOT.>", []string{access.Operator}},
		{sub, "$JS.EVENT.>", []string{access.Operator}},
		{sub, "$JS.API.>", nil},
		{sub, "$KV.>", nil},
		{sub, "$KV.KEYS.jwks", nil},
		// Who somebody is.
		{pub, "auth.public-key", []string{access.Operator, access.Watcher}},
		{pub, "auth.jwks", []string{access.Authsvc, access.Operator, access.Watcher}},
		{pub, "auth.service-token", []string{access.Usersvc, access.Ridersvc, access.Operator}},
		{sub, "auth.public-key", []string{access.Authsvc}},
		{sub, "auth.jwks", []string{access.Authsvc}},
		{sub, "auth.service-token", []string{access.Authsvc}},
		{pub, "$SRV.PING", []string{access.Operator}},
		{sub, "$SRV.PING", []string{access.Authsvc}},
		{sub, "$SYS.REQ.USER.AUTH", []string{access.Callout}},
		{pub, "$SYS.REQ.USER.AUTH", nil},
		{pub, "$SYS.REQ.SERVER.PING.CONNZ", []string{access.Callout}},
		{pub, "$SYS.REQ.SERVER.N.CONNZ", []string{access.Callout}},
		{pub, "$SYS.REQ.SERVER.N.KICK", []string{access.Callout}},
		{pub, "$SYS.REQ.SERVER.N.RELOAD", nil},
		{pub, "$SYS.REQ.SERVER.PING.VARZ", nil},
		{sub, "$SYS.>", nil},
		// What happens, without tokens.
		{pub, "feed.booking." + b + ".1.requested", []string{access.Usersvc}},
		{pub, "feed.user." + tokentest.Ulla + "." + b + ".1.requested", []string{access.Usersvc}},
		{pub, "feed.rider." + tokentest.Rita + "." + b + ".2.accepted", []string{access.Usersvc}},
		{pub, "feed.rider." + tokentest.Rita + ".open." + b + ".7.open", []string{access.Ridersvc}},
		{sub, "feed.>", []string{access.Operator}},
		{sub, "feed.booking.>", []string{access.Operator}},
		{sub, "feed.user." + tokentest.Ulla + ".>", []string{access.Operator, user}},
		{sub, "feed.rider." + tokentest.Rita + ".>", []string{access.Operator, rider}},
		{sub, "feed.rider." + tokentest.Rita + ".open.>", []string{access.Operator, rider}},
		{sub, "feed.rider." + b + ".open.>", []string{access.Operator}},
		{sub, "feed.user.*.>", []string{access.Operator}},
		{sub, "feed.user." + tokentest.Rita + ".>", []string{access.Operator}},
		{sub, "feed.rider." + tokentest.Ulla + ".>", []string{access.Operator}},
		{sub, "feed.rider." + b + ".>", []string{access.Operator}},
		// The rides of an account that is to be deleted.
		{pub, "rides.of-account", []string{access.Authsvc, access.Operator}},
		{sub, "rides.of-account", []string{access.Usersvc}},
		// Where riders are.
		{pub, "fleet.position.x", []string{access.Ridersvc}},
		{sub, "fleet.position.*", []string{access.Usersvc, access.Ridersvc, access.Operator}},
		// Inboxes.
		{sub, "_INBOX.>", []string{access.Operator, access.Watcher}},
		{sub, "_INBOX_" + tokentest.Ulla + ".>", []string{user}},
		{sub, "_INBOX_" + tokentest.Rita + ".>", []string{rider}},
		{sub, ">", nil},
		{pub, "anything", nil},
	}
	for _, who := range []string{access.Authsvc, access.Usersvc, access.Ridersvc, access.Operator, access.Callout} {
		cs = append(cs, cell{sub, "_INBOX_" + who + ".>", []string{who}})
		cs = append(cs, cell{pub, "_INBOX_" + who + ".x", nil})
	}
	for _, bucket := range bus.Buckets() {
		writes, reads := []string{access.Authsvc, access.Operator}, []string{access.Authsvc, access.Operator}
		var follows []string
		purges := []string{access.Operator}
		switch bucket {
		case bus.BoardsBucket:
			writes, reads = []string{access.Usersvc, access.Ridersvc}, []string{access.Usersvc, access.Ridersvc, access.Operator}
			follows, purges = []string{access.Usersvc, access.Ridersvc, access.Operator}, []string{access.Usersvc, access.Ridersvc, access.Operator}
		case bus.RidersBucket:
			writes, reads = []string{access.Ridersvc, access.Operator}, []string{access.Ridersvc, access.Operator}
			follows = []string{access.Operator}
		case bus.KeysBucket, bus.RevocationsBucket: // by which everybody verifies
			reads, follows = all, all
		default:
			follows = []string{access.Operator}
		}
		stream := "KV_" + bucket
		cs = append(cs,
			cell{pub, "$KV." + bucket + ".x.y", writes},
			cell{pub, "$JS.API.STREAM.INFO." + stream, reads},
			cell{pub, "$JS.API.STREAM.MSG.GET." + stream, reads},
			cell{pub, "$JS.API.DIRECT.GET." + stream + ".$KV." + bucket + ".x", []string{access.Operator}},
			cell{pub, "$JS.API.CONSUMER.CREATE." + stream + ".one", follows},
			cell{pub, "$JS.FC." + stream + ".one.x", follows},
			cell{pub, "$JS.API.STREAM.PURGE." + stream, purges},
		)
	}
	return cs
}

// A crowd is everybody, each with a connection.
func crowd(t *testing.T, e *bustest.Env) map[string]*nats.Conn {
	t.Helper()
	auth := tokentest.New(t)
	e.RunCallout(t, auth)
	at := map[string]*nats.Conn{}
	for _, who := range everybody {
		var nc *nats.Conn
		var err error
		switch who {
		case access.Watcher:
			nc, err = nats.Connect(e.URL())
		case user:
			nc, err = e.ConnectWithToken(auth.Token(token.User, tokentest.Ulla, "ulla@example.com"))
		case rider:
			nc, err = e.ConnectWithToken(auth.Token(token.Rider, tokentest.Rita, "rita@example.com"))
		default:
			nc = e.ConnectAs(t, who).NATS()
		}
		if err != nil {
			t.Fatalf("%s: %v", who, err)
		}
		if who == access.Watcher || who == user || who == rider {
			t.Cleanup(nc.Close)
		}
		at[who] = nc
	}
	return at
}

// allowed does something on NATS, and reports whether the server lets it. A refusal is no answer to the call: the server says so beside it.
func allowed(t *testing.T, nc *nats.Conn, verb, subject string) bool {
	t.Helper()
	says := `publish to "` + subject + `"`
	if verb == sub {
		says = `subscription to "` + subject + `"`
		s, err := nc.SubscribeSync(subject)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Unsubscribe() }() // it may have been refused
	} else if err := nc.Publish(subject, nil); err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(wait.Patience); err != nil {
		t.Fatal(err)
	}
	last := nc.LastError()
	return last == nil || !strings.Contains(strings.ToLower(last.Error()), strings.ToLower(says))
}

// Each cell of the table, tried by everybody with a real connection: who may does, and nobody else.
func TestEveryCell(t *testing.T) {
	bustest.Setup{Closed: true, Watch: true}.Sizes(t, func(t *testing.T, e *bustest.Env) {
		at := crowd(t, e)
		tried := 0
		// What changes and deletes comes to nothing: its bodies are empty. Those who may do it are asked last.
		for _, c := range cells() {
			for _, who := range everybody {
				if slices.Contains(c.may, who) && harmful(c) {
					continue
				}
				tried++
				if got, want := allowed(t, at[who], c.verb, c.subject), slices.Contains(c.may, who); got != want {
					t.Errorf("%s may %s %s: %v, want %v", who, c.verb, c.subject, got, want)
				}
			}
		}
		t.Logf("%d cells", tried)
	})
}

// harmful reports whether doing it would take away what the next cells need. That the operator may do it TestOperator shows.
func harmful(c cell) bool {
	for _, call := range []string{"DELETE", "PURGE"} {
		if c.verb == pub && strings.HasPrefix(c.subject, "$JS.API.") && strings.Contains(c.subject, "."+call+".") {
			return true
		}
	}
	return c.subject == "$SYS.REQ.USER.AUTH" && c.verb == sub // it would take questions away from the one who answers them
}

// What the table allows is tried above: it cannot grow without a cell.
func TestTableIsTried(t *testing.T) {
	table := access.Table()
	for role, id := range map[booking.Role]string{booking.User: tokentest.Ulla, booking.Rider: tokentest.Rita} {
		g, ok := access.Of(role, id)
		if !ok {
			t.Fatalf("a %s has no row", role)
		}
		g.Who = map[booking.Role]string{booking.User: user, booking.Rider: rider}[role]
		table = append(table, g)
	}
	for _, g := range table {
		for verb, patterns := range map[string][]string{pub: g.Publish, sub: g.Subscribe} {
			for _, p := range patterns {
				if !slices.ContainsFunc(cells(), func(c cell) bool {
					return c.verb == verb && slices.Contains(c.may, g.Who) && covers(p, c.subject)
				}) {
					t.Errorf("no cell tries that %s may %s %s", g.Who, verb, p)
				}
			}
		}
	}
	if _, ok := access.Of(booking.Service, b); ok {
		t.Error("a service gets in with a token")
	}
}

// covers reports whether a pattern of NATS covers a subject, which may be a pattern itself.
func covers(pattern, subject string) bool {
	p, s := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i := range p {
		if p[i] == ">" {
			return i < len(s)
		}
		if i >= len(s) || p[i] != "*" && p[i] != s[i] || s[i] == ">" {
			return false
		}
	}
	return len(p) == len(s)
}

// A service that was taken over makes a consumer that sends what it has written itself to where it may not write: it arrives nowhere, because
// nobody has subscribed to that, and a stream's own subscription does not count.
func TestConsumersReachNoStream(t *testing.T) {
	e := bustest.RunClosed(t, false)
	evil := e.ConnectAs(t, access.Usersvc)
	if _, err := evil.JetStream().PublishMsg(t.Context(), &nats.Msg{Subject: "ledger.booking." + b + ".1.requested", Data: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	s, err := evil.JetStream().Stream(t.Context(), bus.LedgerStream)
	if err != nil {
		t.Fatal(err)
	}
	// Of its own bucket it can choose what is in there more freely than of the ledger.
	if _, err := evil.Bucket(bus.BoardsBucket).Create(t.Context(), "x", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	boards, err := evil.JetStream().Stream(t.Context(), bus.BucketStream(bus.BoardsBucket))
	if err != nil {
		t.Fatal(err)
	}
	// The operator watches what there is to watch.
	operator := e.ConnectAs(t, access.Operator)
	for _, subject := range []string{"booking.>", "feed.>", "fleet.>", "$JS.EVENT.>"} {
		if _, err := operator.NATS().SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
	}
	deliver := func(to string) {
		t.Helper()
		if _, err := boards.CreatePushConsumer(t.Context(), jetstream.ConsumerConfig{DeliverSubject: to, AckPolicy: jetstream.AckNonePolicy}); err != nil {
			t.Logf("to %s: %v", to, err)
		}
		if _, err := s.CreatePushConsumer(t.Context(), jetstream.ConsumerConfig{DeliverSubject: to, AckPolicy: jetstream.AckNonePolicy}); err != nil {
			t.Logf("to %s: %v", to, err)
		}
	}
	for _, to := range []string{
		"$KV.KEYS.jwks", "$KV.REVOCATIONS.s.x", "audit.auth.x", "$JS.API.STREAM.DELETE.AUDIT", "$JS.API.STREAM.PURGE.TIMERS", "$SYS.REQ.SERVER.PING.VARZ",
		"ledger.booking." + b + ".2.accepted",
	} {
		deliver(to)
	}
	// One that may deliver does, after all of them.
	own, err := evil.NATS().SubscribeSync(evil.NATS().NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	deliver(own.Subject)
	if _, err := own.NextMsg(wait.Patience); err != nil {
		t.Fatalf("its own consumer: %v", err)
	}
	js := operator.JetStream()
	for stream, want := range map[string]uint64{"KV_KEYS": 0, "KV_BOARDS": 1, "KV_REVOCATIONS": 0, bus.AuditStream: 0, bus.LedgerStream: 1} {
		s, err := js.Stream(t.Context(), stream)
		if err != nil {
			t.Errorf("%s: %v", stream, err)
		} else if got := s.CachedInfo().State.Msgs; got != want {
			t.Errorf("%s has %d messages, want %d", stream, got, want)
		}
	}
}

// The operator does with streams what nobody else may.
func TestOperator(t *testing.T) {
	e := bustest.RunClosed(t, false)
	js := e.ConnectAs(t, access.Operator).JetStream()
	s, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "MORE", Subjects: []string{"audit.auth.more.>"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Error(err)
	}
	if err := js.DeleteStream(t.Context(), "MORE"); err != nil {
		t.Error(err)
	}
	if err := bus.Provision(t.Context(), e.ConnectAs(t, access.Operator), e.Plan()); err != nil {
		t.Errorf("provision once more: %v", err)
	}
}

// Whoever watches sees what watchers are told, and never the ledger's own messages under the same name.
func TestWatcher(t *testing.T) {
	e := bustest.RunClosed(t, true)
	nc, err := nats.Connect(e.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	watched, err := nc.SubscribeSync("booking.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	// This is stored, and republished as booking.> where it was stored, token and all.
	secret := &nats.Msg{Subject: "ledger.booking." + b + ".1.requested", Header: nats.Header{"Authorization": {"Bearer eyJ"}}}
	teller := e.ConnectAs(t, access.Usersvc)
	if _, err := teller.JetStream().PublishMsg(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if err := teller.NATS().Publish("feed.booking."+b+".1.requested", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	m, err := watched.NextMsg(wait.Patience)
	if err != nil || m.Subject != "booking."+b+".1.requested" || string(m.Data) != "{}" || len(m.Header) != 0 {
		t.Errorf("it sees %+v, %v", m, err)
	}
	if m, err := watched.NextMsg(100 * time.Millisecond); err == nil {
		t.Errorf("and %+v", m)
	}
	// Off where it was not asked for.
	shut := bustest.RunClosed(t, false)
	shut.RunCallout(t, tokentest.New(t))
	if nc, err := nats.Connect(shut.URL()); err == nil {
		nc.Close()
		t.Error("anybody watches what is no demonstration")
	}
}
