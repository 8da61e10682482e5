package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// racers are the riders who race for one booking.
const racers = 32

// BenchmarkAcceptRace measures the time until each of 32 riders who race for one booking has an
// answer, beside 32 requests without a race.
func BenchmarkAcceptRace(b *testing.B) {
	p := newPorts(b)
	pillion(b, p, b.TempDir(), "--sync", "2m")
	user := "Bearer " + login(b, p, "john@example.com", "user")
	var riders, users []string
	for i := range racers {
		riders = append(riders, "Bearer "+register(b, p, fmt.Sprintf("rider-%d@example.com", i), "raider"))
		users = append(users, user)
	}
	race := func(url, body string, tokens []string) (took time.Duration, winner string) {
		start := time.Now()
		var wg sync.WaitGroup
		won := make(chan string, len(tokens))
		for _, token := range tokens {
			wg.Go(func() {
				a, err := call(b.Context(), "POST", url, body, "Authorization", token)
				if err != nil {
					b.Error(err)
				}
				if a.status == http.StatusOK {
					won <- token
				}
			})
		}
		wg.Wait()
		return time.Since(start), <-won
	}
	var racing, alone time.Duration
	b.ResetTimer()
	for range b.N {
		a, err := call(b.Context(), "POST", "http://"+p.user+"/book", "{}", "Authorization", user)
		if err != nil || a.status != http.StatusOK {
			b.Fatalf("book: %d %s %v", a.status, a.body, err)
		}
		raced, winner := race("http://"+p.rider+"/accept-booking",
			fmt.Sprintf(`{"booking_id":%q}`, a.field("booking_id")), riders)
		booked, _ := race("http://"+p.user+"/book", "{}", users)
		racing, alone = racing+raced, alone+booked
		// free for the next race
		if err := release(b.Context(), p, winner, a.field("booking_id")); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(racing.Microseconds())/float64(b.N), "us/race-of-32")
	b.ReportMetric(float64(alone.Microseconds())/float64(b.N), "us/32-bookings")
	b.ReportMetric(float64(racing)/float64(alone), "of-32-bookings")
}

// BenchmarkBookBesideLogins measures the 99th percentile of bookings while a thousand people log in
// at once, relative to that beside one login at a time. The limit of "of-one-login" is 5.
func BenchmarkBookBesideLogins(b *testing.B) {
	p := newPorts(b)
	pillion(b, p, b.TempDir(), "--login-limit", "1000", "--address-limit", "1000000")
	bearer := "Bearer " + login(b, p, "john@example.com", "user")
	signIn := func() {
		if _, err := call(b.Context(), "POST", "http://"+p.auth+"/login",
			`{"email":"john@example.com","password":"password123","role":"user"}`); err != nil {
			b.Error(err)
		}
	}
	// p99 books on four connections until done is closed, and returns the 99th percentile.
	p99 := func(done <-chan struct{}) time.Duration {
		client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 4, MaxIdleConnsPerHost: 4}}
		defer client.CloseIdleConnections()
		var mu sync.Mutex
		var took []time.Duration
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				pace := time.NewTicker(20 * time.Millisecond)
				defer pace.Stop()
				for {
					select {
					case <-done:
						return
					case <-pace.C:
					}
					req, err := http.NewRequestWithContext(b.Context(), "POST", "http://"+p.user+"/book",
						strings.NewReader("{}"))
					if err != nil {
						b.Error(err)
						return
					}
					req.Header.Set("Authorization", bearer)
					began := time.Now()
					resp, err := client.Do(req)
					if err != nil {
						b.Error(err)
						return
					}
					_ = resp.Body.Close() // a short body is in the buffer already
					if resp.StatusCode != http.StatusOK {
						b.Errorf("book: %d", resp.StatusCode)
						return
					}
					mu.Lock()
					took = append(took, time.Since(began))
					mu.Unlock()
				}
			})
		}
		group.Wait()
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	var ratios []float64
	var alone, beside time.Duration
	b.ResetTimer()
	for range max(b.N, 3) {
		one := make(chan struct{})
		go func() {
			defer close(one)
			for began := time.Now(); time.Since(began) < 5*time.Second; {
				signIn()
			}
		}()
		alone = p99(one)
		thousand := make(chan struct{})
		go func() {
			defer close(thousand)
			var group sync.WaitGroup
			for range 1000 {
				group.Go(signIn)
			}
			group.Wait()
		}()
		beside = p99(thousand)
		ratios = append(ratios, float64(beside)/float64(alone))
	}
	b.StopTimer()
	slices.Sort(ratios)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(alone.Microseconds())/1000, "ms-p99-one-login")
	b.ReportMetric(float64(beside.Microseconds())/1000, "ms-p99-thousand")
	b.ReportMetric(ratios[len(ratios)/2], "of-one-login")
}
