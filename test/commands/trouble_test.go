package commands

import (
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

// nobodys is the id of nothing.
const nobodys = "aaaaaaaaaaaaaaaaaaaaaaaaaa"

// needsNATS returns the commands that need nothing but NATS.
func needsNATS(dir string) map[string][]string {
	commands := map[string][]string{}
	for _, line := range []string{
		"pillion bookings list", "pillion bookings show " + nobodys,
		"pillion bookings cancel " + nobodys + " --reason=gone", "pillion bookings release " + nobodys + " --reason=gone",
		"pillion watch", "pillion audit", "pillion backup --out=" + filepath.Join(dir, "backup"),
		"authsvc accounts list", "authsvc accounts show john@example.com", "authsvc accounts disable john@example.com",
		"authsvc accounts enable john@example.com", "authsvc accounts approve john@example.com",
		"authsvc accounts delete john@example.com", "authsvc accounts revoke john@example.com",
		"authsvc accounts reset-password john@example.com",
		"authsvc accounts copy --from=nats --to=postgres://me:secret@127.0.0.1:1/x",
		"authsvc keys list", "authsvc keys rotate", "authsvc keys retire nobody", "authsvc keys close-old-rule",
	} {
		args := strings.Fields(line)
		words := min(len(args), 3)
		if slices.Contains([]string{"watch", "audit", "backup"}, args[1]) {
			words = 2
		}
		commands[strings.Join(args[:words], " ")] = args
	}
	return commands
}

// TestCommandsWithoutNATS runs commands without NATS, or with a wrong server. Each prints one
// sentence with the address, the cause and the remedy. Further causes are in the log at debug only.
func TestCommandsWithoutNATS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := "--service-key=" + filepath.Join(dir, "operator.nk")
	empty, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := empty.Stop(); err != nil {
			t.Error(err)
		}
	})
	nobody := "nats://" + bustest.FreeAddr(t)
	for _, c := range []struct{ what, url, says string }{
		{"no NATS", nobody, "NATS at " + nobody + " cannot be reached: connection refused. See that it is running, and that --nats-url is right."},
		{"an open one", empty.URL(), "The NATS server rejected the key of this process, or requires none. See docs/nats-access.md. (NATS at " + empty.URL() + ")"},
	} {
		var all sync.WaitGroup // each waits for seconds, and does nothing meanwhile
		for name, args := range needsNATS(dir) {
			run := func(more ...string) (int, string, string) {
				return proctest.Finish(t, args[0], slices.Concat(args[1:], []string{"--nats-url=" + c.url, key}, more)...)
			}
			all.Go(func() {
				status, out, stderr := run()
				if status != 1 || out != "" || stderr != args[0]+": "+c.says+"\n" {
					t.Errorf("%s, %s: status %d, output %q%q, want 1 and %q", c.what, name, status, out, stderr, c.says)
				}
			})
			all.Go(func() {
				_, _, stderr := run("--log-level=debug")
				if !strings.Contains(stderr, "a NATS server cannot be used") || strings.Count(stderr, c.says) < 1 {
					t.Errorf("%s, %s: output at debug %q, want the cause", c.what, name, stderr)
				}
			})
		}
		all.Wait()
	}
}

// TestCommandsWithoutStreams checks that a server without Pillion's streams has another message
// than an unreachable one.
func TestCommandsWithoutStreams(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys, err := access.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	server, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Addr: "127.0.0.1:0",
		Access: access.Conf(keys, false)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	for name, args := range needsNATS(dir) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := args[0] + ": " + bus.ErrNotProvisioned.Message + "\n"
			status, out, stderr := proctest.Finish(t, args[0],
				append(args[1:], "--nats-url="+server.URL(), "--service-key="+access.KeyFile(dir, access.Operator))...)
			if status != 1 || out != "" || stderr != want {
				t.Errorf("status %d, output %q%q, want 1 and %q", status, out, stderr, want)
			}
		})
	}
}

// TestServicesWithoutNATS starts services without NATS. They run at once, report once in the log
// and in /readyz why they are not ready, and answer requests with 503 and the right reason.
func TestServicesWithoutNATS(t *testing.T) {
	t.Parallel()
	for service, calls := range map[string][]string{
		"authsvc": {"/login", "/register"}, "usersvc": {"/book"}, "ridersvc": {"/accept-booking"},
	} {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			dir, nobody := t.TempDir(), "nats://"+bustest.FreeAddr(t)
			args := []string{"--ops-addr=127.0.0.1:0", "--nats-url=" + nobody, "--service-key=" +
				filepath.Join(dir, "services", service+".nk")}
			switch service {
			case "authsvc":
				args = append(args, "--auth-addr=127.0.0.1:0", "--data="+dir, "--demo")
			case "usersvc":
				args = append(args, "--user-addr=127.0.0.1:0")
			case "ridersvc":
				args = append(args, "--rider-addr=127.0.0.1:0")
			}
			p := proctest.Start(t, service, args...)
			reason := "NATS at " + nobody +
				" cannot be reached: connection refused. See that it is running, and that --nats-url is right."
			if status, words := p.Readiness(t); status != http.StatusServiceUnavailable ||
				strings.Count(words, reason) != 1 || !strings.HasPrefix(words, "nats: "+reason+"\n") {
				t.Errorf("/readyz: %d %s", status, words)
			}
			wait.Until(t, "it is in the log", func() bool { return strings.Contains(p.Log.String(), reason) })
			for _, path := range calls {
				status, words := proctest.Call(t, http.MethodPost, p.At[service]+path,
					http.Header{"Authorization": {"Bearer x"}, "Content-Type": {"application/json"}}, john)
				if status != http.StatusServiceUnavailable || strings.Contains(words, "clock") ||
					!strings.Contains(words, "cannot reach its message bus") {
					t.Errorf("%s: %d %s", path, status, words)
				}
			}
			if n := strings.Count(p.Log.String(), nobody); n != 1 {
				t.Errorf("the log says %d times where NATS is not, want once:\n%s", n, p.Log)
			}
		})
	}
}

// TestDemoIgnoresTheEnvironmentsNATS checks that --demo ignores NATS_URL, which users of the nats
// CLI may have set, and logs that.
func TestDemoIgnoresTheEnvironmentsNATS(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"nats://" + bustest.FreeAddr(t),
		"localhost"} { // valid for the CLI
		p := inTerminal(t, []string{"NATS_URL=" + url}, "--demo")
		if !strings.Contains(p.Log.String(), "Ignoring NATS_URL") ||
			!strings.Contains(p.Log.String(), "nats -s nats://127.0.0.1:") {
			t.Errorf("output\n%s", p.Log)
		}
	}
	nobody := "nats://" + bustest.FreeAddr(t)
	p := proctest.Start(t, "pillion", "--demo", "--data="+t.TempDir(), "--auth-addr=127.0.0.1:0",
		"--user-addr=127.0.0.1:0", "--rider-addr=127.0.0.1:0",
		"--ops-addr=127.0.0.1:0", "--nats-url="+nobody)
	if _, words := p.Readiness(t); !strings.Contains(words, nobody) {
		t.Errorf("with --nats-url on the command line: %s", words)
	}
}
