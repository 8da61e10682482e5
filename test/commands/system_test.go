package commands

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
	"github.com/example/pillion/web/webtest"
)

// TestStartBeforeTheOthers starts a service before all that it needs. It reports what is missing,
// judges no token meanwhile, and becomes ready when all is there.
func TestStartBeforeTheOthers(t *testing.T) {
	t.Parallel()
	url := "nats://" + bustest.FreeAddr(t)
	data := t.TempDir()
	user := proctest.Start(t, "usersvc", "--user-addr=127.0.0.1:0", "--ops-addr=127.0.0.1:0", "--nats-url="+url,
		"--service-key="+data+"/services/usersvc.nk")
	lacks := func(lines ...string) func() bool {
		return func() bool {
			status, words := user.Readiness(t)
			for _, l := range lines {
				if !strings.Contains(words, l+": ") {
					return false
				}
			}
			return status == http.StatusServiceUnavailable
		}
	}
	wait.Until(t, "it lacks everything", lacks("nats", "streams", "keys", "bookings", "identity of usersvc"))
	if status, _ := proctest.Get(t, user.At["ops"]+"/healthz"); status != http.StatusOK {
		t.Errorf("/healthz of a process that waits: %d", status)
	}
	// This token is valid elsewhere. Without keys the service cannot refuse it.
	elsewhere := proctest.Pillion(t, t.TempDir(), "--demo")
	book := func(p *proctest.Program, token string) (int, string) {
		return proctest.Call(t, http.MethodPost, p.At["usersvc"]+"/book",
			http.Header{"Authorization": {"Bearer " + token}}, "{}")
	}
	foreign := login(t, elsewhere)
	if status, words := book(user, foreign); status != http.StatusServiceUnavailable ||
		strings.Contains(words, "Invalid token") {
		t.Errorf("book without NATS: %d %q, want 503", status, words)
	}

	// This is NATS with its streams, inside another pillion.
	nats := proctest.Start(t, "pillion", "--data="+data, "--auth-addr=127.0.0.1:0", "--user-addr=127.0.0.1:0",
		"--rider-addr=127.0.0.1:0",
		"--ops-addr=127.0.0.1:0", "--nats-addr="+strings.TrimPrefix(url, "nats://"), "--demo")
	nats.Ready(t)
	user.Ready(t)
	if status, words := book(user, login(t, nats)); status != http.StatusOK {
		t.Errorf("book when all is ready: %d %q", status, words)
	}
	if status, words := book(user, foreign); status != http.StatusForbidden || words != "Invalid token" {
		t.Errorf("book with a token of elsewhere: %d %q, want 403", status, words)
	}
}

const john = `{"email":"john@example.com","password":"password123","role":"user"}`

func login(t *testing.T, p *proctest.Program) (token string) {
	t.Helper()
	return loginAs(t, p, john)
}

func loginAs(t *testing.T, p *proctest.Program, who string) (token string) {
	t.Helper()
	_, words := proctest.Call(t, http.MethodPost, p.At["authsvc"]+"/login", asJSON, who)
	m := regexp.MustCompile(`"token":"([^"]+)"`).FindStringSubmatch(words)
	if m == nil {
		t.Fatalf("login: %s", words)
	}
	return m[1]
}

// TestPillionAgainstAnotherServer runs all services of a second pillion against the NATS server of
// the first.
func TestPillionAgainstAnotherServer(t *testing.T) {
	t.Parallel()
	keys, data := t.TempDir(), t.TempDir()
	system := proctest.Pillion(t, data, "--demo", "--private-key="+keys+"/private.key")
	second := proctest.Pillion(t, t.TempDir(), "--nats-url="+system.At["nats"], "--private-key="+keys+"/private.key",
		"--services="+data+"/services")
	if second.At["nats"] != "" {
		t.Errorf("the second one logs NATS at %s", second.At["nats"])
	}
	_, published := proctest.Get(t, system.At["authsvc"]+"/public-key")
	if status, words := proctest.Get(t, second.At["authsvc"]+"/public-key"); status != http.StatusOK ||
		words != published {
		t.Errorf("the second one publishes another key: %d %s", status, words)
	}

	// An authsvc with other keys must not replace theirs. It reports the reason.
	third := proctest.Start(t, "authsvc", "--data="+t.TempDir(), "--auth-addr=127.0.0.1:0", "--ops-addr=127.0.0.1:0",
		"--nats-url="+system.At["nats"], "--demo",
		"--service-key="+data+"/services/authsvc.nk")
	wait.Until(t, "it reports the reason", func() bool {
		status, words := third.Readiness(t)
		return status == http.StatusServiceUnavailable && strings.Contains(words, "signing key: ") &&
			strings.Contains(words, "Give every authsvc the same folder")
	})
	if status, words := proctest.Call(t, http.MethodPost, third.At["authsvc"]+"/login", asJSON,
		john); status != http.StatusServiceUnavailable {
		t.Errorf("login there: %d %s", status, words)
	}
	for _, p := range []*proctest.Program{system, second} {
		if status, words := p.Readiness(t); status != http.StatusOK {
			t.Errorf("the others: %d %s", status, words)
		}
	}
}

func TestProvision(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	system := proctest.Pillion(t, data, "--ledger-age=2h")
	at := system.NATS(data, "operator")
	url, key := at[0], at[1]
	if status, out, stderr := proctest.Finish(t, "pillion", "provision", url, key); status != 0 ||
		!strings.Contains(out, "BOOKINGS") {
		t.Errorf("widen to the defaults: status %d, %s%s", status, out, stderr)
	}
	status, _, stderr := proctest.Finish(t, "pillion", "provision", url, key, "--ledger-age=3h", "--log-level=error")
	if status != 2 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "BOOKINGS") {
		t.Errorf("narrow the age: status %d, want 2 and a sentence: %s", status, stderr)
	}
	status, _, stderr = proctest.Finish(t, "pillion", "provision", "--nats-url=nats://"+bustest.FreeAddr(t), key,
		"--timeout=1s", "--log-level=error")
	if status != 1 || strings.Count(stderr, "connection refused. See that it is running") != 2 ||
		!strings.Contains(stderr, "Cannot create the streams in time. NATS at ") {
		t.Errorf("no server: status %d, want 1: %s", status, stderr)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	system := proctest.Pillion(t, t.TempDir())
	ops := strings.TrimPrefix(system.At["ops"], "http://")
	for _, name := range []string{"pillion", "authsvc", "usersvc", "ridersvc"} {
		if status, _, stderr := proctest.Finish(t, name, "health", "--ops-addr="+ops); status != 0 {
			t.Errorf("%s health: status %d, %s", name, status, stderr)
		}
		if status, _, stderr := proctest.Finish(t, name, "health", "--ops-addr="+bustest.FreeAddr(t)); status != 1 ||
			strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s health without a process: status %d, %s", name, status, stderr)
		}
	}
}

// TestLinesToTry runs the commands that the banner suggests.
func TestLinesToTry(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"sh", "curl", "sed"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the lines are for a shell with curl and sed: %v", err)
		}
	}
	for _, c := range []struct {
		args  []string
		watch string // how to watch what happens
		want  []string
	}{
		{[]string{"--demo"}, " sub 'booking.>'", []string{`"message":"Booking successful","user":"john@example.com"`, `"message":"Booking accepted","raider":"rider@example.com"`}},
		{nil, "operator.nk sub 'booking.>'", []string{`"message":"Registration Successful"`, `"message":"Booking successful","user":"you@example.com"`}},
	} {
		p := inTerminal(t, nil, c.args...)
		lines := toTry(t, p)
		if shown := p.Log.String(); !strings.Contains(shown, c.watch) ||
			strings.Contains(shown, "operator.nk") != strings.Contains(c.watch, "operator.nk") ||
			!strings.Contains(shown, "http://[::]:") { // and not that it listens on 127.0.0.1
			t.Errorf("it shows, want the addresses and %s:\n%s", c.watch, shown)
		}
		if len(lines) != 3 {
			t.Fatalf("%d lines to try, want 3: %q", len(lines), lines)
		}
		try := exec.Command("sh", "-euc", strings.Join(lines, "\n"))
		try.Env = append(os.Environ(), "http_proxy="+webtest.Proxy(t, "../.."), "no_proxy=")
		out, err := try.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		for _, want := range c.want {
			if !bytes.Contains(out, []byte(want)) {
				t.Errorf("the lines answer %s, want %s", out, want)
			}
		}
	}
}

// inTerminal starts pillion with the log of a terminal and more of an environment, and waits until
// it is ready.
func inTerminal(t *testing.T, env []string, args ...string) *proctest.Program {
	t.Helper()
	ops := bustest.FreeAddr(t)
	cmd := proctest.Command(context.Background(), "pillion", append(args, "--data="+t.TempDir(),
		"--auth-addr=0.0.0.0:0", "--user-addr=127.0.0.1:0", "--rider-addr=:0", "--ops-addr="+ops,
		"--nats-addr=127.0.0.1:0", "--log-format=text", "--insecure")...)
	cmd.Env = append(cmd.Env, env...)
	p := proctest.Run(t, "pillion", cmd)
	p.At = map[string]string{"ops": "http://" + ops}
	p.Ready(t)
	return p
}

// toTry returns the commands that the banner suggests.
func toTry(t *testing.T, p *proctest.Program) []string {
	t.Helper()
	var lines []string
	wait.Until(t, "it prints lines to try", func() bool {
		_, rest, ok := strings.Cut(p.Log.String(), "Try, in another terminal:\n\n")
		rest, _, whole := strings.Cut(rest, "\n\n")
		lines = strings.Split(rest, "\n")
		return ok && whole
	})
	return lines
}

// TestAtRest bounds the memory of the idle system. BenchmarkTable of package bench measures its
// start.
func TestAtRest(t *testing.T) {
	mib := proctest.Pillion(t, t.TempDir(), "--demo").Resident(t)
	t.Logf("%.1f MiB are resident", mib)
	if mib >= 64 {
		t.Error("want less than 64")
	}
}

// TestServicesCarryNoServer checks that only pillion contains a NATS server, and only through
// bus/embedded.
func TestServicesCarryNoServer(t *testing.T) {
	t.Parallel()
	const server, embedded = "github.com/nats-io/nats-server/", "github.com/example/pillion/bus/embedded"
	for name, carries := range map[string]bool{"pillion": true, "authsvc": false, "usersvc": false, "ridersvc": false} {
		out, err := exec.Command("go", "list", "-deps", "github.com/example/pillion/cmd/"+name).Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		if got := bytes.Contains(out, []byte(server)) || bytes.Contains(out, []byte(embedded)); got != carries {
			t.Errorf("%s carries a NATS server: %v, want %v", name, got, carries)
		}
		if got, want := bytes.Contains(out, []byte("github.com/jackc/pgx/")), name == "pillion" ||
			name == "authsvc"; got != want {
			t.Errorf("%s carries a driver for PostgreSQL: %v, want %v", name, got, want)
		}
		for _, forbidden := range []string{"\ntesting\n", "\nnet/http/httptest\n"} {
			if bytes.Contains(out, []byte(forbidden)) {
				t.Errorf("%s carries %q, which is for tests", name, strings.TrimSpace(forbidden))
			}
		}
	}
}
