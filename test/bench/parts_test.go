package bench

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// served returns a client of a system whose usersvc is h.
func served(t *testing.T, h http.HandlerFunc) *client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	s := &system{userAt: []string{strings.TrimPrefix(server.URL, "http://")},
		people: people{users: []person{{"u", "t1"}}, riders: []person{{"r", "t2"}}}}
	c := s.clients(1)[0]
	t.Cleanup(c.close)
	return c
}

// A client sends its token and its body, keeps its connection, and tells a refusal from an answer.
func TestClient(t *testing.T) {
	var mu sync.Mutex
	from := map[string]bool{}
	c := served(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		from[r.RemoteAddr] = true
		if r.Header.Get("Authorization") != "Bearer t1" || r.ContentLength != 2 {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, `{"booking_id":%q}`, r.URL.Path)
	})
	for range 2 {
		a, err := c.book()
		if id := a.field("booking_id"); err != nil || id != "/book" {
			t.Errorf("booked %q, %v", id, err)
		}
	}
	if _, err := c.post(c.system.userAt, "/book", person{token: "other"}, "{}"); err == nil ||
		err.Error() != "POST /book: 403 no\n" {
		t.Errorf("a refusal is %v", err)
	}
	if len(from) != 1 {
		t.Errorf("%d connections, want 1", len(from))
	}
}

// With a rate, a task's time begins when it was due, so that tasks which have to wait behind a slow
// one are slow too. Without one it begins when a client is free.
func TestOpenLoop(t *testing.T) {
	const slow = 200 * time.Millisecond
	for _, rate := range []float64{0, 100} {
		first := true
		c := served(t, func(w http.ResponseWriter, _ *http.Request) {
			if first {
				first = false
				<-time.After(slow)
			}
			_, _ = w.Write([]byte("{}"))
		})
		got := work(t, []*client{c}, pace{length: 2 * slow, rate: rate}, bookTask)
		late := 0
		for _, bar := range got.latency.Distribution() {
			if bar.To >= (slow / 2).Microseconds() {
				late += int(bar.Count)
			}
		}
		if waited := late > 5; waited != (rate > 0) || late == 0 {
			t.Errorf("at %v a second %d of %d tasks are slow", rate, late, got.done)
		}
	}
}

func TestMetricsAreSummed(t *testing.T) {
	got, err := readMetrics(bufio.NewScanner(strings.NewReader("# HELP a x\na{b=\"1\"} 2\na{b=\"c d\"} 3.5\ne 1e+06\n")))
	if err != nil || got["a"] != 5.5 || got[`a{b="c d"}`] != 3.5 || got["e"] != 1e6 || len(got) != 4 {
		t.Errorf("%v, %v", got, err)
	}
}

// The ratio of a line is the median of its pairs, and not the ratio of all turns.
func TestLine(t *testing.T) {
	at := func(rates ...int) (turns []turn) {
		for _, r := range rates {
			turns = append(turns, turn{done: r, took: time.Second, latency: newHistogram()})
		}
		return turns
	}
	l := line{task: bookTask, than: "book of bare", when: always, clients: 8,
		turns: [2][]turn{at(100, 100, 10), at(200, 100, 100)}}
	if row := l.String(); !strings.Contains(row, "| book | always | 8 | 100 | 100 book of bare | **0.50** | 0.10 to 1.00 |") {
		t.Error(row)
	}
	if columns := strings.Count(l.String(), " |"); columns != strings.Count(strings.Split(header, "\n")[0], " |") {
		t.Errorf("the row has %d columns, unlike the header", columns)
	}
	alone := line{task: bookTask, when: always, clients: 8, turns: [2][]turn{at(100)}}
	if columns := strings.Count(alone.String(), " |"); columns != strings.Count(l.String(), " |") {
		t.Errorf("the row of one side has %d columns", columns)
	}
}

func TestMedian(t *testing.T) {
	for want, of := range map[float64][]float64{0: nil, 2: {3, 1, 2}, 2.5: {4, 1, 3, 2}} {
		if got := median(of); got != want {
			t.Errorf("median of %v is %v, want %v", of, got, want)
		}
	}
}
