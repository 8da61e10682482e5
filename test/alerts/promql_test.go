package alerts

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
)

// A query is a PromQL expression, with where it comes from.
type query struct {
	from, expr string
	shows      []string // labels that a text beside it names
}

// parse parses PromQL. The dialect of the parser has more than PromQL; promtool refuses that in
// rules, and Prometheus in panels.
func parse(t testing.TB, expr string) metricsql.Expr {
	t.Helper()
	e, err := metricsql.Parse(expr)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return e
}

// metricNames returns the names of the metrics that an expression reads.
func metricNames(t testing.TB, expr string) (names []string) {
	t.Helper()
	for _, s := range selectors(parse(t, expr)) {
		names = append(names, s.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// A selector selects series of one metric.
type selector struct {
	name   string
	labels []metricsql.LabelFilter
}

func selectors(e metricsql.Expr) (found []selector) {
	metricsql.VisitAll(e, func(e metricsql.Expr) {
		m, ok := e.(*metricsql.MetricExpr)
		if !ok {
			return
		}
		for _, labels := range m.LabelFilterss {
			s := selector{}
			for _, l := range labels {
				if l.Label == "__name__" {
					s.name = l.Value
				} else {
					s.labels = append(s.labels, l)
				}
			}
			found = append(found, s)
		}
	})
	return found
}

// grouped returns the labels that an expression names apart from selectors: by, without, on,
// ignoring and group_left, each with the metrics below it.
func grouped(e metricsql.Expr) map[string][]string {
	by := map[string][]string{}
	note := func(labels []string, below metricsql.Expr) {
		for _, l := range labels {
			for _, s := range selectors(below) {
				by[l] = append(by[l], s.name)
			}
		}
	}
	metricsql.VisitAll(e, func(e metricsql.Expr) {
		switch e := e.(type) {
		case *metricsql.AggrFuncExpr:
			note(e.Modifier.Args, e)
		case *metricsql.BinaryOpExpr:
			note(e.GroupModifier.Args, e)
			note(e.JoinModifier.Args, e)
		}
	})
	return by
}

// series are the labels of each series of a metric, and its value as one more.
type series map[string][]map[string]string

const valueLabel = "(value)"

var (
	line  = regexp.MustCompile(`(?m)^([a-zA-Z_:]+)(?:\{(.*)\})? (\S+)$`)
	label = regexp.MustCompile(`([a-zA-Z_]+)="((?:[^"\\]|\\.)*)"`)
)

// add adds the series of a page of /metrics, with the labels that Prometheus gives to a target.
func (s series) add(page string) {
	for _, m := range line.FindAllStringSubmatch(page, -1) {
		labels := map[string]string{"job": "pillion", "instance": "127.0.0.1:3009", valueLabel: m[3]}
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			labels[l[1]] = l[2]
		}
		s[m[1]] = append(s[m[1]], labels)
	}
}

// record adds what a recording rule makes.
func (s series) record(t testing.TB, r rule) {
	t.Helper()
	made := map[string]string{}
	for name := range grouped(parse(t, r.Expr)) {
		made[name] = ""
	}
	for name, value := range r.Labels {
		made[name] = value
	}
	s[r.Record] = append(s[r.Record], made)
}

// check returns what an expression asks for and the series do not have: a metric, a label, or a
// value of one.
func (s series) check(t testing.TB, q query) (missing []string) {
	t.Helper()
	e := parse(t, q.expr)
	var known []string
	for _, sel := range selectors(e) {
		if len(s[sel.name]) == 0 {
			missing = append(missing, "metric "+sel.name)
			continue
		}
		for _, l := range sel.labels {
			for value := range strings.SplitSeq(l.Value, "|") {
				if !s.has(sel.name, l.Label, value, l.IsRegexp) {
					missing = append(missing, sel.name+"{"+l.Label+"="+value+"}")
				}
			}
		}
		for _, labels := range s[sel.name] {
			for name := range labels {
				known = append(known, name)
			}
		}
	}
	for name, metrics := range grouped(e) {
		if !slices.ContainsFunc(metrics, func(m string) bool { return s.has(m, name, ".*", true) }) {
			missing = append(missing, "label "+name+" of "+strings.Join(metrics, ", "))
		}
	}
	for _, name := range q.shows {
		if !slices.Contains(known, name) {
			missing = append(missing, "label "+name+", which its text shows")
		}
	}
	return missing
}

// has reports whether a series of a metric has a label with a value.
func (s series) has(metric, label, value string, isRegexp bool) bool {
	matches := func(is string) bool { return is == value }
	if isRegexp {
		matches = regexp.MustCompile("^(?:" + value + ")$").MatchString
	}
	return slices.ContainsFunc(s[metric], func(labels map[string]string) bool {
		is, ok := labels[label]
		return ok && matches(is)
	})
}
