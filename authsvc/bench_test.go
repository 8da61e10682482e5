package authsvc_test

import (
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
)

// BenchmarkLogin compares logins over HTTP, with accounts and counters in NATS, to bare argon2id
// with the same concurrency. They alternate, so that both run under the same conditions. ns/op
// is the time of one login and one bare hash.
func BenchmarkLogin(b *testing.B) {
	conn := bustest.Run(b).Connect(b)
	k := newKit(b, withStore(authsvc.NewAccounts(conn.Bucket(bus.AccountsBucket))), throttled(b, conn, time.Now))
	if w := k.do(post("/register", body("kim@example.com", goodPassword, "user"))); w.Code != http.StatusCreated {
		b.Fatalf("register = %d %s", w.Code, w.Body)
	}
	account, err := k.config.Accounts.Find(b.Context(), "kim@example.com", "user")
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(k.handler)
	defer server.Close()
	slots := max(runtime.GOMAXPROCS(0)-1, 1)
	clients := 2 * slots // enough to keep the slots busy
	client := server.Client()
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = clients
	login := func() {
		resp, err := client.Post(server.URL+"/login", "application/json",
			strings.NewReader(body("kim@example.com", goodPassword, "user")))
		if err != nil {
			b.Error(err)
			return
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			b.Errorf("login = %d, %v", resp.StatusCode, err)
		}
	}
	bare := func() {
		if match, err := argon2id.ComparePasswordAndHash(goodPassword, account.Hash); !match || err != nil {
			b.Errorf("compare = %v, %v", match, err)
		}
	}

	const round = 8 // of each kind, before it is the other's turn
	var logins, hashes time.Duration
	rounds := 0
	login() // the connection
	for b.Loop() {
		logins += timed(clients, round*slots, login)
		hashes += timed(slots, round*slots, bare)
		rounds++
	}
	total := float64(rounds * round * slots)
	b.ReportMetric(float64(logins.Nanoseconds()+hashes.Nanoseconds())/total, "ns/op")
	b.ReportMetric(total/logins.Seconds(), "logins/s")
	b.ReportMetric(total/hashes.Seconds(), "argon2id/s")
	b.ReportMetric(hashes.Seconds()/logins.Seconds(), "ratio")
}

// timed runs do that many times in that many goroutines, and returns how long it took.
func timed(workers, times int, do func()) time.Duration {
	var wg sync.WaitGroup
	start := time.Now()
	for i := range workers {
		wg.Go(func() {
			for range times/workers + min(1, max(0, times%workers-i)) {
				do()
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}

// BenchmarkRefusalTimes measures whether the time of an answer reveals why a login was refused.
// The kinds of refusal alternate in random order. For each two, Welch's t says by how many
// standard errors their means differ. Above 4.5 (the bound of dudect) the kinds can be told
// apart; without the dummy hash it is some hundreds.
func BenchmarkRefusalTimes(b *testing.B) {
	conn := bustest.Run(b).Connect(b)
	k := newKit(b, withStore(authsvc.NewAccounts(conn.Bucket(bus.AccountsBucket))))
	for _, email := range []string{"kim@example.com", "off@example.com"} {
		if w := k.do(post("/register", body(email, goodPassword, "user"))); w.Code != http.StatusCreated {
			b.Fatalf("register = %d %s", w.Code, w.Body)
		}
	}
	off, err := k.config.Accounts.Find(b.Context(), "off@example.com", "user")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := k.operator().Disable(b.Context(), off); err != nil {
		b.Fatal(err)
	}
	kinds := []struct{ name, email, password, role string }{
		{"wrong", "kim@example.com", "some other guess", "user"},
		{"empty", "kim@example.com", "", "user"},
		{"role", "kim@example.com", goodPassword, "raider"},
		{"unknown", "nobody@example.com", goodPassword, "user"},
		{"disabled", "off@example.com", goodPassword, "user"},
	}
	took := make([][]float64, len(kinds))
	for b.Loop() {
		for _, i := range rand.Perm(len(kinds)) {
			c := kinds[i]
			r := post("/login", body(c.email, c.password, c.role))
			start := time.Now()
			w := k.do(r)
			took[i] = append(took[i], float64(time.Since(start)))
			if w.Code != http.StatusUnauthorized {
				b.Fatalf("%s: %d %s", c.name, w.Code, w.Body)
			}
		}
	}
	worst := 0.0
	for i := range kinds {
		for j := range i {
			worst = max(worst, math.Abs(welch(took[i], took[j])))
		}
	}
	b.ReportMetric(worst, "worst-t")
	for i, c := range kinds[1:] {
		b.ReportMetric(median(took[i+1])/median(took[0]), c.name+"/wrong")
	}
}

// welch returns Welch's t of two samples, without the slowest tenth of each, which measures the
// machine's other work.
func welch(a, b []float64) float64 {
	moments := func(s []float64) (n, mean, variance float64) {
		s = slices.Sorted(slices.Values(s))[:len(s)-len(s)/10]
		n = float64(len(s))
		for _, x := range s {
			mean += x / n
		}
		for _, x := range s {
			variance += (x - mean) * (x - mean) / max(n-1, 1)
		}
		return n, mean, variance
	}
	na, ma, va := moments(a)
	nb, mb, vb := moments(b)
	if va+vb == 0 {
		return 0
	}
	return (ma - mb) / math.Sqrt(va/na+vb/nb)
}

func median(s []float64) float64 { return slices.Sorted(slices.Values(s))[len(s)/2] }
