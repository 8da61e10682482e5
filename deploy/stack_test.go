//go:build docker

package deploy_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/web/webtest"
)

// A stack is the system of a compose file, with its own project name and ports.
type stack struct {
	project string
	command []string          // docker-compose, or docker compose, with the file
	env     []string          // with the ports
	ports   map[string]string // the published port for each documented port
	proxy   string            // of curl
}

// newStack returns the system of a compose file, which is not running yet, and removes it when the
// test ends. ports maps the variables of the file for ports to their defaults.
func newStack(t *testing.T, project, file string, ports map[string]string) *stack {
	t.Helper()
	docker(t, "version")
	s := &stack{project: project, env: append(os.Environ(), "COMPOSE_PROJECT_NAME="+project,
		"PILLION_DOCKERFILE=bin/linux/Dockerfile", // which `make prebuilt` has written
		fmt.Sprintf("PILLION_NET=10.%d.%d", 100+rand.IntN(100), rand.IntN(256)),
		"USER=olga", "PILLION_DEMO=true"), // the accounts that the tests log in to
		ports: map[string]string{}, proxy: webtest.Proxy(t, "..")}
	switch {
	case exec.Command("docker-compose", "version").Run() == nil:
		s.command = []string{"docker-compose"}
	case exec.Command("docker", "compose", "version").Run() == nil:
		s.command = []string{"docker", "compose"}
	default:
		t.Fatal("This test needs docker-compose or docker compose.")
	}
	s.command = append(s.command, "-f", file)
	for name, port := range ports {
		s.ports[port] = s.freePort(t)
		s.env = append(s.env, name+"="+s.ports[port])
	}
	standIn(t, find(t, "../"+file, `NATS_IMAGE: "(nats:[^"]+)"`), "../tools", "github.com/nats-io/nats-server/v2",
		"/nats-server")
	if text := read(t, "../"+file); strings.Contains(text, "CADDY_IMAGE") {
		standIn(t, find(t, "../"+file, `CADDY_IMAGE: "(caddy:[^"]+)"`), "caddy", "github.com/caddyserver/caddy/v2/cmd/caddy",
			"/usr/bin/caddy")
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := s.run("logs", "--no-color", "--tail=60")
			t.Logf("the containers said:\n%s", out)
		}
		if out, err := s.run("down", "-v", "--rmi", "local", "--remove-orphans"); err != nil {
			t.Errorf("take the containers down: %v\n%s", err, out)
		}
	})
	return s
}

// standIn builds an image that has only a program of a Go module, at a path, unless the image
// exists, because there may be no registry. It removes the image after the test, since users expect
// the published image under that name.
func standIn(t *testing.T, image, module, program, path string) {
	t.Helper()
	if exec.Command("docker", "image", "inspect", image).Run() == nil {
		return
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "program")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, program)
	build.Dir, build.Env = module, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux",
		"GOARCH="+docker(t, "version", "-f", "{{.Server.Arch}}")) // of the engine
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", program, err, out)
	}
	dockerfile := "FROM scratch\nCOPY program " + path + "\nENTRYPOINT [\"" + path + "\"]\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		t.Fatal(err)
	}
	docker(t, "build", "-t", image, dir)
	t.Cleanup(func() { docker(t, "rmi", image) })
}

// docker runs one command of the engine, also in cleanups, and returns what it says.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (s *stack) run(args ...string) ([]byte, error) {
	// The context outlives the test's own, so that cleanups can use it.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	all := append(append([]string{}, s.command...), args...)
	cmd := exec.CommandContext(ctx, all[0], all[1:]...)
	cmd.Dir, cmd.Env = "..", s.env
	return cmd.CombinedOutput()
}

func (s *stack) compose(t *testing.T, args ...string) {
	t.Helper()
	if out, err := s.run(args...); err != nil {
		t.Fatalf("compose %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// up builds the images and starts the containers.
func (s *stack) up(t *testing.T) {
	t.Helper()
	s.compose(t, "build", "--parallel") // all images are built from the same folder
	s.compose(t, "up", "-d")
}

// file returns a file from the container of a service.
func (s *stack) file(t *testing.T, service, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), filepath.Base(path))
	docker(t, "cp", s.container(t, service)+":"+path, to)
	return to
}

// inspect returns a property of the container of a service, running or not.
func (s *stack) inspect(t *testing.T, service, format string) string {
	t.Helper()
	return docker(t, "inspect", "--format", format, s.container(t, service))
}

// container returns the ID of the container of a service.
func (s *stack) container(t *testing.T, service string) string {
	t.Helper()
	list, err := exec.Command("docker", "ps", "-aq", "--filter", "label=com.docker.compose.project="+s.project,
		"--filter", "label=com.docker.compose.service="+service).Output()
	id := strings.TrimSpace(string(list))
	if err != nil || id == "" {
		t.Fatalf("%s has no container: %v", service, err)
	}
	return id
}

// awaitReady waits until the services with these documented ops ports are ready.
func (s *stack) awaitReady(t *testing.T, ports ...string) {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second}
	for _, port := range ports {
		wait.Until(t, "/readyz on port "+port+" says ready", func() bool {
			resp, err := client.Get("http://127.0.0.1:" + s.ports[port] + "/readyz")
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
	}
}

// freePort returns an unused port, which the engine binds some seconds later. It is below those
// that systems give to connections and to listeners on port 0, so that no other program gets it by
// then.
func (s *stack) freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(10000 + rand.IntN(20000))
		if slices.Contains(slices.Collect(maps.Values(s.ports)), port) {
			continue
		}
		if ln, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			_ = ln.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}
