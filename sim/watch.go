package sim

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/feed"
)

// Watched has the results of watchers, which receive the events of their bookings over NATS.
type Watched struct {
	Watchers int `json:"watchers"`
	Events   int `json:"events"` // without duplicates
	// received again by the same watcher; allowed after a crash
	Duplicates int `json:"duplicates"`
	OutOfOrder int `json:"out_of_order"` // received after a later event of the same booking
	Breaks     int `json:"breaks"`       // lost connections
	// acknowledged events whose watcher was connected throughout
	Expected int `json:"expected"`
	Missing  int `json:"missing"` // expected events that the watcher did not receive
	// from an event's time of storage, by NATS's clock, to its receipt
	Lag Latency `json:"lag"`
}

func (w Watched) summarize(b *strings.Builder) {
	if w.Watchers == 0 {
		b.WriteString("There were no watchers.\n")
		return
	}
	fmt.Fprintf(b, "%d watchers received %d events, %.1f ms after they were stored at the median, %.1f ms at p99; ",
		w.Watchers, w.Events, w.Lag.P50, w.Lag.P99)
	fmt.Fprintf(b,
		"%d twice, %d out of order; lost connections: %d. Of %d acknowledged events for watchers, %d are missing.\n",
		w.Duplicates, w.OutOfOrder, w.Breaks, w.Expected, w.Missing)
}

const (
	// breakSlack extends an interruption at both ends: the server notices a lost connection earlier
	// than the client.
	breakSlack = 10 * time.Second
	// watchersAtOnce bounds the connections made at the same time, because authsvc decides on each.
	watchersAtOnce = 8
)

// An eventKey identifies an event by its acknowledgement, which has no event ID.
type eventKey struct {
	booking booking.ID
	kind    booking.Kind
	role    booking.Role
}

// A watcher collects the events that one actor receives.
type watcher struct {
	conn *bus.Conn
	news chan<- struct{}

	mu        sync.Mutex
	seen      map[booking.EventID]bool
	received  map[eventKey]int
	latest    map[booking.ID]int
	duplicate int
	disorder  int
	lag       *hdrhistogram.Histogram // of all watchers, under lagMu
	lagMu     *sync.Mutex
	began     time.Time      // when it first connected, or zero
	breaks    []interruption // the end of the last one is zero while it lasts
}

// An interruption is a time in which no events are expected.
type interruption struct{ from, to time.Time }

// watching holds all watchers of a run.
type watching struct {
	by    map[string]*watcher // by account ID
	news  chan struct{}
	lag   *hdrhistogram.Histogram
	lagMu sync.Mutex
}

// watch connects the watchers. One that cannot connect yet keeps trying.
func (r *run) watch(ctx context.Context) *watching {
	w := &watching{by: make(map[string]*watcher), news: make(chan struct{}, 1), lag: newHistogram(r.Config)}
	if r.NATS == nil {
		return w
	}
	var mu sync.Mutex
	var group sync.WaitGroup
	slots := make(chan struct{}, watchersAtOnce)
	join := func(a *actor, feed string) {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			one, err := a.watch(ctx, w, feed)
			if err != nil {
				r.Log.Warn("a watcher cannot connect", "account", a.id, "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			w.by[a.id] = one
		})
	}
	for _, u := range r.users[:min(len(r.users), r.Watchers)] {
		join(u.actor, bus.FeedOfUser(u.id))
	}
	for _, d := range r.riders[:min(len(r.riders), r.Watchers)] {
		join(d.actor, bus.RidesOfRider(d.id))
	}
	group.Wait()
	return w
}

// watch connects to NATS with the actor's token, and reconnects with a new one when that has
// expired.
func (a *actor) watch(ctx context.Context, all *watching, subject string) (*watcher, error) {
	w := &watcher{
		news: all.news, lag: all.lag, lagMu: &all.lagMu,
		seen: make(map[booking.EventID]bool), received: make(map[eventKey]int), latest: make(map[booking.ID]int),
	}
	lasting := context.WithoutCancel(ctx)
	c := *a.run.NATS
	c.Name, c.Inbox, c.Changed = "pillion-sim", a.id, w.changed
	c.Token = func() string {
		ctx, cancel := context.WithTimeout(lasting, a.run.Timeout)
		defer cancel()
		// Without a token the server refuses the connection, and the client tries again.
		token, _ := a.bearer(ctx)
		return token
	}
	conn, err := bus.Connect(c)
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	w.conn = conn
	ctx, cancel := context.WithTimeout(ctx, a.run.Timeout)
	defer cancel()
	if err := feed.Watch(ctx, conn, subject, w.receive); err != nil {
		w.close()
		return nil, fmt.Errorf("watch: %w", err)
	}
	w.changed(conn.Ready(ctx) == nil)
	return w, nil
}

// changed records when the connection is lost and back.
func (w *watcher) changed(connected bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, last := time.Now(), len(w.breaks)-1
	switch {
	case !connected && !w.began.IsZero() && (last < 0 || !w.breaks[last].to.IsZero()):
		w.breaks = append(w.breaks, interruption{from: now.Add(-breakSlack)})
	case connected && w.began.IsZero():
		w.began = now
	case connected && last >= 0 && w.breaks[last].to.IsZero():
		w.breaks[last].to = now.Add(breakSlack)
	}
}

// receive records an event.
func (w *watcher) receive(e feed.Event) {
	w.lagMu.Lock()
	record(w.lag, time.Since(e.At))
	w.lagMu.Unlock()

	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.seen[e.Event]:
		w.duplicate++
		return
	case e.N <= w.latest[e.Booking]:
		w.disorder++
	default:
		w.latest[e.Booking] = e.N
	}
	w.seen[e.Event] = true
	w.received[eventKey{e.Booking, e.Kind, e.Role}]++
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// expects reports whether the watcher must receive an event stored between two times, because it
// was connected throughout.
func (w *watcher) expects(start, end time.Time) bool {
	if w.began.IsZero() || start.Before(w.began) {
		return false
	}
	for _, o := range w.breaks {
		if end.After(o.from) && (o.to.IsZero() || start.Before(o.to)) {
			return false
		}
	}
	return true
}

// missing returns how many of the acknowledged events the watcher must receive, and how many of
// those it has not received.
func (w *watcher) missing(wanted []acknowledged) (expected, missing int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	due := make(map[eventKey]int)
	for _, a := range wanted {
		if w.expects(a.start, a.end) {
			expected++
			due[eventKey{a.Booking, a.Kind, a.role}]++
		}
	}
	for key, n := range due {
		missing += max(0, n-w.received[key])
	}
	return expected, missing
}

// settle waits until the watchers have received all acknowledged events, for patience at most, and
// counts.
func (w *watching) settle(acks []acknowledged, patience time.Duration) Watched {
	concerns := make(map[string][]acknowledged)
	for _, a := range acks {
		if a.owner != "" {
			concerns[a.owner] = append(concerns[a.owner], a)
		}
		if a.Actor != a.owner {
			concerns[a.Actor] = append(concerns[a.Actor], a)
		}
	}
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		sum := w.count(concerns)
		if sum.Missing == 0 {
			return sum
		}
		select {
		case <-w.news:
		case <-deadline.C:
			return w.count(concerns)
		}
	}
}

func (w *watching) count(concerns map[string][]acknowledged) Watched {
	w.lagMu.Lock()
	sum := Watched{Watchers: len(w.by), Lag: latencyOf(w.lag)}
	w.lagMu.Unlock()
	for id, one := range w.by {
		expected, missing := one.missing(concerns[id])
		one.mu.Lock()
		sum.Events += len(one.seen)
		sum.Duplicates += one.duplicate
		sum.OutOfOrder += one.disorder
		sum.Breaks += len(one.breaks)
		one.mu.Unlock()
		sum.Expected += expected
		sum.Missing += missing
	}
	return sum
}

func (w *watching) close() {
	var group sync.WaitGroup
	for _, one := range w.by {
		group.Go(one.close)
	}
	group.Wait()
}

func (w *watcher) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	w.conn.Close(ctx) // events that still arrive are of no use
}
