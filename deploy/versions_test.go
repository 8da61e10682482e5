// Package deploy has the files of containers, and their tests.
package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/example/pillion/bus/access"
)

//go:generate sh -c "cd nats && go run generate.go"
//go:generate sh -c "cd ../tools && go run ./dashboards ../deploy/grafana/dashboards"

// TestAccessIsGenerated checks that the permissions of a server in a container are those of the
// embedded one.
func TestAccessIsGenerated(t *testing.T) {
	if read(t, "nats/access.conf") != access.File() {
		t.Error("deploy/nats/access.conf is not what package access says. Run: go generate ./deploy")
	}
}

// TestKubernetesHasTheSameNATS checks that the NATS servers in Kubernetes have the configuration of
// those in containers.
func TestKubernetesHasTheSameNATS(t *testing.T) {
	files, err := filepath.Glob("k8s/base/nats/*")
	if err != nil || len(files) != 3 {
		t.Fatalf("%v, %v; want three files", files, err)
	}
	for _, file := range files {
		if original := filepath.Join("nats", filepath.Base(file)); read(t, file) != read(t, original) {
			t.Errorf("%s is not the copy of %s. Run: go generate ./deploy", file, original)
		}
	}
}

// TestOneVersionOfNATS checks that the embedded server, the server in containers, and its stand-in
// for tests have the same version.
func TestOneVersionOfNATS(t *testing.T) {
	for file, pattern := range map[string]string{
		"../go.mod":                     `github\.com/nats-io/nats-server/v2 v(\S+)`,
		"../tools/go.mod":               `github\.com/nats-io/nats-server/v2 v(\S+)`,
		"../docker-compose.yml":         `NATS_IMAGE: "nats:(\S+)"`,
		"../docker-compose.cluster.yml": `NATS_IMAGE: "nats:(\S+)"`,
		"../Dockerfile":                 `ARG NATS_IMAGE=nats:(\S+)`,
	} {
		if got := find(t, file, pattern); got != "2.15.2" {
			t.Errorf("%s has NATS %s, want 2.15.2", file, got)
		}
	}
}

// TestOneVersionOfCaddy checks that the gateway in containers and its stand-in for tests have the
// same version.
func TestOneVersionOfCaddy(t *testing.T) {
	want := find(t, "caddy/go.mod", `github\.com/caddyserver/caddy/v2 v(\S+)`)
	for file, pattern := range map[string]string{
		"../docker-compose.cluster.yml": `CADDY_IMAGE: "caddy:(\S+)"`,
		"../Dockerfile":                 `ARG CADDY_IMAGE=caddy:(\S+)`,
	} {
		if got := find(t, file, pattern); got != want {
			t.Errorf("%s has Caddy %s, want %s", file, got, want)
		}
	}
}

// TestOneVersionOfGo checks that the tools and the images are built with the Go version of the
// programs.
func TestOneVersionOfGo(t *testing.T) {
	want := find(t, "../go.mod", `(?m)^go (\S+)$`)
	for file, pattern := range map[string]string{
		"../tools/go.mod": `(?m)^go (\S+)$`,
		"caddy/go.mod":    `(?m)^go (\S+)$`,
		"../Dockerfile":   `(?m)^ARG GO_IMAGE=golang:([\d.]+)-alpine$`,
	} {
		if got := find(t, file, pattern); got != want {
			t.Errorf("%s has Go %s, and go.mod has %s", file, got, want)
		}
	}
}

// TestCompose checks that Compose 1.29 can read the files, which excludes a top-level name, and
// that all ports are published on loopback only.
func TestCompose(t *testing.T) {
	for file, want := range map[string]int{
		"../docker-compose.yml":         4, // NATS and three services
		"../docker-compose.observe.yml": 3,
		// three NATS servers, two instances of each service, and the gateway
		"../docker-compose.cluster.yml": 10,
	} {
		compose := read(t, file)
		if regexp.MustCompile(`(?m)^name:`).MatchString(compose) {
			t.Errorf("%s has a top-level name, which Compose 1.29 refuses", file)
		}
		ports := regexp.MustCompile(`(?m)^    ports: \[(.*)\]$`).FindAllStringSubmatch(compose, -1)
		if len(ports) != want || strings.Count(compose, "ports:") != want {
			t.Errorf("%s: %d services publish ports, want %d", file, len(ports), want)
		}
		for _, p := range ports {
			for one := range strings.SplitSeq(p[1], ", ") {
				if !strings.HasPrefix(one, `"127.0.0.1:`) {
					t.Errorf("%s: port %s is published beyond this machine", file, one)
				}
			}
		}
	}
}

// TestHostedCI checks that hosted CI runs `make check`, as everyone else does.
func TestHostedCI(t *testing.T) {
	for file, want := range map[string]string{
		"../.github/workflows/ci.yml": "run: make check",
		"../.ci/run":                  "make check",
	} {
		if !strings.Contains(read(t, file), want) {
			t.Errorf("%s does not call make check", file)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func find(t *testing.T, file, pattern string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(read(t, file))
	if m == nil {
		t.Fatalf("%s has nothing that matches %s", file, pattern)
	}
	return m[1]
}
