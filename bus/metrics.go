package bus

import "github.com/prometheus/client_golang/prometheus"

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
			Help: "Refused messages by what came of recording them: recorded, known, dropped.",
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
	}
	if r != nil {
		r.MustRegister(m.appended, m.attempts, m.verified, m.refused, m.ignored, m.quarantined, m.audited, m.positions, m.rebuilds, m.stalled, m.lag)
	}
	return m
}
