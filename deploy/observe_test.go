package deploy_test

import (
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// compose is what the tests look at in a compose file.
type compose struct {
	Services map[string]struct {
		Image   string   `yaml:"image"`
		Volumes []string `yaml:"volumes"`
		Ports   []string `yaml:"ports"`
		Build   struct {
			Target string `yaml:"target"`
		} `yaml:"build"`
	} `yaml:"services"`
}

// parse decodes a YAML file.
func parse(t *testing.T, file string, to any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, file)), to); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// TestObserve checks that the containers of docker-compose.observe.yml have pinned images, and
// mount what is there. They are not started: their images come from a registry.
func TestObserve(t *testing.T) {
	t.Parallel()
	var c compose
	parse(t, "../docker-compose.observe.yml", &c)
	for name, s := range c.Services {
		if !regexp.MustCompile(`^[a-z]+/[a-z]+:v?\d+\.\d+\.\d+$`).MatchString(s.Image) {
			t.Errorf("%s has image %q, which is not pinned", name, s.Image)
		}
		for _, v := range s.Volumes {
			from, rest, _ := strings.Cut(strings.ReplaceAll(v, "${PILLION_TARGETS:-targets.yml}", "targets.yml"), ":")
			if !strings.HasPrefix(from, "./") {
				continue
			}
			if _, err := os.Stat(filepath.Join("..", from)); err != nil || !strings.HasSuffix(rest, ":ro") {
				t.Errorf("%s mounts %s: %v", name, v, err)
			}
		}
	}
	if _, ok := c.Services["jaeger"]; !ok || len(c.Services) != 3 {
		t.Errorf("the file has %d services", len(c.Services))
	}

	var sources struct {
		Datasources []struct {
			Name, UID, Type, URL string
		}
	}
	parse(t, "grafana/provisioning/datasources/pillion.yml", &sources)
	if len(sources.Datasources) != 2 {
		t.Errorf("Grafana has %d data sources", len(sources.Datasources))
	}
	for _, s := range sources.Datasources {
		at, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := c.Services[at.Hostname()]; !ok || at.Hostname() != s.Type {
			t.Errorf("data source %s is at %s, and there is no such service", s.Name, s.URL)
		}
	}
	var dashboards struct {
		Providers []struct {
			Type    string
			Options struct{ Path string }
		}
	}
	parse(t, "grafana/provisioning/dashboards/pillion.yml", &dashboards)
	path := dashboards.Providers[0].Options.Path
	if len(dashboards.Providers) != 1 || !slices.Contains(c.Services["grafana"].Volumes,
		"./deploy/grafana/dashboards:"+path+":ro") {
		t.Errorf("the dashboards are not where Grafana looks for them, in %s", path)
	}
}

// TestTargets checks that Prometheus scrapes the ops address of every container of a service.
func TestTargets(t *testing.T) {
	t.Parallel()
	ops := map[string]string{} // ports, by the target of the Dockerfile
	for _, m := range regexp.MustCompile(`OPS_ADDR=0\.0\.0\.0:(\d+).*SERVICE_KEY_FILE=/key/(\w+)\.nk`).
		FindAllStringSubmatch(read(t, "../Dockerfile"), -1) {
		ops[m[2]] = m[1]
	}
	for file, targets := range map[string]string{
		"../docker-compose.yml":         "prometheus/targets.yml",
		"../docker-compose.cluster.yml": "prometheus/targets-cluster.yml",
	} {
		var c compose
		parse(t, file, &c)
		var want []string
		for name, s := range c.Services {
			if port := ops[s.Build.Target]; port != "" {
				want = append(want, net.JoinHostPort(name, port))
			}
		}
		var lists []struct{ Targets []string }
		parse(t, targets, &lists)
		slices.Sort(want)
		if got := slices.Sorted(slices.Values(lists[0].Targets)); len(want) < 3 || !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", targets, got, want)
		}
	}
}

// TestObserveBesideTheContainers lets Compose read the files together.
func TestObserveBesideTheContainers(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("docker-compose")
	if err != nil {
		t.Skip("docker-compose is not installed")
	}
	for _, file := range []string{"docker-compose.yml", "docker-compose.cluster.yml"} {
		cmd := exec.CommandContext(t.Context(), program, "-f", file, "-f", "docker-compose.observe.yml", "config", "-q")
		cmd.Dir = ".."
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}
