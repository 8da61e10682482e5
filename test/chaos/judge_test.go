//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/booking/bookingtest"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/inspect"
	"github.com/example/pillion/sim"
	"github.com/example/pillion/web/webtest"
)

// judge fails the test unless all of these hold: every acknowledged event is in the ledger; the
// ledger is in order; the answers are linearizable; the system has no work of its own left; and all
// instances give the same answers.
func (c *cluster) judge(w *witness, r *sim.Report) {
	c.t.Helper()
	for _, v := range r.Violations[:min(len(r.Violations), 20)] {
		c.t.Errorf("violation: %+v", v)
	}
	c.quiet(w)
	ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Minute)
	defer cancel()
	found, err := inspect.Run(ctx, c.ledger, inspect.Options{Acknowledged: r.Acknowledged()})
	c.must(err)
	for _, f := range found.Findings {
		c.t.Errorf("found %s", f)
	}
	if found.More > 0 || len(found.Refused) > 0 {
		c.t.Errorf("%d more findings; refused: %v", found.More, found.Refused)
	}
	c.t.Logf("%d acknowledged events looked for among %d; bookings: %v", len(r.Acknowledged()), found.Last,
		found.Bookings)

	calls, riders := c.history(ctx, w)
	began := time.Now()
	n := bookingtest.CheckCalls(c.t, calls, riders)
	c.t.Logf("%d calls in %d histories are held against the specification in %v", len(calls), n,
		time.Since(began).Round(time.Millisecond))
	c.boards(w, found.Board)
}

// quiet waits until the system has no work of its own left.
func (c *cluster) quiet(w *witness) {
	c.t.Helper()
	var left error
	for over := time.Now().Add(deadline + whole); time.Now().Before(over); await(200 * time.Millisecond) {
		if left = c.left(w); left == nil {
			return
		}
	}
	c.t.Fatalf("something is left to do: %v", left)
}

// left returns an error that says what work is left, or nil.
func (c *cluster) left(w *witness) error {
	for _, base := range c.base("ridersvc", 3002) {
		open, err := c.page(base+"/open-bookings", w.bearer(booking.Rider))
		if err != nil {
			return err
		}
		if len(open.Bookings) > 0 {
			return fmt.Errorf("%s has open bookings", base)
		}
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), 3*time.Second)
	defer cancel()
	for _, name := range bus.TimersConsumers() {
		consumer, err := c.conn.JetStream().Consumer(ctx, bus.TimersStream, name)
		if err != nil {
			return fmt.Errorf("the consumer %s of timers: %w", name, err)
		}
		if info := consumer.CachedInfo(); info.NumPending > 0 || info.NumAckPending > 0 {
			return fmt.Errorf("timers for %s: %d pending, %d in progress", name, info.NumPending, info.NumAckPending)
		}
	}
	last, err := c.ledger.LastSequence(ctx)
	if err != nil {
		return err
	}
	if turn, _, err := c.conn.FeedTurn(ctx); err != nil || turn.Done < last {
		return fmt.Errorf("the feed is at %d of %d: %w", turn.Done, last, err)
	}
	reading, stop := context.WithTimeout(c.t.Context(), whole)
	defer stop()
	found, err := inspect.Run(reading, c.ledger, inspect.Options{})
	if err != nil {
		return err
	}
	// some may be overdue, which no list shows
	if open := found.Bookings[booking.StateOpen]; open > 0 {
		return fmt.Errorf("%d bookings are open", open)
	}
	return nil
}

// A stored is the result of a command according to the ledger.
type stored struct {
	booking booking.ID
	at      time.Time
}

// settled is the time after which a stored command is visible everywhere, by the clock of its
// leader. A new leader may take a while.
const settled = time.Minute

// history returns all requests and their answers as operations, and the riders. The ledger decides
// whether requests without an answer had an effect, and adds the operations of the system itself.
func (c *cluster) history(ctx context.Context, w *witness) (calls []*bookingtest.Call, riders []string) {
	c.t.Helper()
	commands, calls := c.commands(ctx, w)
	w.mu.Lock()
	defer w.mu.Unlock()
	clients := map[booking.Actor]int{}
	for _, x := range w.all {
		call := x.call
		if call == nil {
			continue
		}
		if _, known := clients[call.Actor]; !known {
			clients[call.Actor] = len(clients) + 1
		}
		call.Client = clients[call.Actor]
		if call.Answer == bookingtest.Unknown {
			done, there := commands[call.Command]
			if !there {
				continue // a read, or a request without any visible effect
			}
			call.ID, call.End = done.booking, max(call.Begin+1, int64(done.at.Sub(w.start)+settled))
		}
		calls = append(calls, call)
	}
	for a := range clients {
		if a.Role == booking.Rider {
			riders = append(riders, a.ID)
		}
	}
	return calls, riders
}

// commands returns the stored result of each command, and the operations of the system itself.
func (c *cluster) commands(ctx context.Context, w *witness) (map[booking.CommandID]stored, []*bookingtest.Call) {
	c.t.Helper()
	last, err := c.ledger.LastSequence(ctx)
	c.must(err)
	consumer, err := c.conn.JetStream().OrderedConsumer(ctx, bus.LedgerStream,
		jetstream.OrderedConsumerConfig{FilterSubjects: []string{"ledger.booking.>"}})
	c.must(err)
	messages, err := consumer.Messages()
	c.must(err)
	defer messages.Stop()
	found, system := map[booking.CommandID]stored{}, []*bookingtest.Call(nil)
	for seq := uint64(0); seq < last; {
		m, err := messages.Next(jetstream.NextContext(ctx))
		c.must(err)
		meta, err := m.Metadata()
		c.must(err)
		seq = meta.Sequence.Stream
		var e struct {
			Booking booking.ID        `json:"booking_id"`
			Role    booking.Role      `json:"role"`
			Command booking.CommandID `json:"command_id"`
		}
		c.must(json.Unmarshal(m.Data(), &e))
		found[e.Command] = stored{e.Booking, meta.Timestamp}
		if e.Role != booking.Service {
			continue
		}
		call := &bookingtest.Call{
			Op: bookingtest.OpExpire, ID: e.Booking, Actor: booking.Actor{ID: "the system", Role: booking.Service},
			Command: e.Command, Partly: true,
			End: int64(meta.Timestamp.Sub(w.start) + settled),
			Got: booking.Booking{ID: e.Booking, State: booking.StateExpired},
		}
		if strings.HasSuffix(m.Subject(), "."+string(booking.Released)) {
			call.Op, call.Got.State, call.Wait = bookingtest.OpRelease, booking.StateOpen, deadline
		}
		system = append(system, call)
	}
	return found, system
}

// boards fails the test unless every instance lists for everybody what a fresh replay of the ledger
// gives.
func (c *cluster) boards(w *witness, want *board.Board) {
	c.t.Helper()
	for actor, bearer := range w.bearers {
		service, port, theirs := "usersvc", 3001, want.OfUser(booking.UserID(actor.ID), 1<<20, 0)
		if actor.Role == booking.Rider {
			service, port, theirs = "ridersvc", 3002, want.OfRider(booking.RiderID(actor.ID), 1<<20, 0)
		}
		var ought []listed
		for _, b := range theirs {
			ought = append(ought, listed{b.ID, b.State})
		}
		for _, base := range c.base(service, port) {
			var got []listed
			for cursor := ""; ; {
				p, err := c.page(base+"/bookings?limit=100"+cursor, bearer)
				c.must(err)
				got = append(got, p.Bookings...)
				if p.Next == "" {
					break
				}
				cursor = "&cursor=" + p.Next
			}
			if !slices.Equal(got, ought) {
				c.t.Errorf("%s lists %d bookings to %s %s, and a replay of the ledger %d, or in other states", base,
					len(got), actor.Role, actor.ID, len(ought))
			}
		}
	}
}

type listed struct {
	Booking booking.ID    `json:"booking_id"`
	State   booking.State `json:"state"`
}

type list struct {
	Bookings []listed `json:"bookings"`
	Next     string   `json:"next_cursor"`
}

// page returns one page of a list.
func (c *cluster) page(url, bearer string) (list, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return list{}, err
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	lists := http.Client{Timeout: 15 * time.Second, Transport: webtest.Transport(c.t, http.DefaultTransport, "../..")}
	resp, err := lists.Do(req)
	if err != nil {
		return list{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return list{}, fmt.Errorf("GET %s: %d %s (%w)", url, resp.StatusCode, body, err)
	}
	var l list
	return l, json.Unmarshal(body, &l)
}

// bearer returns the token of an account of a role.
func (w *witness) bearer(role booking.Role) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for a, bearer := range w.bearers {
		if a.Role == role {
			return bearer
		}
	}
	return ""
}
