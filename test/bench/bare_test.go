package bench

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/example/pillion/bus/embedded"
)

// The limit of /book is the least that keeps its promise: a handler that verifies a token (and
// remembers which ones it has verified), and stores one durable message. It is a process of its
// own, which is this program again.

// bareEnv has the settings of that process as JSON.
const bareEnv = "PILLION_BENCH_BARE"

// bareSettings are the settings of the bare handler.
type bareSettings struct {
	Dir, PublicKey string // a data folder, and a key in PEM
	Always         bool   // whether to sync before each acknowledgement
	Interval       time.Duration
}

// bare starts the bare handler, which knows the people of another system.
func bare(b *testing.B, like *system, when string) *system {
	b.Helper()
	like.resume(b)
	resp, err := http.Get("http://" + like.authAt + "/public-key")
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close() // it is read to its end
	pem, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	like.pause(b)
	set := bareSettings{Dir: filepath.Join(b.TempDir(), "nats"), PublicKey: string(pem), Always: when == always}
	if !set.Always {
		if set.Interval, err = time.ParseDuration(when); err != nil {
			b.Fatal(err)
		}
	}
	env, err := json.Marshal(set)
	if err != nil {
		b.Fatal(err)
	}
	p := start(b, []string{bareEnv + "=" + string(env)}, os.Args[0])
	p.listening(b)
	s := &system{name: "bare handler", processes: []*process{p}, userAt: []string{p.host("ops")}, people: like.people}
	s.pause(b)
	return s
}

// bareMain is the process of the bare handler. It returns only with an error.
func bareMain(text string) error {
	var set bareSettings
	if err := json.Unmarshal([]byte(text), &set); err != nil {
		return err
	}
	key, err := jwt.ParseRSAPublicKeyFromPEM([]byte(set.PublicKey))
	if err != nil {
		return err
	}
	server, err := embedded.Start(embedded.Config{Dir: set.Dir, SyncAlways: set.Always, SyncInterval: set.Interval})
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
	if _, err := js.CreateStream(context.Background(), jetstream.StreamConfig{Name: "BARE",
		Subjects: []string{"booking.>"}, Storage: jetstream.FileStorage}); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("POST /book", bareHandler(key, js))
	mux.Handle("GET /metrics", promhttp.Handler())
	fmt.Fprintf(os.Stderr, "{\"msg\":\"listening\",\"ops\":\"http://%s\"}\n", listener.Addr())
	return http.Serve(listener, mux)
}

func bareHandler(key *rsa.PublicKey, js jetstream.JetStream) http.HandlerFunc {
	var verified sync.Map // by hash
	verify := func(raw string) bool {
		hash := sha256.Sum256([]byte(raw))
		if _, ok := verified.Load(hash); ok {
			return true
		}
		var claims struct {
			Role string `json:"role"`
			jwt.RegisteredClaims
		}
		_, err := jwt.ParseWithClaims(raw, &claims, func(*jwt.Token) (any, error) { return key, nil },
			jwt.WithValidMethods([]string{"RS256"}), jwt.WithExpirationRequired())
		if err != nil || claims.Role != "user" {
			return false
		}
		verified.Store(hash, true)
		return true
	}
	return func(w http.ResponseWriter, r *http.Request) {
		raw, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || !verify(raw) {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body) // two bytes
		m := nats.NewMsg("booking." + rand.Text() + ".requested")
		m.Header.Set("Authorization", "Bearer "+raw)
		m.Data = []byte(`{"id":"x","user":"u1","pickup":{"lat":12.97,"lng":77.59},` +
			`"dropoff":{"lat":12.93,"lng":77.61},"at":"2026-01-01T00:00:00Z"}`)
		if _, err := js.PublishMsg(r.Context(), m); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"success":true,"message":"Booking successful","user":"john@example.com"}`)
	}
}
