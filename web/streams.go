package web

import (
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/internal/fault"
)

// What somebody is told who cannot have a stream now.
var (
	ErrTooManyStreams = fault.New(fault.Exhausted, "too_many_streams",
		"You are watching too much at once. Close a stream that you do not need, and try again.").After(5 * time.Second)
	ErrStreamsFull = fault.New(fault.Unavailable, "streams_full",
		"Very many people are watching right now. Please try again in a moment.").After(5 * time.Second)
)

// StreamLimits bound streams. A zero value stands for the default.
type StreamLimits struct {
	PerCaller int           // streams that one account may have at this instance; default 10
	Total     int           // streams that the instance has; default 10,000
	Heartbeat time.Duration // how often a silent stream says that it is alive, and every stream's token is verified again; default 15 s
	Write     time.Duration // how long a reader may take for what is written at once; default 10 s
	Retry     time.Duration // what clients are asked to wait before they come back; default 3 s
}

func (l StreamLimits) withDefaults() StreamLimits {
	if l.PerCaller <= 0 {
		l.PerCaller = 10
	}
	if l.Total <= 0 {
		l.Total = 10_000
	}
	if l.Heartbeat <= 0 {
		l.Heartbeat = 15 * time.Second
	}
	if l.Write <= 0 {
		l.Write = 10 * time.Second
	}
	if l.Retry <= 0 {
		l.Retry = 3 * time.Second
	}
	return l
}

// Streams are the open streams of one service: Server-Sent Events, as section 9.2 of WHATWG's HTML has them. A handler takes a place with
// [Streams.Open]. It holds nothing that must be closed.
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

// NewStreams returns the streams of a service. v verifies their tokens again, and of c it takes the service, the clock and where to register
// metrics. It panics, as MustRegister does, when the same service is registered twice with one Registerer.
func NewStreams(l StreamLimits, v TokenVerifier, c RouterConfig) *Streams {
	labels := prometheus.Labels{"service": c.Service}
	s := &Streams{
		limits: l.withDefaults(), verifier: v, now: c.Now, of: make(map[string]int),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "pillion", Name: "streams_open", ConstLabels: labels, Help: "Streams that are open.",
		}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "streams_ended_total", ConstLabels: labels, Help: "Streams that have ended, by why.",
		}, []string{"reason"}),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if c.Registerer != nil {
		c.Registerer.MustRegister(s.open, s.ended)
	}
	for _, e := range endings() { // so that a rate can be taken of the first one
		s.ended.WithLabelValues(string(e))
	}
	return s
}

// Open takes a place for the caller's stream, behind [Require]. It writes nothing: the handler may still refuse the request. Close the
// stream in any case.
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
