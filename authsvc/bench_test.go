package authsvc_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"

	"pillion/authsvc"
	"pillion/bus"
	"pillion/bus/bustest"
)

// BenchmarkLogin sets logins over HTTP, with the accounts and the counters of tries in NATS, against argon2id alone with as many at a time as the service
// allows. Both take turns, so that both meet the same machine. ns/op is of one login and one bare hash.
func BenchmarkLogin(b *testing.B) {
	conn := bustest.Run(b).Connect(b)
	k := newKit(b, withStore(authsvc.NewAccounts(conn.Bucket(bus.AccountsBucket))), guarded(b, conn, time.Now))
	if w := k.do(post("/register", body("kim@example.com", goodPassword, "user"))); w.Code != http.StatusCreated {
		b.Fatalf("register = %d %s", w.Code, w.Body)
	}
	account, err := k.config.Accounts.Find(b.Context(), "kim@example.com", "user")
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(k.routes)
	defer server.Close()
	slots := max(runtime.GOMAXPROCS(0)-1, 1)
	clients := 2 * slots // enough to keep the slots busy
	client := server.Client()
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = clients
	login := func() {
		resp, err := client.Post(server.URL+"/login", "application/json", strings.NewReader(body("kim@example.com", goodPassword, "user")))
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

// timed runs do that many times in all, in so many goroutines.
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
