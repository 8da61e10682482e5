package web

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the collectors of one service's requests. They also work unregistered.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	declare  func() // makes the series of all routes' failures
}

// newMetrics returns the collectors of the requests to routes, which may still be added.
func newMetrics(service string, r prometheus.Registerer, routes chi.Routes) *metrics {
	labels := prometheus.Labels{"service": service}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "http_requests_total", ConstLabels: labels,
			Help: "HTTP requests by route pattern, method and status. Status aborted is an incomplete answer.",
		}, []string{"route", "method", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "pillion", Name: "http_request_duration_seconds", ConstLabels: labels,
			Help:    "Time from the end of a request's header to the end of its handler, in seconds, without streams.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "method"}),
	}
	m.declare = sync.OnceFunc(func() {
		_ = chi.Walk(routes, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
			for _, status := range []int{http.StatusInternalServerError, http.StatusServiceUnavailable} {
				m.requests.WithLabelValues(route, method, strconv.Itoa(status))
			}
			return nil
		})
	})
	if r != nil {
		r.MustRegister(m)
	}
	return m
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	m.requests.Describe(to)
	m.duration.Describe(to)
}

// Collect implements prometheus.Collector. The failures that operators watch exist for every route
// before the first scrape, so that increase() sees the first one.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	m.declare()
	m.requests.Collect(to)
	m.duration.Collect(to)
}

func (m *metrics) observe(route, method string, status int, aborted bool) {
	label := "aborted"
	if !aborted {
		label = strconv.Itoa(status)
	}
	m.requests.WithLabelValues(route, method, label).Inc()
}

func (m *metrics) time(route, method string, took time.Duration) {
	m.duration.WithLabelValues(route, method).Observe(took.Seconds())
}
