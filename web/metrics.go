package web

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the collectors of one service's requests. They also work unregistered.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics(service string, r prometheus.Registerer) *metrics {
	labels := prometheus.Labels{"service": service}
	f := promauto.With(r)
	return &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "http_requests_total", ConstLabels: labels,
			Help: "HTTP requests by route pattern, method and status. Status aborted is an incomplete answer.",
		}, []string{"route", "method", "status"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "pillion", Name: "http_request_duration_seconds", ConstLabels: labels,
			Help:    "Time from the end of a request's header to the end of its handler, in seconds, without streams.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "method"}),
	}
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
