// Package vitals measures the streams for operators: how full each is, and whether most of its
// copies are there. Make a [Watch] with [New], and call [Watch.Run].
package vitals

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/retry"
)

// pace is the pause between two measurements, which is how often Prometheus usually scrapes.
const pace = 10 * time.Second

// The values of label state.
const (
	current = "current" // has everything
	behind  = "behind"  // is away, or has yet to fetch something
)

// A Watch measures some streams, as gauges. The watches of a process share them.
type Watch struct {
	conn    *bus.Conn
	streams []string

	bytes, limit, messages, led, copies *prometheus.GaugeVec
}

// New returns a Watch of streams about which the connection may ask. It registers the gauges with
// the connection's registry. All series exist from the start, and no stream has a leader then.
func New(c *bus.Conn, streams ...string) *Watch {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return bus.MustRegister(c.Registerer(), prometheus.NewGaugeVec(
			prometheus.GaugeOpts{Namespace: "pillion", Name: name, Help: help}, append([]string{"stream"}, labels...)))
	}
	w := &Watch{
		conn: c, streams: streams,
		bytes:    gauge("stream_bytes", "How many bytes a stream, or a bucket's stream, holds."),
		limit:    gauge("stream_limit_bytes", "How many bytes the stream may hold; 0: it has no limit."),
		messages: gauge("stream_messages", "How many messages the stream holds."),
		led: gauge("stream_led",
			"1 while a leader that is in touch with most of the stream's copies answers this process, and otherwise 0."),
		copies: gauge("stream_copies",
			"Copies of the stream on NATS servers, by state: current, or behind, which includes those that are away.",
			"state"),
	}
	for _, s := range streams {
		for _, g := range []*prometheus.GaugeVec{w.bytes, w.limit, w.messages, w.led} {
			g.WithLabelValues(s)
		}
		w.copies.WithLabelValues(s, current)
		w.copies.WithLabelValues(s, behind)
	}
	return w
}

// Run measures until ctx ends, and then returns nil.
func (w *Watch) Run(ctx context.Context) error {
	for {
		led := true
		for _, s := range w.streams {
			led = w.measure(ctx, s) && led
		}
		wait := pace
		if !led {
			wait = pace / 10
		}
		if !retry.Sleep(ctx, wait) {
			return nil
		}
	}
}

// measure measures one stream and reports whether it is led. What was last known of its size stays
// while it is not.
func (w *Watch) measure(ctx context.Context, stream string) bool {
	if !w.conn.IsUp() {
		w.led.WithLabelValues(stream).Set(0)
		return false
	}
	s, err := w.conn.Stream(ctx, stream)
	if err != nil {
		w.conn.Log().Debug("a stream cannot be measured", "stream", stream, "error", err)
		w.led.WithLabelValues(stream).Set(0)
		return false
	}
	info := s.CachedInfo()
	w.bytes.WithLabelValues(stream).Set(float64(info.State.Bytes))
	w.limit.WithLabelValues(stream).Set(float64(max(info.Config.MaxBytes, 0)))
	w.messages.WithLabelValues(stream).Set(float64(info.State.Msgs))
	w.led.WithLabelValues(stream).Set(1)
	is, late := copies(info)
	w.copies.WithLabelValues(stream, current).Set(float64(is))
	w.copies.WithLabelValues(stream, behind).Set(float64(late))
	return true
}

// copies counts the copies of a stream that has a leader.
func copies(info *jetstream.StreamInfo) (is, late int) {
	is = 1
	if info.Cluster == nil {
		return is, late
	}
	for _, r := range info.Cluster.Replicas {
		if r.Current && !r.Offline {
			is++
		} else {
			late++
		}
	}
	return is, late
}
