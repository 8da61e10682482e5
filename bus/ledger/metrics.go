package ledger

import (
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/snapshot"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the counters of a ledger. They work unregistered.
type metrics struct {
	appended    *prometheus.CounterVec
	attempts    *prometheus.CounterVec
	verified    *prometheus.CounterVec
	refused     *prometheus.CounterVec
	ignored     *prometheus.CounterVec
	quarantined *prometheus.CounterVec
	rebuilds    prometheus.Counter
	stalled     prometheus.Gauge
	lag         prometheus.Gauge

	snapshots     *prometheus.CounterVec
	started       *prometheus.GaugeVec
	snapshotTime  prometheus.Gauge
	snapshotBytes prometheus.Gauge
	snapshotSeq   prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	return &metrics{
		appended: bus.MustRegister(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "events_appended_total",
			Help: "Events that this process appended to the ledger, by event.",
		}, []string{"event"})),
		attempts: bus.MustRegister(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "append_attempts_total",
			Help: "Writes to the ledger, by result: stored, moved, retried, full, unknown.",
		}, []string{"result"})),
		verified: bus.MustRegister(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "events_verified_total",
			Help: "Events of the ledger that passed re-verification on their way to the board, by event.",
		}, []string{"event"})),
		refused: bus.MustRegister(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "events_refused_total",
			Help: "Messages of the ledger that re-verification permanently rejected on their way to the board, by reason.",
		}, []string{"reason"})),
		ignored: bus.MustRegister(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "events_ignored_total",
			Help: "Messages of the ledger that were skipped without a verdict, by reason.",
		}, []string{"reason"})),
		quarantined: bus.MustRegister(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "quarantine_records_total",
			Help: "Rejected messages, by the result of recording them: recorded, known, aged, dropped.",
		}, []string{"result"})),
		rebuilds: bus.MustRegister(r, prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "pillion", Name: "board_rebuilds_total",
			Help: "How often the board was rebuilt because tokens were revoked, or a key was retired, as of a time in the past.",
		})),
		stalled: bus.MustRegister(r, prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "pillion", Name: "follower_stalled",
			Help: "1 while the board waits for the keys or revocations that it needs for the next message of the ledger.",
		})),
		lag: bus.MustRegister(r, prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "pillion", Name: "consumer_lag",
			Help: "Messages of the ledger that the board has yet to read.",
		})),
		snapshots: bus.MustRegister(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "board_snapshots_total",
			Help: "Snapshots of the board that this process began, by result: made, overtaken, failed.",
		}, []string{"result"})),
		started: bus.MustRegister(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "pillion", Name: "board_started_from",
			Help: "1 for what the board was started from: snapshot, or the reason why the whole ledger was read.",
		}, []string{"from"})),
		snapshotTime: bus.MustRegister(r, prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "pillion", Name: "board_snapshot_timestamp_seconds",
			Help: "When the latest known snapshot was made, in seconds since 1970.",
		})),
		snapshotBytes: bus.MustRegister(r, prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "pillion", Name: "board_snapshot_bytes",
			Help: "How large the latest known snapshot is.",
		})),
		snapshotSeq: bus.MustRegister(r, prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "pillion", Name: "board_snapshot_sequence",
			Help: "Up to which message of the ledger the latest known snapshot goes.",
		})),
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
