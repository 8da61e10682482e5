//go:build docker

package deploy_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/internal/wait"
)

// TestContainers runs the containers of docker-compose.yml. They must answer as the original's
// guide shows, keep their data over a restart, stop when asked, and come back from a backup. Every
// command of operators works in them. The test needs a Docker engine, Compose (1.29 or newer) and
// curl, and no registry: `make prebuilt` has built the programs.
func TestContainers(t *testing.T) {
	s := newStack(t, "pillion-docker-test", "docker-compose.yml", map[string]string{
		"NATS_PORT": "4222", "AUTH_PORT": "3000", "USER_PORT": "3001", "RIDER_PORT": "3002",
		"AUTH_OPS_PORT": "3010", "USER_OPS_PORT": "3011", "RIDER_OPS_PORT": "3012",
	})
	s.up(t)
	s.awaitReady(t, "3010", "3011", "3012")

	user := s.login(t, "john@example.com", "user", "password123")
	raider := s.login(t, "rider@example.com", "raider", "password123")
	const jsonType = `-H "Content-Type: application/json" `
	bearer := func(token string) string { return `-H "Authorization: Bearer ` + token + `" ` }
	for _, c := range []struct {
		name, curl, status, body string // what the body must contain
	}{
		{"wrong role", `-X POST http://localhost:3000/login ` + jsonType + `-d '{"email":"john@example.com","password":"password123","role":"pilot"}'`, "400", "Invalid role"},
		{"wrong password", `-X POST http://localhost:3000/login ` + jsonType + `-d '{"email":"john@example.com","password":"password124","role":"user"}'`, "401", "Invalid credentials"},
		{"public key", `http://localhost:3000/public-key`, "200", "-----BEGIN PUBLIC KEY-----"},
		{"a raider books", `-X POST http://localhost:3001/book ` + jsonType + bearer(raider) + `-d '{}'`, "403", "Only users can book rides"},
		{"book without a token", `-X POST http://localhost:3001/book ` + jsonType + `-d '{}'`, "401", "Missing Authorization header"},
		{"a forger books", `-X POST http://localhost:3001/book ` + jsonType + bearer("invalid.token.here") + `-d '{}'`, "403", "Invalid token"},
		{"a user books", `-X POST http://localhost:3001/book ` + jsonType + bearer(user) + `-d '{}'`, "200", `"message":"Booking successful","user":"john@example.com"`},
		{"a user accepts", `-X POST http://localhost:3002/accept-booking ` + jsonType + bearer(user) + `-d '{}'`, "403", "Only raiders can accept bookings"},
		{"a raider accepts", `-X POST http://localhost:3002/accept-booking ` + jsonType + bearer(raider) + `-d '{}'`, "200", `"message":"Booking accepted","raider":"rider@example.com"`},
	} {
		if status, body := s.curl(t, c.curl); status != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s: %s %q, want %s %q", c.name, status, body, c.status, c.body)
		}
	}

	// NATS accepts clients with a token and the operator, and no others.
	ca := s.file(t, "authsvc", "/ca/ca.crt")
	nobody, err := nats.Connect("nats://127.0.0.1:"+s.ports["4222"], nats.RootCAs(ca), nats.Timeout(10*time.Second))
	if !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("connecting without a token: %v", err)
	}
	if err == nil {
		nobody.Close()
	}
	if watcher, err := nats.Connect("nats://127.0.0.1:"+s.ports["4222"], nats.RootCAs(ca), nats.Token(user),
		nats.Timeout(10*time.Second)); err != nil {
		t.Errorf("a user: %v", err)
	} else {
		watcher.Close()
	}
	old := s.old(t)
	s.operate(t, user, old)
	t.Run("accounts are copied", s.accountsAreCopied)

	for _, service := range []string{"nats", "authsvc", "usersvc", "ridersvc"} {
		if got := s.inspect(t, service, "{{.Config.User}}"); got != "65532:65532" {
			t.Errorf("%s runs as user %q", service, got)
		}
	}
	for _, service := range []string{"authsvc", "usersvc", "ridersvc"} {
		wait.Until(t, service+" is healthy", func() bool {
			return s.inspect(t, service,
				"{{.State.Health.Status}}") == "healthy"
		})
	}

	s.compose(t, "stop")
	for _, service := range []string{"authsvc", "usersvc", "ridersvc", "provision", "ops"} {
		if got := s.inspect(t, service, "{{.State.ExitCode}}"); got != "0" {
			t.Errorf("%s stopped with status %s", service, got)
		}
	}

	// The volumes keep the ledger and the key: new containers know the booking and accept the old
	// token.
	s.compose(t, "down")
	s.compose(t, "up", "-d")
	s.awaitReady(t, "3010", "3011", "3012")
	if status, body := s.curl(t, `http://localhost:3001/bookings `+bearer(user)); status != "200" ||
		!strings.Contains(body, `"accepted"`) {
		t.Errorf("bookings after a restart: %s %q, want the accepted one", status, body)
	}

	// Another system moves to an empty NATS server.
	s.lose(t)
	s.errand(t, errand{move, 0, "The system has moved."}, map[string]string{"VOLUME": old})
	s.errand(t, errand{move, 2, "has moved: on "}, map[string]string{"VOLUME": old})

	// The disk of NATS is lost, and the backup brings the bookings and accounts back.
	s.lose(t)
	s.errand(t, restore, nil)
	s.compose(t, "up", "-d")
	s.awaitReady(t, "3010", "3011", "3012")
	if status, body := s.curl(t, `http://localhost:3001/bookings `+bearer(s.login(t, "john@example.com", "user",
		"password123"))); status != "200" || !strings.Contains(body, `"accepted"`) {
		t.Errorf("bookings after a restore: %s %q, want the accepted one", status, body)
	}
}

// curl runs a command of the original in a shell, with the ports of this test in place of the
// documented ones.
func (s *stack) curl(t *testing.T, line string) (status, body string) {
	t.Helper()
	for documented, actual := range s.ports {
		line = strings.ReplaceAll(line, "http://localhost:"+documented+"/", "http://127.0.0.1:"+actual+"/")
	}
	var stderr bytes.Buffer
	cmd := exec.Command("sh", "-c", `curl -sS --max-time 20 -w '\n%{http_code}' `+line)
	cmd.Stderr, cmd.Env = &stderr, append(os.Environ(), "http_proxy="+s.proxy, "no_proxy=")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("curl: %v\n%s", errors.Join(err, errors.New(stderr.String())), out)
	}
	i := bytes.LastIndexByte(out, '\n')
	return string(out[i+1:]), string(out[:i])
}

func (s *stack) login(t *testing.T, email, role, password string) (token string) {
	t.Helper()
	status, body := s.curl(t,
		`-X POST http://localhost:3000/login -H "Content-Type: application/json" -d '{"email":"`+email+`","password":"`+password+`","role":"`+role+`"}'`)
	_, rest, ok := strings.Cut(body, `"token":"`)
	token, _, _ = strings.Cut(rest, `"`)
	if status != "200" || !ok || !strings.Contains(body, `"status":true,"message":"Login Successful"`) {
		t.Fatalf("login as %s: %s %s", email, status, body)
	}
	return token
}
