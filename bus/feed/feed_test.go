package feed_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/feed"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
)

// Stored events are published in order, without a token and without names or places: to all
// watchers, and to the two parties.
func TestFeed(t *testing.T) {
	t.Parallel() // most of it is waiting
	bustest.Setup{Closed: true, Watch: true}.Sizes(t, testFeed)
}

func testFeed(t *testing.T, e *bustest.Env) {
	k := ledgertest.New(t, e)
	user, rider, other := k.Person(booking.User), k.Person(booking.Rider), k.Person(booking.Rider)
	users, riders := k.LedgerOn(t, e.ConnectAs(t, access.Usersvc)), k.LedgerOn(t, e.ConnectAs(t, access.Ridersvc))

	watcher, err := nats.Connect(e.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	watched := subscribe(t, watcher, "booking.>")
	operator := e.ConnectAs(t, access.Operator).NATS()
	ofUser, ofRider, ofOther := subscribe(t, operator, "feed.user."+user.ID+".>"),
		subscribe(t, operator, "feed.rider."+rider.ID+".>"), subscribe(t, operator, "feed.rider."+other.ID+".>")

	publisher := e.ConnectAs(t, access.Usersvc).NATS()
	for sub, prefix := range map[*nats.Subscription]string{
		watched: "feed.booking.", ofUser: "feed.user." + user.ID + ".", ofRider: "feed.rider." + rider.ID + ".",
		ofOther: "feed.rider." + other.ID + ".",
	} {
		known(t, sub, publisher, prefix+"hello.1.hello")
	}

	// Two instances share the work.
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 2)
	for range 2 {
		l := k.LedgerOn(t, e.ConnectAs(t, access.Usersvc))
		go func() { done <- publish(ctx, l) }()
	}
	defer func() {
		stop()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}()

	book, ride := ledgertest.NewDesk(t, users), ledgertest.NewDesk(t, riders)
	b, err := book.Book(t.Context(), user.Command(), booking.ID(booking.NewID()),
		// no time of the day has 69.9 seconds
		booking.Trip{Pickup: &booking.Place{Lat: 69.9716, Lng: 77.5946},
			Dropoff: &booking.Place{Lat: 69.9352, Lng: 77.6245}})
	if err != nil {
		t.Fatal(err)
	}
	id := string(b.ID)
	if _, err := ride.Accept(t.Context(), rider.Command(), b.ID); err != nil {
		t.Fatal(err)
	}
	// Somebody who may write there writes what is not true, and the rider what cannot be: nobody is
	// told.
	forge(t, e, b.ID)
	ledgertest.Store(t, e.ConnectAs(t, access.Ridersvc), ledgertest.Message(b.ID, 3, booking.Completed, rider.Actor,
		rider.Proof))
	if _, err := ride.Release(t.Context(), rider.Command(), b.ID, "a puncture"); err != nil {
		t.Fatal(err)
	}
	if _, err := ride.Accept(t.Context(), other.Command(), b.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := book.Cancel(t.Context(), user.Command(), b.ID, "I walk"); err != nil {
		t.Fatal(err)
	}
	want := []string{".1.requested", ".2.accepted", ".3.released", ".4.accepted", ".5.cancelled"}
	for _, c := range []struct {
		who    string
		sub    *nats.Subscription
		prefix string
		want   []string
	}{
		{"a watcher", watched, "booking.", want},
		{"the user", ofUser, "feed.user." + user.ID + ".", want},
		{"the first rider", ofRider, "feed.rider." + rider.ID + ".", want[1:3]},
		{"the second rider", ofOther, "feed.rider." + other.ID + ".", want[3:]},
	} {
		for _, event := range c.want {
			m, err := c.sub.NextMsg(wait.Patience)
			if err != nil {
				t.Fatalf("%s waits for %s: %v", c.who, event, err)
			}
			if want := c.prefix + id + event; m.Subject != want {
				t.Fatalf("%s sees %s, want %s", c.who, m.Subject, want)
			}
			harmless(t, m, user.ID, rider.ID, other.ID)
		}
		if m, err := c.sub.NextMsg(50 * time.Millisecond); err == nil {
			t.Errorf("%s sees %s as well", c.who, m.Subject)
		}
	}
}

// publish runs an instance that follows the ledger and publishes the feed, until ctx ends.
func publish(ctx context.Context, l *ledger.Ledger) error {
	follower, done := l.Follow(board.New()), make(chan error)
	go func() { done <- follower.Run(ctx) }()
	return errors.Join(feed.Run(ctx, l, follower), <-done)
}

// harmless looks for what a watcher must not learn.
func harmless(t *testing.T, m *nats.Msg, people ...string) {
	t.Helper()
	if m.Header.Get("Authorization") != "" || strings.Contains(string(m.Data), "eyJ") {
		t.Errorf("%s carries a token", m.Subject)
	}
	for _, p := range append(people, "69.9", "puncture", "walk", "@") {
		if strings.Contains(string(m.Data), p) {
			t.Errorf("%s says %q: %s", m.Subject, p, m.Data)
		}
	}
	var body struct {
		V     int
		N     int
		Event string
		State string
		Role  string
		At    time.Time
	}
	err := json.Unmarshal(m.Data, &body)
	if said := `"at":"` + jsontime.Format(body.At) + `"`; err == nil &&
		(!strings.Contains(string(m.Data), said) || m.Header.Get("ce-time") != jsontime.Format(body.At)) {
		t.Errorf("%s says %s at %s, want %s", m.Subject, m.Data, m.Header.Get("ce-time"), said)
	}
	if err != nil || body.V != 1 || body.State == "" || body.Role == "" || body.At.IsZero() ||
		!strings.HasSuffix(m.Subject, "."+body.Event) {
		t.Errorf("%s: %s: %v", m.Subject, m.Data, err)
	}
}

// known waits until all servers know a subscription: messages on subject arrive. It removes surplus
// greetings.
func known(t *testing.T, sub *nats.Subscription, from *nats.Conn, subject string) {
	t.Helper()
	wait.Until(t, "the subscription is known", func() bool {
		if err := from.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		_, err := sub.NextMsg(50 * time.Millisecond)
		return err == nil
	})
	for {
		if _, err := sub.NextMsg(200 * time.Millisecond); err != nil {
			return
		}
	}
}

func subscribe(t *testing.T, nc *nats.Conn, subject string) *nats.Subscription {
	t.Helper()
	sub, err := nc.SubscribeSync(subject)
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

// forge stores an event that no actor has caused, like a compromised service.
func forge(t *testing.T, e *bustest.Env, id booking.ID) {
	t.Helper()
	c := e.ConnectAs(t, access.Ridersvc)
	m := &nats.Msg{Subject: "ledger.booking." + string(id) + ".3.arrived", Data: []byte(`{"v":1}`),
		Header: nats.Header{"Authorization": {"Bearer forged"}}}
	if _, err := c.JetStream().PublishMsg(t.Context(), m); err != nil {
		t.Fatalf("forge: %v", err)
	}
}

// turn returns the record of the feed.
func turn(t *testing.T, c *bus.Conn) bus.FeedTurn {
	t.Helper()
	r, _, err := c.FeedTurn(t.Context())
	if err != nil {
		t.Fatalf("the record of the feed: %v", err)
	}
	return r
}

// An instance that stops in order gives up its turn, and the next one publishes the rest.
func TestFeedIsHandedOver(t *testing.T) {
	t.Parallel()
	bustest.Setup{Closed: true}.Sizes(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		operator := e.ConnectAs(t, access.Operator)
		watched := subscribe(t, operator.NATS(), "feed.booking.>")
		user, desk := k.Person(booking.User), ledgertest.NewDesk(t, k.LedgerOn(t, e.ConnectAs(t, access.Usersvc)))
		known(t, watched, e.ConnectAs(t, access.Usersvc).NATS(), "feed.booking.hello.1.hello")
		before := ""
		for range 3 {
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			l := k.LedgerOn(t, e.ConnectAs(t, access.Usersvc))
			go func() { done <- publish(ctx, l) }()
			var last uint64
			for range 5 {
				b, err := desk.Book(t.Context(), user.Command(), booking.ID(booking.NewID()), booking.Trip{})
				if err != nil {
					t.Fatal(err)
				}
				last = b.Seq
				if m, err := watched.NextMsg(time.Minute); err != nil ||
					m.Subject != "feed.booking."+string(b.ID)+".1.requested" {
					t.Fatalf("told was %v (%v), want %s", m, err, b.ID)
				}
			}
			now := turn(t, operator).Owner
			if now == "" || now == before {
				t.Errorf("the feed is told by %q, after %q", now, before)
			}
			before = now
			stop()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if left := turn(t, operator); left.Owner != "" || left.Done != last {
				t.Errorf("nobody tells, and the record is %+v, want nobody's, and %d", left, last)
			}
		}
	})
}

// An instance dies with events in flight. Another one takes its place, and publishes those first,
// then the newer ones.
func TestFeedGoesOn(t *testing.T) {
	bustest.Virtual(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		watched := subscribe(t, k.Connect(t).NATS(), "feed.booking.>")
		user, desk := k.Person(booking.User), ledgertest.NewDesk(t, k.Ledger(t))
		var want []string
		book := func(n int) {
			for range n {
				b, err := desk.Book(t.Context(), user.Command(), booking.ID(booking.NewID()), booking.Trip{})
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, "feed.booking."+string(b.ID)+".1.requested")
			}
		}
		known(t, watched, k.Connect(t).NATS(), "feed.booking.hello.1.hello")
		at, back := 0, 0 // how many are told, and how often it went back
		hear := func() {
			t.Helper()
			m, err := watched.NextMsg(time.Minute)
			if err != nil {
				t.Fatalf("event %d of %d is not told: %v", at, len(want), err)
			}
			if at == len(want) || m.Subject != want[at] {
				if back++; back > 1 || !slices.Contains(want[:at], m.Subject) {
					t.Fatalf("told is %s in the place of event %d", m.Subject, at)
				}
				at = slices.Index(want, m.Subject)
			}
			at++
		}

		book(20)
		dead := k.Connect(t)
		dying, kill := context.WithCancel(t.Context())
		died := make(chan error)
		l := k.LedgerOn(t, dead)
		go func() { died <- publish(dying, l) }()
		for range 20 {
			hear()
		}
		dead.NATS().Close()
		kill()
		if err := <-died; err != nil {
			t.Logf("without a connection it ends with: %v", err)
		}
		if turn(t, k.Connect(t)).Owner == "" {
			t.Fatal("it has given its turn back")
		}

		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 2)
		for range cap(done) {
			l := k.Ledger(t)
			go func() { done <- publish(ctx, l) }()
		}
		defer func() {
			stop()
			for range cap(done) {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}()
		book(20)
		for at < len(want) {
			hear()
		}
	})
}

// A fickle verifier has no keys for a while.
type fickle struct {
	ledger.TokenVerifier
	blind atomic.Bool
}

func (f *fickle) VerifyAt(ctx context.Context, raw string, at time.Time) (token.Claims, error) {
	if f.blind.Load() {
		return token.Claims{}, token.ErrNoKeys
	}
	return f.TokenVerifier.VerifyAt(ctx, raw, at)
}

// An instance that can no longer judge its messages leaves them to one that can. What has not been
// published does not count as done.
func TestFeedIsLeftToOneThatCanJudge(t *testing.T) {
	bustest.Virtual(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		watched, operator := subscribe(t, k.Connect(t).NATS(), "feed.booking.>"), k.Connect(t)
		user, desk := k.Person(booking.User), ledgertest.NewDesk(t, k.Ledger(t))
		tokens := &fickle{TokenVerifier: k.Auth.Verifier()}
		l, err := ledger.Open(k.Connect(t), ledger.Options{Source: "/test", Tokens: tokens})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 2)
		defer func() {
			stop()
			for range cap(done) {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}()
		go func() { done <- publish(ctx, l) }()
		wait.Until(t, "it has its turn", func() bool { return turn(t, operator).Owner != "" })
		tokens.blind.Store(true)
		var want []string
		for range 3 {
			b, err := desk.Book(t.Context(), user.Command(), booking.ID(booking.NewID()), booking.Trip{})
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, "feed.booking."+string(b.ID)+".1.requested")
		}
		wait.Until(t, "it leaves its turn", func() bool { return turn(t, operator).Owner == "" })
		if n := turn(t, operator).Done; n != 0 {
			t.Errorf("%d events count as told, and none has been", n)
		}
		sees := k.Ledger(t)
		go func() { done <- publish(ctx, sees) }()
		for _, subject := range want {
			if m, err := watched.NextMsg(wait.Patience); err != nil || m.Subject != subject {
				t.Fatalf("told was %v (%v), want %s", m, err, subject)
			}
		}
	})
}

// After an upgrade the feed goes on where the consumer of the older version has ended. That stays
// while an instance of that version reads it, and then goes.
func TestFeedAfterAnOlderVersion(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		conn := k.Connect(t)
		js := conn.JetStream()
		watched := subscribe(t, conn.NATS(), "feed.booking.>")
		user, l := k.Person(booking.User), k.Ledger(t)
		former, err := js.CreateConsumer(t.Context(), bus.LedgerStream, jetstream.ConsumerConfig{
			Durable: "feed", FilterSubject: "ledger.booking.*.*.*", AckPolicy: jetstream.AckExplicitPolicy,
			DeliverPolicy: jetstream.DeliverNewPolicy,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := js.DeleteKeyValue(t.Context(), bus.TurnsBucket); err != nil {
			t.Fatal(err)
		}
		var want []string
		for range 6 {
			want = append(want, "feed.booking."+string(ledgertest.Booked(t, l, user, time.Hour))+".1.requested")
		}
		for range 4 {
			m, err := former.Next()
			if err == nil {
				err = m.DoubleAck(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		provision := func() bool {
			t.Helper()
			if err := bus.Provision(t.Context(), conn, e.Plan()); err != nil {
				t.Fatal(err)
			}
			_, err := js.Consumer(t.Context(), bus.LedgerStream, "feed")
			return err == nil
		}
		if !provision() {
			t.Fatal("the consumer is gone before anybody knows where it has ended")
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- publish(ctx, l) }()
		for _, subject := range want[4:] {
			if m, err := watched.NextMsg(wait.Patience); err != nil || m.Subject != subject {
				t.Fatalf("told was %v (%v), want %s", m, err, subject)
			}
		}
		reading := subscribe(t, conn.NATS(), conn.NATS().NewInbox())
		if err := conn.NATS().PublishRequest("$JS.API.CONSUMER.MSG.NEXT.BOOKINGS.feed", reading.Subject,
			[]byte(`{"batch":10,"expires":600000000000}`)); err != nil {
			t.Fatal(err)
		}
		wait.Until(t, "an instance of the older version reads", func() bool {
			info, err := former.Info(t.Context())
			return err == nil && info.NumWaiting > 0
		})
		if !provision() {
			t.Error("the consumer is taken from those who read it")
		}
		if err := reading.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
		wait.Until(t, "the consumer is deleted", func() bool { return !provision() })
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Without its record the feed begins with the next event.
func TestFeedWithoutItsRecord(t *testing.T) {
	k := ledgertest.New(t, bustest.Run(t))
	conn := k.Connect(t)
	watched := subscribe(t, conn.NATS(), "feed.booking.>")
	user, l := k.Person(booking.User), k.Ledger(t)
	ledgertest.Booked(t, l, user, time.Hour)
	_, revision, err := conn.FeedTurn(t.Context())
	if err == nil {
		err = conn.Bucket(bus.TurnsBucket).Delete(t.Context(), bus.FeedTurnKey, revision)
	}
	if err != nil {
		t.Fatal(err)
	}
	bustest.Running(t, func(ctx context.Context) error { return publish(ctx, l) })
	wait.Until(t, "it has its turn", func() bool {
		r, _, err := conn.FeedTurn(t.Context())
		return err == nil && r.Owner != ""
	})
	id := ledgertest.Booked(t, l, user, time.Hour)
	if m, err := watched.NextMsg(wait.Patience); err != nil || m.Subject != "feed.booking."+string(id)+".1.requested" {
		t.Errorf("told was %v (%v), want %s", m, err, id)
	}
}
