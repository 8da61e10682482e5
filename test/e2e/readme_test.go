package e2e

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/web/webtest"
)

// block matches a fenced shell block of a page.
var block = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// pages are read from top to bottom, in this order.
var pages = []struct {
	file  string
	least int // the number of commands that the page has at least
}{{"README.md", 7}, {"docs/tutorial.md", 25}, {"docs/clients.md", 5}}

// Every command of the README, the tutorial and the page for authors of clients does what the page
// says, in the pages' order, in one terminal. They can be repeated: the test follows them three
// times on the same data, once in a system that runs already, and once in one that was stopped and
// started. Commands that run until Ctrl-C run in the background. The test needs the README's ports,
// curl and the nats CLI; `make check` fails without them.
func TestReadme(t *testing.T) {
	needed(t)
	source, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{source: source, data: t.TempDir()}
	t.Setenv("PILLION_DATA", r.data) // ./data may be in use
	t.Setenv("LOG_FORMAT", "text")   // as in a terminal
	t.Setenv("CURL_HOME", t.TempDir())
	if err := os.WriteFile(filepath.Join(os.Getenv("CURL_HOME"), ".curlrc"), []byte("silent\nshow-error\n"), 0o600); err != nil {
		t.Fatal(err) // a terminal shows no progress of curl either
	}
	t.Setenv("http_proxy", webtest.Proxy(t, source)) // curl's answers are as OpenAPI has them
	t.Setenv("no_proxy", "")
	r.shell = newShell(t, source)
	for round := range 3 {
		t.Logf("round %d", round+1)
		for _, page := range pages {
			blocks := r.blocks(t, page.file)
			if len(blocks) < page.least {
				t.Fatalf("%s has %d commands, want at least %d", page.file, len(blocks), page.least)
			}
			for _, command := range blocks {
				r.follow(t, command)
			}
		}
		r.watch.interrupt()
		if round != 0 {
			r.stop(t)
		}
	}
	r.repeatWithoutTheTutorial(t)
}

// A reader follows the pages, one command after the other.
type reader struct {
	shell  *shell
	source string      // the folder of the repository
	data   string      // the data folder of the system
	system *background // make run; nil while it does not run
	watch  *background // nats sub 'booking.>', which runs from before the first booking of a round
}

// blocks returns the commands of a page.
func (r *reader) blocks(t *testing.T, page string) (commands []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.source, page))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range block.FindAllStringSubmatch(string(text), -1) {
		commands = append(commands, strings.TrimSpace(b[1]))
	}
	return commands
}

// stop ends the system as Ctrl-C does. make must have nothing to complain about.
func (r *reader) stop(t *testing.T) {
	t.Helper()
	r.system.interrupt()
	if out := r.system.out.String(); strings.Contains(out, ": *** [") {
		t.Errorf("Ctrl-C of make run ends with\n%s", out[max(0, len(out)-500):])
	}
	r.system = nil
}

// repeatWithoutTheTutorial follows the README twice, and not the tutorial, so that the rider has a
// ride under way when it accepts again. The refusal names the ride and the call that ends it.
func (r *reader) repeatWithoutTheTutorial(t *testing.T) {
	t.Helper()
	for _, command := range r.blocks(t, "README.md") {
		r.follow(t, command)
	}
	again := `curl -s -X POST http://localhost:3002/accept-booking -H "Authorization: Bearer $RAIDER_TOKEN" -d '{}'`
	refusal := r.shell.run(t, again)
	call := regexp.MustCompile(`booking ([a-z2-7]{26})\. .* POST (/bookings/[a-z2-7]{26}/release)`).FindStringSubmatch(refusal)
	if call == nil || call[2] != "/bookings/"+call[1]+"/release" {
		t.Fatalf("the second ride is refused with %q, want the ride and the call that ends it", refusal)
	}
	out := r.shell.run(t, `curl -s -X POST http://localhost:3002`+call[2]+` -H "Authorization: Bearer $RAIDER_TOKEN"`)
	if !strings.Contains(out, call[1]) || !strings.Contains(out, `"success":true`) {
		t.Errorf("%s answers %s", call[2], out)
	}
}

// follow runs one block of commands and checks what it prints.
func (r *reader) follow(t *testing.T, command string) {
	t.Helper()
	command = strings.ReplaceAll(command, "bin/nats", "nats") // the PATH says where it is
	switch {
	case command == "make run":
		if r.system != nil {
			return
		}
		r.system = inBackground(t, r.source, "make", "run")
		wait.Within(t, time.Minute, "make run is ready", func() bool { return probe("127.0.0.1:3009") == 200 })
		for _, want := range []string{"Building Pillion", "curl"} {
			if !strings.Contains(r.system.out.String(), want) {
				t.Errorf("make run does not print %q:\n%s", want, r.system.out)
			}
		}
	case command == "make test":
		// This test is a part of it.
	case command == "make tools\nnats sub 'booking.>'":
		r.shell.run(t, "make -n tools") // make check has built them
		r.watch = inBackground(t, r.source, "nats", "sub", "booking.>")
		r.watch.await(t, "Subscribing")
	case strings.HasPrefix(command, "nats --token"):
		r.untilInterrupted(t, command, `Subscribing on feed\.user\.`,
			`Received on "feed\.user\.[a-z2-7]{26}\.[a-z2-7]{26}\.1\.requested"`)
	case strings.Contains(command, "/open-bookings/events"):
		r.untilInterrupted(t, command, `event: ready`, `event: open\ndata: \{"booking_id":"[a-z2-7]{26}"`)
	default:
		out := r.run(t, command)
		switch {
		case command == "nats req auth.public-key ''":
			pem := r.shell.run(t, "curl -s http://localhost:3000/public-key")
			if !strings.Contains(out, strings.TrimSpace(pem)) {
				t.Errorf("over NATS the public key is\n%s\nand over HTTP\n%s", out, pem)
			}
		case strings.Contains(command, "Idempotency-Key: $KEY"):
			if !strings.Contains(command, "KEY=") { // it is a single request so far
				out += r.run(t, command)
			}
			ids := bookingIDs.FindAllString(out, -1)
			if len(ids) != 2 || ids[0] != ids[1] {
				t.Errorf("repeated with the same key, it books %q", ids)
			}
		case strings.Contains(command, "/accept-booking -H \"Content-Type"):
			r.watched(t)
		}
	}
}

var bookingIDs = regexp.MustCompile(`"booking_id":"[a-z2-7]{26}"`)

// run runs a block in the terminal, and checks what it prints.
func (r *reader) run(t *testing.T, command string) string {
	t.Helper()
	out := r.shell.run(t, strings.ReplaceAll(command, "data/services", r.data+"/services"))
	for _, want := range wanted(command) {
		if !strings.Contains(out, want) {
			t.Errorf("%s\nprinted %q, want %q in it", command, out, want)
		}
	}
	if out != "" && !strings.HasSuffix(out, "\n") {
		t.Errorf("%s\nprinted no newline at the end of %q", command, out)
	}
	return out
}

// watched checks that the watcher has seen the booking and its acceptance, and no token.
func (r *reader) watched(t *testing.T) {
	t.Helper()
	for _, subject := range []string{".1.requested", ".2.accepted"} {
		r.watch.await(t, subject)
	}
	if out := r.watch.out.String(); strings.Contains(out, "eyJ") || strings.Contains(out, "Authorization") {
		t.Errorf("nats sub shows a token:\n%s", out)
	}
}

// untilInterrupted runs a command that does not end by itself. Once it prints what matches ready it
// books a ride, and waits until the command prints what matches seen.
func (r *reader) untilInterrupted(t *testing.T, command, ready, seen string) {
	t.Helper()
	before := len(r.shell.out.String())
	printed := func(pattern string) func() bool {
		return func() bool { return regexp.MustCompile(pattern).MatchString(r.shell.out.String()[before:]) }
	}
	r.shell.run(t, command+" & BEHIND=$!")
	wait.Until(t, command+" prints "+ready, printed(ready))
	r.shell.run(t,
		`curl -s -o /dev/null -X POST -H "Authorization: Bearer $USER_TOKEN" http://localhost:3001/book -d '{}'`)
	wait.Until(t, command+" prints "+seen, printed(seen))
	r.shell.run(t, "kill $BEHIND")
}

// wanted is what the output of a page's command must contain. Commands that only set variables
// print nothing.
func wanted(command string) []string {
	for _, c := range []struct {
		part string
		want []string
	}{
		{"CODE=", nil},
		{"KEY=ride", nil},
		{"ADA_TOKEN=", nil},
		{"USER_ID=", nil},
		{"RAIDER_TOKEN=", nil},
		{"LOGIN=", []string{`"token":"eyJ`, `"refresh_token":"`, `"expires_in":900`}},
		{"/refresh", []string{`{"status":true,"message":"Refresh Successful","token":"eyJ`, `"refresh_token":"`}},
		{"/login", []string{`{"status":true,"message":"Login Successful","token":"eyJ`}},
		{"-X DELETE", []string{`{"status":true,"message":"Account Deleted"`}},
		{"/register", []string{`{"status":true,"message":"Registration Successful"`}},
		{"Bearer wrong", []string{`"status":403`, `"code":"invalid_token"`}},
		{"Last-Event-ID", []string{`"message":"Booking cancelled"`, "event: cancelled", `"reason":"booking_over"`}},
		{"/events", []string{"event: requested", "event: completed", `"reason":"booking_over"`}},
		{"/arrive", []string{`"state":"arrived"`}},
		{"/start", []string{`"message":"Ride started"`}},
		{"/complete", []string{`"message":"Ride completed"`}},
		{`"stars":5`, []string{`"user_stars":5`}},
		{`"stars":4`, []string{`"user_stars":5`, `"raider_stars":4`}},
		{"/quote", []string{`"fare":`, `"currency":"INR"`}},
		{"OFFER=", []string{`"message":"Booking accepted"`}},
		{"/availability", []string{`"raiders":1`}},
		{"/position", []string{`"message":"Position updated","online":true`}},
		{"/offline", []string{`"message":"You are offline","online":false`}},
		{"/online", []string{`"message":"You are online"`}},
		{"/cancel", []string{`"message":"Booking cancelled"`, `"reason":"The rain has stopped."`}},
		{`Idempotency-Key: $KEY" \\`, []string{`"message":"Booking successful"`, `"fare":`}},
		{"Idempotency-Key", []string{`"message":"Booking successful"`}},
		{"/book -H", []string{`{"success":true,"message":"Booking successful","user":"john@example.com"`}},
		{"/accept-booking", []string{`{"success":true,"message":"Booking accepted","raider":"rider@example.com"`}},
		{"/open-bookings", []string{`"booking_id"`, `"pickup":`}},
		{"/bookings", []string{`"booking_id"`}},
		{"public-key", []string{"-----BEGIN PUBLIC KEY-----"}},
		{"stream get", []string{"Authorization", "Bearer eyJ", ".requested"}},
		{"micro ls", []string{"auth"}},
		{"stream ls", []string{"BOOKINGS"}},
		{"/readyz", []string{"ready"}},
		{"/metrics", []string{"pillion_http_requests_total"}},
	} {
		if strings.Contains(command, c.part) {
			return c.want
		}
	}
	return []string{"nothing is known of this command's output"}
}

// needed skips the test if a tool or a port is missing. With PILLION_README set it fails instead.
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

// A shell is one terminal: what a command sets, the next one sees.
type shell struct {
	cmd *exec.Cmd
	in  *os.File
	out *wait.Journal
}

const prompt = "--pillion-readme-done-"

func newShell(t *testing.T, dir string) *shell {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &shell{cmd: exec.Command("sh"), in: w, out: new(wait.Journal)}
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

// run types a command and returns what it printed, once it is done. It must end with status 0.
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

// A background process is interrupted when the test ends, if not before.
type background struct {
	out       *wait.Journal
	interrupt func() // as Ctrl-C does; returns when the process has ended
}

// await waits until the process prints a text.
func (b *background) await(t *testing.T, text string) {
	t.Helper()
	wait.Until(t, "a process in the background prints "+text,
		func() bool { return strings.Contains(b.out.String(), text) })
}

func inBackground(t *testing.T, dir, name string, args ...string) *background {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b := &background{out: new(wait.Journal)}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, b.out, b.out
	// make passes no signal on, so the whole group is interrupted, as a terminal does it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = wait.Patience
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	b.interrupt = sync.OnceFunc(func() {
		cancel()
		_ = cmd.Wait() // it was interrupted
	})
	t.Cleanup(b.interrupt)
	return b
}
