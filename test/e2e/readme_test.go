package e2e

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/web/webtest"
)

// block matches a fenced shell block of a README.
var block = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// TestReadme runs every command of the README in its order, in one terminal, and those that run on
// in others. It needs the README's ports, curl and the nats CLI; `make check` requires them.
func TestReadme(t *testing.T) {
	needed(t)
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	shell := newShell(t, source)
	var watch *background
	data := ""
	blocks := block.FindAllStringSubmatch(string(readme), -1)
	if len(blocks) < 10 {
		t.Fatalf("the README has %d commands", len(blocks))
	}
	for _, b := range blocks {
		command := strings.TrimSpace(b[1])
		switch {
		case command == "make run":
			data = t.TempDir()
			t.Setenv("PILLION_DATA", data) // and not ./data, which may be in use
			run := inBackground(t, source, "make", "run")
			wait.Within(t, time.Minute, "make run is ready", func() bool { return probe("127.0.0.1:3009") == 200 })
			if !strings.Contains(run.out.String(), "curl") {
				t.Errorf("make run prints no lines to try:\n%s", run.out)
			}
			// The README uses a second terminal, which has been watching from the start.
			watch = inBackground(t, source, "nats", "sub", "booking.>")
			wait.Until(t, "nats sub has subscribed", func() bool {
				return strings.Contains(watch.out.String(),
					"Subscribing")
			})
		case command == "make test", strings.HasPrefix(command, "make build"):
			// `make test` runs this test, and `make docker-test` the containers.
		case command == "nats sub 'booking.>'":
			for _, subject := range []string{".1.requested", ".2.accepted"} {
				wait.Until(t, "nats sub shows "+subject, func() bool {
					return strings.Contains(watch.out.String(),
						subject)
				})
			}
			if strings.Contains(watch.out.String(), "eyJ") || strings.Contains(watch.out.String(), "Authorization") {
				t.Errorf("nats sub shows a token:\n%s", watch.out)
			}
		case strings.HasPrefix(command, "nats --token"):
			// It would run for ever, so it ends with the first event, in the background.
			shell.run(t, command+" --count=1 &")
			wait.Until(t, "the user's feed has subscribed", func() bool {
				return strings.Contains(shell.out.String(),
					"Subscribing on feed.user.")
			})
			shell.run(t, `curl -s -X POST http://localhost:3001/book -H "Authorization: Bearer $USER_TOKEN" -d '{}'`)
			wait.Until(t, "the user sees their own booking", func() bool {
				received := regexp.MustCompile(`Received on "feed\.user\.[a-z2-7]{26}\.[a-z2-7]{26}\.1\.requested"`)
				return received.MatchString(shell.out.String())
			})
		default:
			out := shell.run(t, strings.ReplaceAll(command, "data/services", data+"/services"))
			if want := wanted(command); want != "" && !strings.Contains(out, want) {
				t.Errorf("%s\nprinted %q, want %q in it", command, out, want)
			}
			if command == "nats req auth.public-key ''" {
				if pem := shell.run(t, "curl -s http://localhost:3000/public-key"); !strings.Contains(out,
					strings.TrimSpace(pem)) {
					t.Errorf("over NATS the public key is\n%s\nand over HTTP\n%s", out, pem)
				}
			}
		}
	}
}

// wanted returns a part of what a README command must print.
func wanted(command string) string {
	if strings.HasPrefix(command, "BOOKING=") {
		return ""
	}
	for _, c := range []struct{ part, want string }{
		{"/arrive", `"state":"arrived"`},
		{"/start", `"message":"Ride started"`},
		{"/complete", `"message":"Ride completed"`},
		{"/rate", `"user_stars":5`},
		{"/events", `"reason":"booking_over"`},
		{"Idempotency-Key", `"message":"Booking successful"`},
		{"/book -H", `{"success":true,"message":"Booking successful","user":"john@example.com"`},
		{"/accept-booking", `{"success":true,"message":"Booking accepted","raider":"rider@example.com"`},
		{"/register", `{"status":true,"message":"Registration Successful"`},
		{"/bookings", `"booking_id"`},
		{"auth.public-key", "-----BEGIN PUBLIC KEY-----"},
		{"micro ls", "auth"},
		{"stream ls", "BOOKINGS"},
		{"/readyz", "ready"},
		{"/metrics", "pillion_http_requests_total"},
	} {
		if strings.Contains(command, c.part) {
			return c.want
		}
	}
	if strings.HasPrefix(command, "curl") && strings.Contains(command, "/login") {
		return `{"status":true,"message":"Login Successful","token":"eyJ`
	}
	return ""
}

// needed skips the test if something is missing, unless the caller requires it.
func needed(t *testing.T) {
	t.Helper()
	var missing []string
	for _, tool := range []string{"curl", "nats", "make", "sh"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool)
		}
	}
	for _, port := range []string{"3000", "3001", "3002", "3009", "4222"} {
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			missing = append(missing, "port "+port)
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(missing) == 0 {
		return
	}
	if os.Getenv("PILLION_README") != "" {
		t.Fatalf("the README's commands cannot be run without %s", strings.Join(missing, ", "))
	}
	t.Skipf("the README's commands are run by `make check`; here they lack %s", strings.Join(missing, ", "))
}

// A shell is one terminal, which keeps its variables between commands.
type shell struct {
	cmd *exec.Cmd
	in  *os.File
	out *webtest.Journal
}

const prompt = "--pillion-readme-done-"

func newShell(t *testing.T, dir string) *shell {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &shell{cmd: exec.Command("sh"), in: w, out: new(webtest.Journal)}
	s.cmd.Dir, s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = dir, r, s.out, s.out
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.Close() // the shell ends with its input
		_ = s.cmd.Wait()
		_ = r.Close()
	})
	return s
}

// run types a command, waits for its end and returns its output. It must end with status 0.
func (s *shell) run(t *testing.T, command string) string {
	t.Helper()
	before := len(s.out.String())
	if _, err := s.in.WriteString(command + "\necho " + prompt + "$?\n"); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, command, func() bool { return strings.Contains(s.out.String()[before:], prompt) })
	out, status, _ := strings.Cut(s.out.String()[before:], prompt)
	if !strings.HasPrefix(status, "0") {
		t.Errorf("%s\nended with status %s:\n%s", command, status, out)
	}
	return out
}

// A background process is interrupted when the test ends, as with Ctrl-C.
type background struct{ out *webtest.Journal }

func inBackground(t *testing.T, dir, name string, args ...string) *background {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b := &background{out: new(webtest.Journal)}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, b.out, b.out
	// make does not pass signals on, so the whole group is interrupted, as a terminal does.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was interrupted
	})
	return b
}
