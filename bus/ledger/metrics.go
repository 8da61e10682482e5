package ledger

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/snapshot"
)

// metrics are the counters of a ledger. They work unregistered.
type metrics struct {
	appended *prometheus.CounterVec
	attempts *prometheus.CounterVec
	verified *prometheus.CounterVec
	refused  *prometheus.CounterVec
	ignored  *prometheus.CounterVec
	rebuilds prometheus.Counter
	stalled  prometheus.Gauge
	lag      prometheus.Gauge

	snapshots     *prometheus.CounterVec
	started       *prometheus.GaugeVec
	snapshotTime  prometheus.Gauge
	snapshotBytes prometheus.Gauge
	snapshotSeq   prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	var events []string
	for _, k := range booking.Kinds() {
		events = append(events, string(k))
	}
	options := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Namespace: "pillion", Name: name, Help: help}
	}
	gauge := func(name, help string) prometheus.Gauge {
		return bus.MustRegister(r, prometheus.NewGauge(options(name, help)))
	}
	return &metrics{
		appended: bus.Counters(r, "events_appended_total",
			"Events that this process appended to the ledger, by event.", "event", events...),
		attempts: bus.Counters(r, "append_attempts_total", "Writes to the ledger, by result.",
			"result", "stored", "moved", "retried", "full", "unknown"),
		verified: bus.Counters(r, "events_verified_total",
			"Events of the ledger that passed re-verification on their way to the board, by event.",
			"event", events...),
		refused: bus.Counters(r, "events_refused_total",
			"Messages of the ledger that re-verification permanently rejected on their way to the board, by reason.",
			"reason", refusalReasons()...),
		ignored: bus.Counters(r, "events_ignored_total",
			"Messages of the ledger that were skipped without a verdict, by reason.", "reason", "engaged", "aged"),
		rebuilds: bus.MustRegister(r, prometheus.NewCounter(prometheus.CounterOpts(options("board_rebuilds_total",
			"How often the board was rebuilt because tokens were revoked, or a key was retired, as of a time in the past.")))),
		stalled: gauge("follower_stalled",
			"1 while the board waits for the keys or revocations that it needs for the next message of the ledger."),
		lag: gauge("consumer_lag", "Messages of the ledger that the board has yet to read."),
		snapshots: bus.Counters(r, "board_snapshots_total",
			"Snapshots of the board that this process began, by result.", "result", "made", "overtaken", "failed"),
		started: bus.MustRegister(r, prometheus.NewGaugeVec(options("board_started_from",
			"1 for what the board was started from: snapshot, or the reason why the whole ledger was read."),
			[]string{"from"})),
		snapshotTime: gauge("board_snapshot_timestamp_seconds",
			"When the latest known snapshot was made, in seconds since 1970."),
		snapshotBytes: gauge("board_snapshot_bytes", "How large the latest known snapshot is."),
		snapshotSeq: gauge("board_snapshot_sequence",
			"Up to which message of the ledger the latest known snapshot goes."),
	}
}

// startedFrom notes what the board was started from: a snapshot, or the whole ledger because of
// err.
func (m *metrics) startedFrom(err error) {
	m.started.Reset()
	m.started.WithLabelValues(snapshot.Reason(err)).Set(1)
}

// snapshot notes which snapshot is the latest.
func (m *metrics) snapshot(x *snapshot.Snapshot) {
	m.snapshotTime.Set(float64(x.StoredAt.UnixMilli()) / 1000)
	m.snapshotBytes.Set(float64(x.Size))
	m.snapshotSeq.Set(float64(x.Seq))
}
