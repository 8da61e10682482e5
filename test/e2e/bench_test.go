package e2e

import (
	"context"
	"crypto/rsa"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/internal/wait"
)

const (
	connections = 32
	turns       = 10 // both sides take turns, so that a slower machine slows both
)

// BenchmarkBook measures /book over real HTTP on 32 connections, beside a minimal handler that only
// verifies a token and publishes a durable message, with the same kind of embedded server.
// "of-bare" is the ratio of their rates.
func BenchmarkBook(b *testing.B) {
	for _, c := range []struct{ name, sync string }{{"fsync", "always"}, {"no-fsync", "2m"}} {
		b.Run(c.name, func(b *testing.B) {
			p := newPorts(b)
			data := b.TempDir()
			pillion(b, p, data, "--sync", c.sync, "--log-level", "info")
			token := login(b, p, "john@example.com", "user")
			bareAddr := bare(b, filepath.Join(data, "keys", "private.key"), c.sync)

			ours := &load{url: "http://" + p.user + "/book", token: token}
			limit := &load{url: "http://" + bareAddr + "/", token: token}
			ours.run(b, 500) // warm up both
			limit.run(b, 500)
			ours.reset()
			limit.reset()
			b.ResetTimer()
			per := max(b.N/turns, connections)
			var ratios []float64
			for range turns {
				ratios = append(ratios, ours.run(b, per)/limit.run(b, per))
			}
			b.StopTimer()
			slices.Sort(ratios)
			b.ReportMetric(0, "ns/op") // of both sides together, so it is not reported
			b.ReportMetric(ours.rate(), "book/s")
			b.ReportMetric(limit.rate(), "bare/s")
			b.ReportMetric(ratios[len(ratios)/2], "of-bare")
		})
	}
}

// BenchmarkAcceptRace measures the time until each of 32 riders who race for one booking has an
// answer, beside 32 requests without a race.
func BenchmarkAcceptRace(b *testing.B) {
	p := newPorts(b)
	pillion(b, p, b.TempDir(), "--sync", "2m")
	user := "Bearer " + login(b, p, "john@example.com", "user")
	var riders, users []string
	for i := range connections {
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

// BenchmarkStart measures the time of the whole system from start to ready, and its memory at rest.
func BenchmarkStart(b *testing.B) {
	var took time.Duration
	var resident float64
	for range b.N {
		p := newPorts(b)
		started := time.Now()
		prog := pillion(b, p, b.TempDir())
		took += time.Since(started)
		resident = prog.Resident(b)
		b.StopTimer()
		prog.Kill()
		b.StartTimer()
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms-to-ready")
	b.ReportMetric(resident, "MiB-resident")
}

// load sends one request repeatedly on a number of connections.
type load struct {
	url, token string
	client     *http.Client
	sent       int
	spent      time.Duration
}

func (l *load) reset()        { l.sent, l.spent = 0, 0 }
func (l *load) rate() float64 { return float64(l.sent) / l.spent.Seconds() }

// run sends n requests and returns the rate of answers with 200, per second.
func (l *load) run(b *testing.B, n int) float64 {
	b.Helper()
	if l.client == nil {
		l.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections,
			MaxConnsPerHost: connections}}
		b.Cleanup(l.client.CloseIdleConnections)
	}
	jobs := make(chan struct{}, n)
	for range n {
		jobs <- struct{}{}
	}
	close(jobs)
	start := time.Now()
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			for range jobs {
				req, err := http.NewRequestWithContext(b.Context(), "POST", l.url, strings.NewReader("{}"))
				if err != nil {
					b.Error(err)
					return
				}
				req.Header.Set("Authorization", "Bearer "+l.token)
				req.Header.Set("Content-Type", "application/json")
				resp, err := l.client.Do(req)
				if err != nil {
					b.Error(err)
					return
				}
				_ = resp.Body.Close() // a short body is in the buffer already
				if resp.StatusCode != http.StatusOK {
					b.Errorf("%s: %d", l.url, resp.StatusCode)
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	l.sent, l.spent = l.sent+n, l.spent+took
	return float64(n) / took.Seconds()
}

// bare runs the minimal handler in another process: this test binary again; see bareMain.
func bare(b *testing.B, keyFile, sync string) string {
	b.Helper()
	at := addrs(b, 1)[0]
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), bareEnv+"="+strings.Join([]string{at, b.TempDir(), keyFile, sync}, "|"))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	wait.Until(b, "the bare handler listens", func() bool {
		c, err := net.Dial("tcp", at)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
	return at
}

const bareEnv = "PILLION_E2E_BARE"

// bareMain is the process of bare. It returns only with an error.
func bareMain(args string) error {
	part := strings.Split(args, "|")
	pem, err := os.ReadFile(part[2])
	if err != nil {
		return err
	}
	key, err := jwt.ParseRSAPrivateKeyFromPEM(pem)
	if err != nil {
		return err
	}
	config := embedded.Config{Dir: part[1], SyncAlways: part[3] == "always"}
	if !config.SyncAlways {
		if config.SyncInterval, err = time.ParseDuration(part[3]); err != nil {
			return err
		}
	}
	server, err := embedded.Start(config)
	if err != nil {
		return err
	}
	nc, err := nats.Connect("", nats.InProcessServer(server.Provider()))
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "BARE", Subjects: []string{"bare.>"},
		Storage: jetstream.FileStorage}); err != nil {
		return err
	}
	return http.ListenAndServe(part[0], bareHandler(&key.PublicKey, js))
}

func bareHandler(key *rsa.PublicKey, js jetstream.JetStream) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		raw := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if _, err := jwt.Parse(raw, func(*jwt.Token) (any, error) { return key, nil },
			jwt.WithValidMethods([]string{"RS256"})); err != nil {
			http.Error(w, "Invalid token", http.StatusForbidden)
			return
		}
		m := nats.NewMsg("bare.booked")
		m.Header.Set("Authorization", r.Header.Get("Authorization"))
		m.Data = []byte(`{"user":"john@example.com"}`)
		if _, err := js.PublishMsg(r.Context(), m); err != nil {
			http.Error(w, "Unavailable", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"success":true,"message":"Booking successful","user":"john@example.com"}`))
	}
}
