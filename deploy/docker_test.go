//go:build docker

package deploy_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// project keeps the containers and volumes of this test apart from those that somebody may have running.
const project = "pillion-docker-test"

// The containers of docker-compose.yml do what the original's guide shows, survive a restart with what they have stored, and stop
// when asked. It needs a Docker engine, Compose (1.29 or newer) and curl, and no registry: `make build` has left the binaries.
func TestContainers(t *testing.T) {
	s := newStack(t)
	s.compose(t, "up", "-d", "--build")
	s.awaitReady(t)

	user := s.login(t, "john@example.com", "user")
	raider := s.login(t, "rider@example.com", "raider")
	const jsonType = `-H "Content-Type: application/json" `
	bearer := func(token string) string { return `-H "Authorization: Bearer ` + token + `" ` }
	for _, c := range []struct {
		name, curl, status, body string // body: what the answer holds
	}{
		{"wrong role", `-X POST http://localhost:3000/login ` + jsonType + `-d '{"email":"john@example.com","password":"password123","role":"pilot"}'`, "400", "Invalid role"},
		{"wrong password", `-X POST http://localhost:3000/login ` + jsonType + `-d '{"email":"john@example.com","password":"password124","role":"user"}'`, "401", "Invalid credentials"},
		{"public key", `http://localhost:3000/public-key`, "200", "-----BEGIN PUBLIC KEY-----"},
		{"a raider books", `-X POST http://localhost:3001/book ` + jsonType + bearer(raider) + `-d '{}'`, "403", "Only users can book rides"},
		{"nobody books", `-X POST http://localhost:3001/book ` + jsonType + `-d '{}'`, "401", "Missing Authorization header"},
		{"a forger books", `-X POST http://localhost:3001/book ` + jsonType + bearer("invalid.token.here") + `-d '{}'`, "403", "Invalid token"},
		{"a user books", `-X POST http://localhost:3001/book ` + jsonType + bearer(user) + `-d '{}'`, "200", `"message":"Booking successful","user":"john@example.com"`},
		{"a user accepts", `-X POST http://localhost:3002/accept-booking ` + jsonType + bearer(user) + `-d '{}'`, "403", "Only raiders can accept bookings"},
		{"a raider accepts", `-X POST http://localhost:3002/accept-booking ` + jsonType + bearer(raider) + `-d '{}'`, "200", `"message":"Booking accepted","raider":"rider@example.com"`},
	} {
		if status, body := s.curl(t, c.curl); status != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s: %s %q, want %s %q", c.name, status, body, c.status, c.body)
		}
	}

	// NATS lets in who has a token, or the operator, and nobody else.
	ca := s.file(t, "authsvc", "/ca/ca.crt")
	nobody, err := nats.Connect("nats://127.0.0.1:"+s.ports["4222"], nats.RootCAs(ca), nats.Timeout(10*time.Second))
	if !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("somebody without a token: %v", err)
	}
	if err == nil {
		nobody.Close()
	}
	if watcher, err := nats.Connect("nats://127.0.0.1:"+s.ports["4222"], nats.RootCAs(ca), nats.Token(user), nats.Timeout(10*time.Second)); err != nil {
		t.Errorf("a user: %v", err)
	} else {
		watcher.Close()
	}
	if out, err := s.run("run", "--rm", "-T", "provision", "bookings", "list", "--json"); err != nil || !strings.Contains(string(out), `"state":"accepted"`) {
		t.Errorf("the operator lists bookings: %v\n%s", err, out)
	}

	for _, service := range []string{"nats", "authsvc", "usersvc", "ridersvc"} {
		if got := s.inspect(t, service, "{{.Config.User}}"); got != "65532:65532" {
			t.Errorf("%s runs as user %q", service, got)
		}
	}
	for _, service := range []string{"authsvc", "usersvc", "ridersvc"} {
		await(t, service+" is healthy", func() bool { return s.inspect(t, service, "{{.State.Health.Status}}") == "healthy" })
	}

	s.compose(t, "stop")
	for _, service := range []string{"authsvc", "usersvc", "ridersvc", "provision"} {
		if got := s.inspect(t, service, "{{.State.ExitCode}}"); got != "0" {
			t.Errorf("%s stopped with status %s", service, got)
		}
	}

	// The volumes keep the ledger and the key: new containers know the booking, and the old token.
	s.compose(t, "down")
	s.compose(t, "up", "-d")
	s.awaitReady(t)
	if status, body := s.curl(t, `http://localhost:3001/bookings `+bearer(user)); status != "200" || !strings.Contains(body, `"accepted"`) {
		t.Errorf("bookings after a restart: %s %q, want the accepted one", status, body)
	}
}

// A stack is the system of docker-compose.yml on ports of its own.
type stack struct {
	command []string          // docker-compose, or docker compose
	env     []string          // with the ports
	ports   map[string]string // the port that a documented one is published on
}

func newStack(t *testing.T) *stack {
	t.Helper()
	if out, err := exec.Command("docker", "version").CombinedOutput(); err != nil {
		t.Fatalf("This test needs a Docker engine: %v\n%s", err, out)
	}
	s := &stack{env: append(os.Environ(), "COMPOSE_PROJECT_NAME="+project), ports: map[string]string{}}
	switch {
	case exec.Command("docker-compose", "version").Run() == nil:
		s.command = []string{"docker-compose"}
	case exec.Command("docker", "compose", "version").Run() == nil:
		s.command = []string{"docker", "compose"}
	default:
		t.Fatal("This test needs docker-compose or docker compose.")
	}
	for name, port := range map[string]string{
		"NATS_PORT": "4222", "AUTH_PORT": "3000", "USER_PORT": "3001", "RIDER_PORT": "3002",
		"AUTH_OPS_PORT": "3010", "USER_OPS_PORT": "3011", "RIDER_OPS_PORT": "3012",
	} {
		s.ports[port] = freePort(t)
		s.env = append(s.env, name+"="+s.ports[port])
	}
	standIn(t, find(t, "../docker-compose.yml", `NATS_IMAGE: "(\S+)"`))
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

// standIn builds the NATS image from the module where it is not here already, since there may be no registry to have it from. It is
// removed after the test: under that name people expect the published one.
func standIn(t *testing.T, image string) {
	t.Helper()
	if exec.Command("docker", "image", "inspect", image).Run() == nil {
		return
	}
	dir := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "nats-server"), "github.com/nats-io/nats-server/v2")
	build.Dir, build.Env = "../tools", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build nats-server: %v\n%s", err, out)
	}
	const dockerfile = "FROM scratch\nCOPY nats-server /nats-server\nEXPOSE 4222 8222 6222\nENTRYPOINT [\"/nats-server\"]\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("docker", "build", "-t", image, dir).CombinedOutput(); err != nil {
		t.Fatalf("build the image %s: %v\n%s", image, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("docker", "rmi", image).CombinedOutput(); err != nil {
			t.Errorf("remove the image %s: %v\n%s", image, err, out)
		}
	})
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

// file copies a file out of the container of a service.
func (s *stack) file(t *testing.T, service, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), filepath.Base(path))
	if out, err := exec.Command("docker", "cp", s.container(t, service)+":"+path, to).CombinedOutput(); err != nil {
		t.Fatalf("copy %s of %s: %v\n%s", path, service, err, out)
	}
	return to
}

// inspect returns one fact about the container of a service, whether it runs or not.
func (s *stack) inspect(t *testing.T, service, format string) string {
	t.Helper()
	out, err := exec.Command("docker", "inspect", "--format", format, s.container(t, service)).CombinedOutput()
	if err != nil {
		t.Fatalf("inspect %s: %v\n%s", service, err, out)
	}
	return strings.TrimSpace(string(out))
}

// container returns the id of the container of a service.
func (s *stack) container(t *testing.T, service string) string {
	t.Helper()
	list, err := exec.Command("docker", "ps", "-aq", "--filter", "label=com.docker.compose.project="+project,
		"--filter", "label=com.docker.compose.service="+service).Output()
	id := strings.TrimSpace(string(list))
	if err != nil || id == "" {
		t.Fatalf("%s has no container: %v", service, err)
	}
	return id
}

// awaitReady returns when all three services say that they are ready.
func (s *stack) awaitReady(t *testing.T) {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second}
	for _, port := range []string{"3010", "3011", "3012"} {
		await(t, "/readyz on port "+port+" says ready", func() bool {
			resp, err := client.Get("http://127.0.0.1:" + s.ports[port] + "/readyz")
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
	}
}

// curl runs a line of the original in a shell, with the documented ports replaced by those of this test.
func (s *stack) curl(t *testing.T, line string) (status, body string) {
	t.Helper()
	for documented, actual := range s.ports {
		line = strings.ReplaceAll(line, "http://localhost:"+documented+"/", "http://127.0.0.1:"+actual+"/")
	}
	var stderr bytes.Buffer
	cmd := exec.Command("sh", "-c", `curl -sS --max-time 20 -w '\n%{http_code}' `+line)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("curl: %v\n%s", errors.Join(err, errors.New(stderr.String())), out)
	}
	i := bytes.LastIndexByte(out, '\n')
	return string(out[i+1:]), string(out[:i])
}

func (s *stack) login(t *testing.T, email, role string) (token string) {
	t.Helper()
	status, body := s.curl(t, `-X POST http://localhost:3000/login -H "Content-Type: application/json" -d '{"email":"`+email+`","password":"password123","role":"`+role+`"}'`)
	_, rest, ok := strings.Cut(body, `"token":"`)
	token, _, _ = strings.Cut(rest, `"`)
	if status != "200" || !ok || !strings.Contains(body, `"status":true,"message":"Login Successful"`) {
		t.Fatalf("login as %s: %s %s", email, status, body)
	}
	return token
}

// freePort returns a port that nobody listens on. The engine takes it a moment later.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
}

// await returns when ok holds, and fails the test where that takes too long.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		}
	}
}
