package bench

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/internal/wait"
)

// BenchmarkHistory measures how everything grows with the number of messages in the ledger. People
// fill it, over HTTP, so a million messages take some minutes.
func BenchmarkHistory(b *testing.B) {
	h := newHouse(b, "this", programs())
	drawn := historyCharts()
	say("%s Without sync, 32 clients.\n\n| messages | bookings | book/s | ratio | p50 ms | p99 ms | rides/s | "+
		"ratio | any ms | resident MiB | live MiB | usersvc live MiB | start s | without snapshot s |\n%s|", machine(),
		strings.Repeat("|---", 14))
	var last grown
	for i, text := range strings.Split(*sizes, ",") {
		size, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		g := h.grow(b, size)
		say("%s", g)
		for j, values := range g.charted() {
			drawn[j].add(number(g.messages), values)
		}
		if i > 0 {
			say("%.0f bytes of board for each booking since.", (g.board-last.board)/(g.bookings-last.bookings))
		}
		last = g
	}
	draw(b, drawn...)
	b.ReportMetric(0, "ns/op")
}

// snapshotLacks is after how many messages a snapshot is due. People here need seconds for so many,
// and there is one in 30 seconds at most.
const snapshotLacks, snapshotEvery = 50_000, "--snapshot-every=5m"

// A grown is what was measured at one size of the ledger. Memory is in bytes.
type grown struct {
	messages, bookings float64
	book, ride         line // beside the bare handler
	any                line
	all                memory
	board              float64 // live memory of usersvc alone
	quick, slow        time.Duration
}

// grow fills the ledger and measures.
func (h *house) grow(b *testing.B, size uint64) (g grown) {
	b.Helper()
	s := h.open(b, lazily, snapshotEvery)
	s.fill(b, size)
	limit := bare(b, s, lazily)
	g.book = compare(b, lazily, most, side{s, bookTask}, side{limit, bookTask})
	g.ride = compare(b, lazily, most, side{s, rideTask}, side{limit, bookTask})
	limit.end(b)
	g.any = compare(b, lazily, 1, side{s, anyTask}, side{}) // those of book are still open
	s.resume(b)
	g.messages, g.all = float64(s.lastSequence(b)), s.processes[0].memory(b)
	g.bookings, g.board = h.alone(b, s)
	wait.Until(b, "the board's snapshot is up to date", func() bool {
		return s.processes[0].metrics(b)["pillion_board_snapshot_sequence"] > g.messages-snapshotLacks
	})
	s.end(b)
	g.quick, g.slow = h.start(b, snapshotEvery), h.start(b, "--snapshot-every=0")
	return g
}

// fill has people book and ride until the ledger has as many messages.
func (s *system) fill(b *testing.B, messages uint64) {
	b.Helper()
	s.resume(b)
	defer s.pause(b)
	clients := s.clients(min(*crowd, crowds[len(crowds)-1]))
	for s.lastSequence(b) < messages {
		work(b, clients, pace{length: 250 * time.Millisecond}, fillTask)
	}
	for _, c := range clients {
		c.close()
	}
	s.settle(b)
}

// start returns the time from start to ready.
func (h *house) start(b *testing.B, args ...string) time.Duration {
	b.Helper()
	s := h.open(b, lazily, args...)
	s.end(b)
	return s.started
}

// alone runs another usersvc, which has a board and no NATS server, beside a system. It returns how
// many bookings its board has, and its live memory.
func (h *house) alone(b *testing.B, s *system) (bookings, live float64) {
	b.Helper()
	p := start(b, settingsOf(h.name), filepath.Join(h.programs, "usersvc"), "--nats-url="+s.processes[0].at["nats"],
		"--service-key="+filepath.Join(h.data, "services", "usersvc.nk"), "--user-addr=127.0.0.1:0",
		"--ops-addr=127.0.0.1:0", "--snapshot-every=0")
	p.ready(b)
	live = p.memory(b).live
	bookings = p.metrics(b)[`pillion_events_verified_total{event="requested"}`]
	p.end(b)
	return bookings, live
}

func (g grown) String() string {
	_, took := g.book.sum(0)
	_, taken := g.any.sum(0)
	row := []string{number(g.messages), number(g.bookings), number(median(g.book.rates(0)))}
	for _, v := range []float64{median(g.book.ratios()), quantile(took, 50), quantile(took, 99),
		median(g.ride.rates(0)), median(g.ride.ratios()), quantile(taken, 50), g.all.resident / mib, g.all.live / mib,
		g.board / mib, g.quick.Seconds(), g.slow.Seconds()} {
		row = append(row, number(v))
	}
	return "| " + strings.Join(row, " | ") + " |"
}

// historyCharts returns the charts of grown.charted, without values.
func historyCharts() []*chart {
	made := func(file, title string, names ...string) *chart {
		c := &chart{File: file, Title: title, X: "messages in the ledger"}
		for _, n := range names {
			c.Series = append(c.Series, series{Name: n})
		}
		return c
	}
	return []*chart{
		made("history-rate", "Tasks a second, 32 clients", "book", "whole ride"),
		made("history-latency", "Time of a booking in ms, 32 clients", "p50", "p99"),
		made("history-memory", "Memory in MiB", "pillion, resident", "pillion, live", "usersvc alone, live"),
		made("history-start", "Seconds from start to ready", "with a snapshot", "without one"),
	}
}

// charted returns the values of each chart.
func (g grown) charted() [][]float64 {
	_, took := g.book.sum(0)
	return [][]float64{
		{median(g.book.rates(0)), median(g.ride.rates(0))},
		{quantile(took, 50), quantile(took, 99)},
		{g.all.resident / mib, g.all.live / mib, g.board / mib},
		{g.quick.Seconds(), g.slow.Seconds()},
	}
}
