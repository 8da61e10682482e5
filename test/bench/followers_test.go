package bench

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/feed"
	"github.com/example/pillion/internal/wait"
)

// BenchmarkFollowers measures what one watcher and one connected rider cost. The ledger is nearly
// empty, so that nothing big comes and goes in memory meanwhile.
func BenchmarkFollowers(b *testing.B) {
	s := newHouse(b, "this", programs()).open(b, lazily)
	s.resume(b)
	say("%s", machine())
	for range *pairs {
		s.watchers(b, 1000)
		s.connected(b, 500)
	}
	s.end(b)
	b.ReportMetric(0, "ns/op")
}

// watchers measures the memory that one watcher of a booking over HTTP costs.
func (s *system) watchers(b *testing.B, n int) {
	b.Helper()
	c := s.clients(1)[0]
	defer c.close()
	made, err := c.book()
	if err != nil {
		b.Fatal(err)
	}
	s.each(b, "watcher over HTTP", n, func(int) error {
		conn, err := net.Dial("tcp", s.userAt[0])
		if err != nil {
			return err
		}
		b.Cleanup(func() { _ = conn.Close() }) // it is cut
		if _, err := fmt.Fprintf(conn, "GET /bookings/%s/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n",
			made.field("booking_id"), c.user.token); err != nil {
			return err
		}
		if err := conn.SetReadDeadline(time.Now().Add(wait.Patience)); err != nil {
			return err
		}
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "event: ") {
				return nil
			}
		}
		return fmt.Errorf("a watcher is told nothing")
	})
}

// connected measures the memory that one rider on NATS costs, who has connected with a token and
// follows rides.
func (s *system) connected(b *testing.B, n int) {
	b.Helper()
	s.each(b, "rider on NATS", n, func(i int) error {
		rider := s.people.riders[i%len(s.people.riders)]
		conn, err := bus.Connect(bus.Config{URL: s.processes[0].at["nats"], Name: "bench", Inbox: rider.id,
			Token: func() string { return rider.token }})
		if err != nil {
			return err
		}
		b.Cleanup(conn.NATS().Close)
		ctx, cancel := context.WithTimeout(b.Context(), wait.Patience)
		defer cancel()
		if err := conn.AwaitUp(ctx); err != nil {
			return err
		}
		return feed.Watch(ctx, conn, bus.RidesOfRider(rider.id), func(feed.Event) {})
	})
}

// each makes n of something, and says how much more memory the system holds for each.
func (s *system) each(b *testing.B, what string, n int, one func(i int) error) {
	b.Helper()
	before := s.processes[0].memory(b).live
	var g errgroup.Group
	g.SetLimit(8)
	for i := range n {
		g.Go(func() error { return one(i) })
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	after := s.processes[0].memory(b).live
	say("One %s: %.1f KiB live (%d at once).", what, (after-before)/1024/float64(n), n)
}
