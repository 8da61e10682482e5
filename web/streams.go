package web

import (
	"cmp"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/example/pillion/internal/fault"
)

// The refusals of new streams.
var (
	ErrTooManyStreams = fault.New(fault.Exhausted, "too_many_streams",
		"You have too many open streams. Close one that you do not need, and try again.").After(5 * time.Second)
	ErrStreamsFull = fault.New(fault.Unavailable, "streams_full",
		"This server has too many open streams. Please try again in a moment.").After(5 * time.Second)
)

// StreamLimits bound the streams of an instance. Zero values stand for the defaults.
type StreamLimits struct {
	PerCaller int // streams of one account; default 10
	Total     int // streams of all accounts; default 10,000
	// time between keep-alives, each of which verifies the token again; default 15 s
	Heartbeat time.Duration
	Write     time.Duration // time for a reader to receive one write; default 10 s
}

func (l StreamLimits) withDefaults() StreamLimits {
	return StreamLimits{
		PerCaller: cmp.Or(l.PerCaller, 10), Total: cmp.Or(l.Total, 10_000),
		Heartbeat: cmp.Or(l.Heartbeat, 15*time.Second), Write: cmp.Or(l.Write, 10*time.Second),
	}
}

// Streams are the open streams of Server-Sent Events of one service (WHATWG HTML, section 9.2). A
// handler opens one with [Streams.Open]. Streams itself needs no closing.
type Streams struct {
	limits   StreamLimits
	verifier TokenVerifier
	now      func() time.Time
	open     prometheus.Gauge
	ended    *prometheus.CounterVec

	mu    sync.Mutex
	total int
	of    map[string]int // by account
}

// NewStreams returns the streams of a service. v verifies their tokens again at every keep-alive. c
// provides the service's name, clock and Registerer. It panics, as MustRegister does, when a
// service is registered twice with one Registerer.
func NewStreams(l StreamLimits, v TokenVerifier, c RouterConfig) *Streams {
	labels, f := prometheus.Labels{"service": c.Service}, promauto.With(c.Registerer)
	s := &Streams{
		limits: l.withDefaults(), verifier: v, now: c.Now, of: make(map[string]int),
		open: f.NewGauge(prometheus.GaugeOpts{
			Namespace: "pillion", Name: "streams_open", ConstLabels: labels, Help: "Open streams.",
		}),
		ended: f.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "streams_ended_total", ConstLabels: labels,
			Help: "Streams that have ended, by reason.",
		}, []string{"reason"}),
	}
	if s.now == nil {
		s.now = time.Now
	}
	// all series exist from the start, so that rate() sees the first ending
	for _, e := range endings() {
		s.ended.WithLabelValues(string(e))
	}
	return s
}

// Open reserves a stream for the caller, whom [Require] has verified. It writes nothing: the
// handler may still refuse the request. The handler must close the stream.
//
// Errors: ErrTooManyStreams, ErrStreamsFull.
func (s *Streams) Open(w http.ResponseWriter, r *http.Request) (*Stream, error) {
	claims, raw := Caller(r.Context())
	if err := s.enter(claims.Subject); err != nil {
		return nil, err
	}
	return newStream(s, w, r, claims, raw), nil
}

func (s *Streams) enter(account string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.of[account] >= s.limits.PerCaller:
		return ErrTooManyStreams
	case s.total >= s.limits.Total:
		return ErrStreamsFull
	}
	s.total++
	s.of[account]++
	return nil
}

func (s *Streams) leave(account string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.of[account]--; s.of[account] == 0 {
		delete(s.of, account)
	}
}
