package ledger_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
)

// noting is a verifier that notes the times for which it was asked.
type noting struct {
	ledger.TokenVerifier
	mu    sync.Mutex
	times []time.Time
}

func (n *noting) VerifyAt(ctx context.Context, raw string, at time.Time) (token.Claims, error) {
	n.mu.Lock()
	n.times = append(n.times, at)
	n.mu.Unlock()
	return n.TokenVerifier.VerifyAt(ctx, raw, at)
}

// An expired token, and a verifier whose clock says so, do not change a replay: the verifier is
// asked about the time at which each event was stored.
func TestReplayAfterExpiry(t *testing.T) {
	e := bustest.Run(t)
	k := ledgertest.New(t, e)
	desk := ledgertest.NewDesk(t, k.Ledger(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	user, rider := k.Person(booking.User), k.Person(booking.Rider)
	id := booking.ID(booking.NewID())
	if _, err := desk.Book(ctx, user.Command(), id, booking.Trip{}); err != nil {
		t.Fatal(err)
	}
	if _, err := desk.Accept(ctx, rider.Command(), id); err != nil {
		t.Fatal(err)
	}

	nextWeek := func() time.Time { return time.Now().Add(7 * 24 * time.Hour) }
	verifier, err := token.NewVerifier(token.Config{Keys: k.Auth.Keys(), Now: nextWeek})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifier.Verify(ctx, user.Token); token.Reason(err) != "expired" {
		t.Fatalf("next week the token is not expired: %v", err)
	}
	asked := &noting{TokenVerifier: verifier}
	later, err := ledger.Open(k.Connect(t), ledger.Options{Source: "/test", Tokens: asked, Now: nextWeek})
	if err != nil {
		t.Fatal(err)
	}
	board, _ := ledgertest.Follow(t, later)
	ledgertest.Await(t, later, board)
	if b, ok := board.Get(id); !ok || b.State != booking.StateAccepted {
		t.Errorf("next week's board: %+v", b)
	}
	h, err := later.Load(ctx, id, booking.Fresh)
	if err != nil || h.Booking.State != booking.StateAccepted {
		t.Fatalf("next week's history: %+v %v", h.Booking, err)
	}
	asked.mu.Lock()
	defer asked.mu.Unlock()
	for _, at := range asked.times {
		if !slices.ContainsFunc(h.Events, func(e booking.Event) bool { return e.At.Equal(at) }) {
			t.Errorf("a token was judged as of %v, when nothing was stored", at)
		}
	}
}

// Without keys the reader waits in place: it skips nothing, and continues when they arrive.
func TestFollowerWaitsForKeys(t *testing.T) {
	e := bustest.Run(t)
	k := ledgertest.New(t, e)
	desk := ledgertest.NewDesk(t, k.Ledger(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	user := k.Person(booking.User)
	var ids []booking.ID
	for range 3 {
		ids = append(ids, booking.ID(booking.NewID()))
		if _, err := desk.Book(ctx, user.Command(), ids[len(ids)-1], booking.Trip{}); err != nil {
			t.Fatal(err)
		}
	}

	asked := make(chan struct{}, 1)
	keys := token.NewRemoteKeys(func(ctx context.Context) (*token.KeySet, error) {
		select {
		case asked <- struct{}{}:
		default:
		}
		return nil, context.DeadlineExceeded
	}, 10*time.Millisecond, time.Now)
	verifier, err := token.NewVerifier(token.Config{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	blind, err := ledger.Open(k.Connect(t), ledger.Options{Source: "/test", Tokens: verifier})
	if err != nil {
		t.Fatal(err)
	}
	board, follower := ledgertest.Follow(t, blind)
	for range 3 { // it has met the first event and asks again and again
		select {
		case <-asked:
		case <-ctx.Done():
			t.Fatal("nobody asked for keys")
		}
	}
	if board.Seq() != 0 || board.Len() != 0 {
		t.Errorf("the board moved to %d without keys", board.Seq())
	}
	if err := follower.Ready(ctx); err == nil {
		t.Error("the follower is ready without keys")
	}
	if _, err := blind.Load(ctx, ids[0], booking.Quick); err == nil {
		t.Error("a history was loaded without keys")
	}
	set, _, err := k.Auth.Keys().KeySet()
	if err != nil {
		t.Fatal(err)
	}
	keys.Offer(set)
	ledgertest.Await(t, blind, board)
	if board.Len() != len(ids) {
		t.Errorf("the board has %d bookings, want %d", board.Len(), len(ids))
	}
	if err := follower.Ready(ctx); err != nil {
		t.Errorf("the follower is not ready: %v", err)
	}
}

// A follower that starts before the server and the stream waits for both.
func TestFollowerStartsFirst(t *testing.T) { bustest.Bubble(t, testFollowerStartsFirst) }

func testFollowerStartsFirst(t *testing.T) {
	k, server := ledgertest.New(t, nil), bustest.Away(t)
	conn, err := bus.Connect(bus.Config{InProcess: server, Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ledger := k.LedgerOn(t, conn)
	board, follower := ledgertest.Follow(t, ledger)
	t.Cleanup(func() { bustest.CloseConn(t, conn) })
	if err := follower.Ready(ctx); err == nil {
		t.Error("ready without a server")
	}
	started := time.Now()
	if _, err := ledger.Load(ctx, booking.ID(booking.NewID()), booking.Fresh); err == nil ||
		time.Since(started) > 2*time.Second {
		t.Errorf("a server that was never there was waited for: %v", err)
	}

	server.Start(t)
	wait.Until(t, "connected", func() bool { return conn.Ready(ctx) == nil })
	if err := follower.Ready(ctx); err == nil {
		t.Error("ready without a stream")
	}
	if err := bus.Provision(ctx, conn, bus.Plan{LedgerSize: 64 << 20}); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "ready", func() bool { return follower.Ready(ctx) == nil })

	user := k.Person(booking.User)
	id := booking.ID(booking.NewID())
	if _, err := ledgertest.NewDesk(t, ledger).Book(ctx, user.Command(), id, booking.Trip{}); err != nil {
		t.Fatal(err)
	}
	ledgertest.Await(t, ledger, board)

	// The server goes away and comes back: the reader resumes where it was.
	server.Stop(t)
	server.Start(t)
	id2 := booking.ID(booking.NewID())
	if _, err := ledgertest.NewDesk(t, ledger).Book(ctx, user.Command(), id2, booking.Trip{}); err != nil {
		t.Fatal(err)
	}
	ledgertest.Await(t, ledger, board)
	if board.Len() != 2 {
		t.Errorf("the board has %d bookings, want 2", board.Len())
	}
}

// Nobody waits for aged events, and they leave the boards that have them.
func TestAgedLedger(t *testing.T) {
	e := bustest.Run(t)
	k := ledgertest.New(t, e)
	conn := k.Connect(t)
	ledger, err := ledger.Open(conn, ledger.Options{Source: "/test", Tokens: k.Auth.Verifier(),
		ForgetEvery: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	old, first := ledgertest.Follow(t, ledger)
	wait.Until(t, "the old board is ready", func() bool { return first.Ready(ctx) == nil })
	user := k.Person(booking.User)
	var id booking.ID
	for range 3 {
		id = booking.ID(booking.NewID())
		if _, err := ledgertest.NewDesk(t, ledger).Book(ctx, user.Command(), id, booking.Trip{}); err != nil {
			t.Fatal(err)
		}
	}
	ledgertest.Await(t, ledger, old)

	// Time passes: the server drops everything that is older than a tenth of a second.
	stream, err := conn.JetStream().Stream(ctx, bus.LedgerStream)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxAge, config.Duplicates = 100*time.Millisecond, 100*time.Millisecond
	if _, err := conn.JetStream().UpdateStream(ctx, config); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "the ledger is empty", func() bool {
		info, err := stream.Info(ctx)
		return err == nil && info.State.Msgs == 0
	})
	wait.Until(t, "the old board has forgotten", func() bool { return old.Len() == 0 })
	wait.Until(t, "nothing is decided on what has aged", func() bool {
		h, err := ledger.Load(ctx, id, booking.Quick)
		return err == nil && h.Booking.State == booking.StateNone
	})

	_, follower := ledgertest.Follow(t, k.Ledger(t))
	wait.Until(t, "a new board is ready", func() bool { return follower.Ready(ctx) == nil })
}
