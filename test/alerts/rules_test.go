package alerts

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

const rulesDir = "../../deploy/prometheus"

// runbook is where the page of all alerts is, for those who are woken by one.
const runbook = "https://github.com/example/pillion/blob/main/docs/operate-alerts.md#"

// A rule is an alert, or a recording rule.
type rule struct {
	Alert       string            `yaml:"alert"`
	Record      string            `yaml:"record"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// rules returns all rules, recording rules first.
func rules(t testing.TB) (all []rule) {
	t.Helper()
	for _, file := range glob(t, rulesDir, "*.rules.yml") {
		var content struct {
			Groups []struct {
				Name  string `yaml:"name"`
				Rules []rule `yaml:"rules"`
			} `yaml:"groups"`
		}
		decode(t, file, &content)
		for _, g := range content.Groups {
			all = append(all, g.Rules...)
		}
	}
	slices.SortStableFunc(all, func(a, b rule) int { return strings.Compare(b.Record, a.Record) })
	return all
}

// alerts returns the rules that are alerts.
func alerts(t testing.TB) []rule {
	t.Helper()
	all := slices.DeleteFunc(rules(t), func(r rule) bool { return r.Alert == "" })
	if len(all) < 30 {
		t.Fatalf("found %d alerts", len(all))
	}
	return all
}

// glob returns the files of a folder.
func glob(t testing.TB, dir, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s in %s: %d files, %v", pattern, dir, len(files), err)
	}
	return files
}

// decode decodes a YAML file and refuses members that the type does not have.
func decode(t testing.TB, file string, to any) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	if err := d.Decode(to); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// tool returns the path of a program of Debian's package `prometheus`, or skips the test.
func tool(t testing.TB, name string) string {
	t.Helper()
	if os.Getenv("PILLION_PROMETHEUS") == "" {
		t.Skip("Prometheus itself is run by make check, and with PILLION_PROMETHEUS=1.")
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed: on Debian it is in the package prometheus", name)
	}
	return path
}

// TestPromtool runs what promtool checks: the configuration, the rules, and their tests.
func TestPromtool(t *testing.T) {
	t.Parallel()
	promtool := tool(t, "promtool")
	for _, args := range [][]string{
		{"check", "config", "--lint=all", "--lint-fatal", rulesDir + "/prometheus.yml"},
		append([]string{"check", "rules", "--lint=all", "--lint-fatal"}, glob(t, rulesDir, "*.rules.yml")...),
		append([]string{"test", "rules"}, glob(t, rulesDir, "*_test.yml")...),
	} {
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args[:2], " "), err, out)
		}
	}
}

// A ruleTest is a test that promtool runs.
type ruleTest struct {
	Name        string `yaml:"name"`
	Interval    string `yaml:"interval"`
	InputSeries []struct {
		Series string `yaml:"series"`
		Values string `yaml:"values"`
	} `yaml:"input_series"`
	AlertRuleTest []struct {
		EvalTime  string `yaml:"eval_time"`
		Alertname string `yaml:"alertname"`
		ExpAlerts []struct {
			ExpLabels      map[string]string `yaml:"exp_labels"`
			ExpAnnotations map[string]string `yaml:"exp_annotations"`
		} `yaml:"exp_alerts"`
	} `yaml:"alert_rule_test"`
}

// TestEveryAlertIsTested finds for each alert a test in which it fires, and one in which it does
// not, both with series of a metric that it reads.
func TestEveryAlertIsTested(t *testing.T) {
	t.Parallel()
	fires, silent := map[string]bool{}, map[string]bool{}
	reads := map[string][]string{}
	recorded := map[string][]string{}
	for _, r := range rules(t) {
		names := metricNames(t, r.Expr)
		for _, n := range names {
			names = append(names, recorded[n]...)
		}
		if recorded[r.Record] = append(recorded[r.Record], names...); r.Alert != "" {
			reads[r.Alert] = names
		}
	}
	for _, file := range glob(t, rulesDir, "*_test.yml") {
		var content struct {
			RuleFiles          []string   `yaml:"rule_files"`
			EvaluationInterval string     `yaml:"evaluation_interval"`
			Tests              []ruleTest `yaml:"tests"`
		}
		decode(t, file, &content)
		for _, test := range content.Tests {
			for _, a := range test.AlertRuleTest {
				about := slices.ContainsFunc(test.InputSeries, func(s struct {
					Series string `yaml:"series"`
					Values string `yaml:"values"`
				}) bool {
					name, _, _ := strings.Cut(s.Series, "{")
					return slices.Contains(reads[a.Alertname], name)
				})
				switch {
				case !about:
					t.Errorf("%s: test %q has no series that %s reads", file, test.Name, a.Alertname)
				case len(a.ExpAlerts) > 0:
					fires[a.Alertname] = true
				default:
					silent[a.Alertname] = true
				}
			}
		}
	}
	for _, a := range alerts(t) {
		if !fires[a.Alert] || !silent[a.Alert] {
			t.Errorf("%s: tested to fire %v, not to fire %v", a.Alert, fires[a.Alert], silent[a.Alert])
		}
	}
}

// TestRunbooks checks that each alert leads to a section of its own, that each of those sections is
// about an alert, and that each says what to look at and what to do.
func TestRunbooks(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operate-alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	heading := regexp.MustCompile(`(?m)^### (\w+)$`)
	found := heading.FindAllSubmatchIndex(page, -1)
	for i, m := range found {
		end := len(page)
		if i+1 < len(found) {
			end = found[i+1][0]
		}
		sections[string(page[m[2]:m[3]])] = string(page[m[1]:end])
	}
	for _, a := range alerts(t) {
		if want := runbook + strings.ToLower(a.Alert); a.Annotations["runbook_url"] != want {
			t.Errorf("%s leads to %s, want %s", a.Alert, a.Annotations["runbook_url"], want)
		}
		text, ok := sections[a.Alert]
		if delete(sections, a.Alert); !ok {
			t.Errorf("docs/operate-alerts.md has no section ### %s", a.Alert)
			continue
		}
		if !strings.Contains(text, "*Look at*") || !regexp.MustCompile(`\*(D|d)o\*`).MatchString(text) {
			t.Errorf("section %s does not say what to look at and what to do", a.Alert)
		}
		if s := a.Labels["severity"]; s != "page" && s != "ticket" {
			t.Errorf("%s has severity %q", a.Alert, s)
		}
		if !strings.HasSuffix(a.Annotations["summary"], ".") {
			t.Errorf("the summary of %s is no sentence", a.Alert)
		}
	}
	for name := range sections {
		t.Errorf("docs/operate-alerts.md has a section %s, and there is no such alert", name)
	}
}
