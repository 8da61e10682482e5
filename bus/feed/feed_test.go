package feed_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
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
		go func() { done <- feed.Run(ctx, l) }()
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
		booking.Trip{Pickup: &booking.Place{Lat: 12.9716, Lng: 77.5946},
			Dropoff: &booking.Place{Lat: 12.9352, Lng: 77.6245}})
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

// harmless looks for what a watcher must not learn.
func harmless(t *testing.T, m *nats.Msg, people ...string) {
	t.Helper()
	if m.Header.Get("Authorization") != "" || strings.Contains(string(m.Data), "eyJ") {
		t.Errorf("%s carries a token", m.Subject)
	}
	for _, p := range append(people, "12.9", "puncture", "walk", "@") {
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

// An instance that stops in order gives up its turn, and the next one publishes the rest.
func TestFeedIsHandedOver(t *testing.T) {
	t.Parallel()
	bustest.Setup{Closed: true}.Sizes(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		watched := subscribe(t, e.ConnectAs(t, access.Operator).NATS(), "feed.booking.>")
		user, desk := k.Person(booking.User), ledgertest.NewDesk(t, k.LedgerOn(t, e.ConnectAs(t, access.Usersvc)))
		known(t, watched, e.ConnectAs(t, access.Usersvc).NATS(), "feed.booking.hello.1.hello")
		stream, err := e.ConnectAs(t, access.Operator).JetStream().Stream(t.Context(), bus.LedgerStream)
		if err != nil {
			t.Fatal(err)
		}
		whose := func() string {
			t.Helper()
			c, err := stream.Consumer(t.Context(), bus.FeedConsumer)
			if err != nil || len(c.CachedInfo().PriorityGroups) != 1 {
				t.Fatalf("consumer: %v", err)
			}
			return c.CachedInfo().PriorityGroups[0].PinnedClientID
		}
		before := ""
		for range 3 {
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			l := k.LedgerOn(t, e.ConnectAs(t, access.Usersvc))
			go func() { done <- feed.Run(ctx, l) }()
			for range 5 {
				b, err := desk.Book(t.Context(), user.Command(), booking.ID(booking.NewID()), booking.Trip{})
				if err != nil {
					t.Fatal(err)
				}
				if m, err := watched.NextMsg(time.Minute); err != nil ||
					m.Subject != "feed.booking."+string(b.ID)+".1.requested" {
					t.Fatalf("told was %v (%v), want %s", m, err, b.ID)
				}
			}
			now := whose()
			if now == "" || now == before {
				t.Errorf("the feed is told by %q, after %q", now, before)
			}
			before = now
			stop()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if left := whose(); left != "" {
				t.Errorf("nobody tells, and the place is still that of %s", left)
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

		book(20)
		dead := k.Connect(t)
		consumer, err := dead.JetStream().Consumer(t.Context(), bus.LedgerStream, bus.FeedConsumer)
		if err != nil {
			t.Fatal(err)
		}
		batch, err := consumer.Fetch(10, jetstream.FetchPriorityGroup("feed"))
		if err != nil {
			t.Fatal(err)
		}
		taken := 0
		for range batch.Messages() {
			taken++
		}
		if taken != 10 {
			t.Fatalf("the one that dies has taken %d, %v", taken, batch.Error())
		}
		dead.NATS().Close()

		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 2)
		for range cap(done) {
			l := k.Ledger(t)
			go func() { done <- feed.Run(ctx, l) }()
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
		for i, subject := range want {
			m, err := watched.NextMsg(time.Minute)
			if err != nil {
				t.Fatalf("event %d is not told: %v", i, err)
			}
			if m.Subject != subject {
				t.Fatalf("event %d: %s, want %s", i, m.Subject, subject)
			}
		}
	})
}

// An instance that cannot judge its messages gives its turn to one that can.
func TestFeedIsLeftToOneThatCanJudge(t *testing.T) {
	bustest.Virtual(t, func(t *testing.T, e *bustest.Env) {
		k := ledgertest.New(t, e)
		watched := subscribe(t, k.Connect(t).NATS(), "feed.booking.>")
		user, desk := k.Person(booking.User), ledgertest.NewDesk(t, k.Ledger(t))
		verifier, err := token.NewVerifier(token.Config{Keys: token.NewRemoteKeys(func(context.Context) (*token.KeySet,
			error) {
			return nil, context.DeadlineExceeded
		}, time.Second, time.Now)})
		if err != nil {
			t.Fatal(err)
		}
		blind, err := ledger.Open(k.Connect(t), ledger.Options{Source: "/test", Tokens: verifier})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 2)
		tell := func(l *ledger.Ledger) { go func() { done <- feed.Run(ctx, l) }() }
		defer func() {
			stop()
			for range cap(done) {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}()
		tell(blind)
		var want []string
		for range 3 {
			b, err := desk.Book(t.Context(), user.Command(), booking.ID(booking.NewID()), booking.Trip{})
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, "feed.booking."+string(b.ID)+".1.requested")
		}
		consumer, err := k.Connect(t).JetStream().Consumer(t.Context(), bus.LedgerStream, bus.FeedConsumer)
		if err != nil {
			t.Fatal(err)
		}
		wait.Until(t, "the one that cannot judge has its turn", func() bool {
			info, err := consumer.Info(t.Context())
			return err == nil && len(info.PriorityGroups) == 1 && info.PriorityGroups[0].PinnedClientID != ""
		})
		tell(k.Ledger(t))
		for _, subject := range want {
			if m, err := watched.NextMsg(wait.Patience); err != nil || m.Subject != subject {
				t.Fatalf("told was %v (%v), want %s", m, err, subject)
			}
		}
	})
}

// A hesitant verifier judges no token until the context ends, and reports when it begins.
type hesitant struct{ asked chan struct{} }

func (h hesitant) VerifyAccessAt(ctx context.Context, raw string, at time.Time) (token.Claims, error) {
	return h.VerifyAt(ctx, raw, at)
}

func (h hesitant) VerifyAt(ctx context.Context, _ string, _ time.Time) (token.Claims, error) {
	select {
	case h.asked <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return token.Claims{}, token.ErrUndecided
}

// An instance that stops leaves unpublished messages to the next one.
func TestFeedIsAcknowledgedWhenItIsTold(t *testing.T) {
	k := ledgertest.New(t, bustest.Run(t))
	ledgertest.Booked(t, k.Ledger(t), k.Person(booking.User), time.Hour)
	tokens := hesitant{make(chan struct{}, 1)}
	l, err := ledger.Open(k.Connect(t), ledger.Options{Source: "/test", Tokens: tokens})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- feed.Run(ctx, l) }()
	<-tokens.asked
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	consumer, err := k.Connect(t).JetStream().Consumer(t.Context(), bus.LedgerStream, bus.FeedConsumer)
	if err != nil {
		t.Fatal(err)
	}
	if n := consumer.CachedInfo().NumAckPending; n != 1 {
		t.Errorf("%d events are still to be told, want 1", n)
	}
}
