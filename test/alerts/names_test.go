package alerts

import (
	"slices"
	"strings"
	"testing"
)

// TestNames books a whole ride and reads the metrics. Everything that rules and panels ask for is
// there: each metric, each label, and each value of a label. An expression that asks for something
// else is empty for ever, and looks like a system without faults.
func TestNames(t *testing.T) {
	t.Parallel()
	p, _, _ := system(t)
	ride(t, p)
	s := metrics(t, p)
	s.add("up 1\n") // by Prometheus

	var asked []query
	for _, r := range rules(t) {
		if r.Record != "" {
			s.record(t, r)
		}
		asked = append(asked, query{from: r.Alert + r.Record, expr: r.Expr, shows: labelsIn(r.Annotations["summary"])})
	}
	for _, q := range append(asked, queries(t)...) {
		if missing := s.check(t, q); len(missing) > 0 {
			t.Errorf("%s: %s\nhas no %s", q.from, q.expr, strings.Join(missing, ", "))
		}
	}
}

// TestNamesAreMissed makes a mistake of each kind, and TestNames would find it.
func TestNamesAreMissed(t *testing.T) {
	t.Parallel()
	s := series{}
	s.add("pillion_logins_total{result=\"refused\"} 3\npillion_feed_delay_seconds_bucket{le=\"0.5\"} 1\n")
	s.record(t, rule{Record: "pillion:refused", Expr: "sum by (result) (pillion_logins_total)",
		Labels: map[string]string{"slo": "logins"}})
	for expr, want := range map[string]string{
		`sum(pillion_logins_total{result="refused"})`:                       "",
		`sum(rate(pillion_logins_total{result=~"ref.*"}[5m]))`:              "",
		`sum by (instance) (pillion_logins_total)`:                          "",
		`pillion:refused{slo="logins"} > 1`:                                 "",
		`sum by (result) (pillion:refused)`:                                 "",
		`pillion_login_total`:                                               "metric pillion_login_total",
		`pillion_logins_total{outcome="refused"}`:                           "pillion_logins_total{outcome=refused}",
		`pillion_logins_total{result="refuse"}`:                             "pillion_logins_total{result=refuse}",
		`pillion_logins_total{result!="limit"}`:                             "pillion_logins_total{result=limit}",
		`pillion_logins_total{result=~"refused|limit"}`:                     "pillion_logins_total{result=limit}",
		`pillion_feed_delay_seconds_bucket{le="0.50"}`:                      "pillion_feed_delay_seconds_bucket{le=0.50}",
		`sum by (role) (pillion_logins_total)`:                              "label role of pillion_logins_total",
		`pillion_logins_total and on (role) pillion_logins_total`:           "label role of pillion_logins_total, pillion_logins_total",
		`increase(pillion:refuse[1h]) > 0 and pillion_logins_total == 0`:    "metric pillion:refuse",
		`pillion:refused{slo="login"}`:                                      "pillion:refused{slo=login}",
		`histogram_quantile(0.9, rate(pillion_feed_delay_seconds_sum[5m]))`: "metric pillion_feed_delay_seconds_sum",
	} {
		if got := strings.Join(s.check(t, query{expr: expr}), "; "); got != want {
			t.Errorf("%s: %q is missing, want %q", expr, got, want)
		}
	}
	if got := s.check(t, query{expr: "pillion_logins_total", shows: []string{"result", "route"}}); !slices.Equal(got,
		[]string{"label route, which its text shows"}) {
		t.Errorf("a legend: %q", got)
	}
}
