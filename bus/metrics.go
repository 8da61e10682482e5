package bus

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the package's counters. They work unregistered, so nothing asks whether they are there.
type metrics struct {
	appended    *prometheus.CounterVec
	attempts    *prometheus.CounterVec
	verified    *prometheus.CounterVec
	refused     *prometheus.CounterVec
	ignored     *prometheus.CounterVec
	quarantined *prometheus.CounterVec
	audited     *prometheus.CounterVec
	positions   *prometheus.CounterVec
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
	m := &metrics{
		appended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "events_appended_total",
			Help: "Events that this process appended to the ledger, by event.",
		}, []string{"event"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "append_attempts_total",
			Help: "Writes to the ledger by what came of them: stored, moved, retried, full, unknown.",
		}, []string{"result"}),
		verified: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "events_verified_total",
			Help: "Events of the ledger that passed re-verification on their way to the board, by event.",
		}, []string{"event"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "events_refused_total",
			Help: "Messages of the ledger that failed re-verification for good on their way to the board, by reason.",
		}, []string{"reason"}),
		ignored: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "events_ignored_total",
			Help: "Messages of the ledger that were passed over without a verdict, by reason.",
		}, []string{"reason"}),
		audited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "audit_entries_total",
			Help: "Entries of the audit trail by what came of them: stored, dropped.",
		}, []string{"result"}),
		quarantined: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "quarantine_records_total",
			Help: "Refused messages by what came of recording them: recorded, known, aged, dropped.",
		}, []string{"result"}),
		positions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "positions_total",
			Help: "Riders' positions that other instances told, by what came of them: taken, known, malformed; lost: how often some were, because this one was too slow.",
		}, []string{"result"}),
		rebuilds: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "pillion", Name: "board_rebuilds_total",
			Help: "How often the board was read anew, because somebody revoked tokens or retired a key as of a time that had been judged already.",
		}),
		stalled: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "pillion", Name: "follower_stalled",
			Help: "1 while the board waits for keys or revocations to judge the next message of the ledger by.",
		}),
		lag: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "pillion", Name: "consumer_lag",
			Help: "Messages of the ledger that the board has yet to read.",
		}),
		snapshots: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "board_snapshots_total",
			Help: "Snapshots of the board that this process began, by what came of them: made, overtaken, failed.",
		}, []string{"result"}),
		started: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "pillion", Name: "board_started_from",
			Help: "1 for what the board was started from: snapshot, or the whole ledger, by the reason for which no snapshot was used.",
		}, []string{"from"}),
		snapshotTime: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "pillion", Name: "board_snapshot_timestamp_seconds",
			Help: "When the last snapshot was made that this process knows of, in seconds since 1970.",
		}),
		snapshotBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "pillion", Name: "board_snapshot_bytes",
			Help: "How large that snapshot is.",
		}),
		snapshotSeq: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "pillion", Name: "board_snapshot_sequence",
			Help: "Up to which message of the ledger that snapshot goes.",
		}),
	}
	if r != nil {
		r.MustRegister(m.appended, m.attempts, m.verified, m.refused, m.ignored, m.quarantined, m.audited, m.positions, m.rebuilds, m.stalled, m.lag,
			m.snapshots, m.started, m.snapshotTime, m.snapshotBytes, m.snapshotSeq)
	}
	return m
}

// startedFrom notes what the board was started from: a snapshot, or the whole ledger because of err.
func (m *metrics) startedFrom(err error) {
	m.started.Reset()
	m.started.WithLabelValues(reasonOf(err)).Set(1)
}

// reasonOf names why a snapshot was not used; nil: it was.
func reasonOf(err error) string {
	if err == nil {
		return "snapshot"
	}
	for _, reason := range notUsed() {
		if errors.Is(err, reason) {
			return reason.Error()
		}
	}
	return errUnreachable.Error()
}

// snapshot notes which snapshot is the last.
func (m *metrics) snapshot(x *snapshot) {
	m.snapshotTime.Set(float64(x.stored.UnixMilli()) / 1000)
	m.snapshotBytes.Set(float64(x.Size))
	m.snapshotSeq.Set(float64(x.Seq))
}
