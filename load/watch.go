package load

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

// Watched is what people were told over NATS of what happened.
type Watched struct {
	Watchers   int     `json:"watchers"`
	Events     int     `json:"events"`       // without duplicates
	Duplicates int     `json:"duplicates"`   // told more than once to the same watcher, which may be, after a crash
	OutOfOrder int     `json:"out_of_order"` // told after a later event of the same booking
	Breaks     int     `json:"breaks"`       // connections that were lost
	Expected   int     `json:"expected"`     // acknowledged while a watcher whom it concerns was connected, for long enough before and after
	Missing    int     `json:"missing"`      // of those, how many the watcher was not told of
	Lag        Latency `json:"lag"`          // from when an event was stored, by the clock of NATS, to when the watcher had it
}

func (w Watched) summarize(b *strings.Builder) {
	if w.Watchers == 0 {
		b.WriteString("Nobody watched.\n")
		return
	}
	fmt.Fprintf(b, "%d watched and were told of %d events, %.1f ms after they were stored at the median, %.1f ms at p99; %d twice, %d out of order; connections lost: %d. Of %d acknowledged events that a watcher should have been told of, %d are missing.\n",
		w.Watchers, w.Events, w.Lag.P50, w.Lag.P99, w.Duplicates, w.OutOfOrder, w.Breaks, w.Expected, w.Missing)
}

const (
	// breakSlack is how long before a connection is lost, and after it is back, nothing is expected of it: the server notices earlier than the client.
	breakSlack = 10 * time.Second
	// watchersAtOnce is how many connect at the same time. authsvc is asked about each.
	watchersAtOnce = 8
)

// happening is what an event is told apart by, for somebody who knows only that it must have happened.
type happening struct {
	booking booking.ID
	kind    booking.Kind
	role    booking.Role
}

// A watcher is what somebody was told.
type watcher struct {
	conn *bus.Conn
	news chan<- struct{}

	mu        sync.Mutex
	seen      map[booking.EventID]bool
	happened  map[happening]int
	latest    map[booking.ID]int
	duplicate int
	disorder  int
	lag       *hdrhistogram.Histogram // shared by all, under lagMu
	lagMu     *sync.Mutex
	began     time.Time // watching since then; zero: not yet
	breaks    []outage  // the last one is not over where its end is zero
}

// An outage is when nothing was expected to arrive.
type outage struct{ from, to time.Time }

// watching is everybody who watches.
type watching struct {
	by    map[string]*watcher // by the account's id
	news  chan struct{}
	lag   *hdrhistogram.Histogram
	lagMu sync.Mutex
}

// watch lets people watch. Who cannot connect yet does so when it is possible.
func (r *run) watch(ctx context.Context) *watching {
	w := &watching{by: make(map[string]*watcher), news: make(chan struct{}, 1), lag: newHistogram()}
	if r.NATS == "" {
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
				r.Log.Warn("somebody cannot watch", "account", a.id, "error", err)
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

// watch connects with the actor's token, and again with another one when that has run out.
func (a *actor) watch(ctx context.Context, all *watching, subject string) (*watcher, error) {
	w := &watcher{
		news: all.news, seen: make(map[booking.EventID]bool), happened: make(map[happening]int), latest: make(map[booking.ID]int),
		lag: all.lag, lagMu: &all.lagMu,
	}
	lasting := context.WithoutCancel(ctx)
	conn, err := bus.Connect(bus.Config{
		URL: a.run.NATS, CA: a.run.CA, Name: "pillion-load", Inbox: a.id, Changed: w.changed,
		Token: func() string {
			ctx, cancel := context.WithTimeout(lasting, a.run.Timeout)
			defer cancel()
			token, _ := a.bearer(ctx) // without one the server refuses, and the connection is tried again
			return token
		},
	})
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	w.conn = conn
	ctx, cancel := context.WithTimeout(ctx, a.run.Timeout)
	defer cancel()
	if err := feed.Watch(ctx, conn, subject, w.told); err != nil {
		w.close()
		return nil, fmt.Errorf("watch: %w", err)
	}
	w.changed(conn.Ready(ctx) == nil)
	return w, nil
}

// changed notes since when, and when not, everything is to be told.
func (w *watcher) changed(connected bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, last := time.Now(), len(w.breaks)-1
	switch {
	case !connected && !w.began.IsZero() && (last < 0 || !w.breaks[last].to.IsZero()):
		w.breaks = append(w.breaks, outage{from: now.Add(-breakSlack)})
	case connected && w.began.IsZero():
		w.began = now
	case connected && last >= 0 && w.breaks[last].to.IsZero():
		w.breaks[last].to = now.Add(breakSlack)
	}
}

func (w *watcher) told(e feed.Event) {
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
	w.happened[happening{e.Booking, e.Kind, e.Role}]++
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// expects reports whether the watcher must be told of what was done between two times, as it was connected all the while.
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

// missing returns how many of the acknowledged events the watcher must have been told of, and how many of those it was not.
func (w *watcher) missing(wanted []acknowledged) (expected, missing int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	due := make(map[happening]int)
	for _, a := range wanted {
		if w.expects(a.start, a.end) {
			expected++
			due[happening{a.Booking, a.Kind, a.role}]++
		}
	}
	for h, n := range due {
		missing += max(0, n-w.happened[h])
	}
	return expected, missing
}

// settle waits until watchers have been told of everything that was acknowledged, as long as patience lasts, and counts.
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
	_ = w.conn.Close(ctx) // what is still to come is of no use
}
