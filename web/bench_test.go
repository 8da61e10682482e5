package web_test

import (
	"io"
	"log/slog"
	"net/http"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
	"github.com/example/pillion/web"
)

// A sink is an answer that nobody reads: what remains is the cost of the handler.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }
func (s *sink) WriteHeader(int)             { clear(s.header) }

// A log line that goes nowhere is made all the same, other than with slog.DiscardHandler.
type nowhere struct{}

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }

func small(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(w, `{"success":true}`)
}

// What a router adds to a handler that does nothing: "bare" is the handler in chi alone. Logs are
// made and go nowhere.
func BenchmarkRouter(b *testing.B) {
	a := tokentest.New(b)
	bearer := "Bearer " + a.Token(token.User, tokentest.Ulla, "ulla@example.com")
	stack := func(middlewares ...func(http.Handler) http.Handler) http.Handler {
		r := web.NewRouter(web.RouterConfig{
			Service: "bench", Log: slog.New(slog.NewJSONHandler(nowhere{}, nil)), Registerer: prometheus.NewRegistry(),
		})
		r.With(middlewares...).Post("/book", small)
		return r
	}
	bare := chi.NewRouter()
	bare.Post("/book", small)
	for _, c := range []struct {
		name string
		h    http.Handler
	}{
		{"bare", bare},
		{"stack", stack()},
		{"stack and Require", stack(web.Require(a.Verifier(), token.User, onlyUsers))},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := request("POST", "/book", "", "Authorization", bearer)
			w := &sink{header: make(http.Header)}
			b.ReportAllocs()
			for b.Loop() {
				c.h.ServeHTTP(w, r)
			}
		})
	}
}

// A body that can be read again.
type rewound struct {
	text string
	at   int
}

func (r *rewound) Read(b []byte) (int, error) {
	n := copy(b, r.text[r.at:])
	r.at += n
	if r.at == len(r.text) {
		return n, io.EOF
	}
	return n, nil
}

func (r *rewound) Close() error { return nil }

func BenchmarkDecode(b *testing.B) {
	type trip struct {
		Pickup  *place `json:"pickup"`
		Dropoff *place `json:"dropoff"`
	}
	for _, c := range []struct{ name, body string }{
		{"empty", `{}`},
		{"trip", `{"pickup":{"lat":60.1699,"lng":24.9384},"dropoff":{"lat":60.2055,"lng":24.6559}}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			body := &rewound{text: c.body}
			r := request("POST", "/book", c.body, "Content-Type", "application/json")
			r.Body = body
			b.ReportAllocs()
			for b.Loop() {
				body.at = 0
				var v trip
				if err := web.DecodeOptional(r, &v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
