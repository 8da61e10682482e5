// Package proctest builds Pillion's programs, and runs, signals and kills them for tests.
//
// Call [Main] in TestMain. [Finish] runs a program to its end. [Start] and [Pillion] start one on
// free ports, and kill it after the test. Programs run on this machine only; containers are tested
// in package deploy.
package proctest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/web/webtest"
)

// bin is the folder of the built programs.
var bin string

// Main builds the programs with these names, or all of them, runs the tests of a package, and
// returns the exit status. It is not 0 if an answer that passed http.DefaultTransport was not as
// the OpenAPI documents have it.
func Main(m *testing.M, names ...string) int {
	dir, err := os.MkdirTemp("", "pillion-programs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	bin = dir
	if err := os.Chmod(dir, 0o755); err != nil { // other users run the programs too
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := build(dir, names); err != nil {
		fmt.Fprintln(os.Stderr, "build the programs:", err)
		return 1
	}
	var answers wrongAnswers
	http.DefaultTransport = webtest.Transport(&answers, http.DefaultTransport, "../..")
	status := m.Run()
	if answers.Load() {
		status = max(status, 1)
	}
	return status
}

// wrongAnswers says whether an answer was not as the OpenAPI documents have it.
type wrongAnswers struct{ atomic.Bool }

// Error prints what was wrong with an answer.
func (w *wrongAnswers) Error(args ...any) {
	w.Store(true)
	fmt.Fprintln(os.Stderr, args...)
}

// build builds the programs as `make build` does. Those that it has left in bin are copied first:
// the go command does not link a program again that is there and up to date.
func build(dir string, names []string) error {
	if len(names) == 0 {
		mains, err := filepath.Glob("../../cmd/*/main.go")
		if err != nil {
			return err
		}
		for _, file := range mains {
			names = append(names, filepath.Base(filepath.Dir(file)))
		}
	}
	args := []string{"build", "-trimpath", "-ldflags=-s -w", "-buildvcs=auto", "-o", dir + "/"}
	for _, name := range names {
		args = append(args, "github.com/example/pillion/cmd/"+name)
		if program, err := os.ReadFile(filepath.Join("../../bin", name)); err == nil {
			if err := os.WriteFile(filepath.Join(dir, name), program, 0o755); err != nil {
				return err
			}
		}
	}
	cmd := exec.Command("go", args...)
	cmd.Env, cmd.Stderr = append(os.Environ(), "CGO_ENABLED=0", "GIT_OPTIONAL_LOCKS=0"), os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	list := exec.Command("go", "list", "-deps", "-f",
		"{{with .Module}}{{if .Main}}{{range $.GoFiles}}{{$.Dir}}/{{.}}\n{{end}}{{range $.EmbedFiles}}{{$.Dir}}/{{.}}\n{{end}}{{.GoMod}}\n{{end}}{{end}}",
		"github.com/example/pillion/cmd/...")
	list.Stderr = os.Stderr
	out, err := list.Output()
	sources = strings.Fields(string(out))
	return err
}

// sources are the source files of the programs.
var sources []string

// statSources calls os.Stat for each source file, once. Go caches the result of a test until a file
// changes that the test has used. It does not know which files the compiler reads for this package,
// and ignores what happens before the first test.
var statSources = sync.OnceFunc(func() {
	for _, file := range sources {
		_, _ = os.Stat(file) // the call itself is all that matters
	}
})

// Path returns the path of a program.
func Path(name string) string {
	statSources()
	return filepath.Join(bin, name)
}

// Command returns a command without settings in its environment, in the folder of the programs.
func Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, Path(name), args...)
	// pillion has one more address, whose port is free too unless a test says otherwise
	cmd.Env, cmd.Dir = []string{"PATH=" + os.Getenv("PATH"), "PILLION_ADDR=127.0.0.1:0"}, bin
	return cmd
}

// Finish runs a program to its end and returns its exit status and its output.
func Finish(t testing.TB, name string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	cmd := Command(ctx, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Errorf("%s %s did not end\n%s%s", name, strings.Join(args, " "), out.String(), errs.String())
	}
	return exitStatus(err), out.String(), errs.String()
}

func exitStatus(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

// A Program is a running program, with its log in JSON.
type Program struct {
	Name string
	At   map[string]string // the addresses that it has logged, by name; see [Program.Listening]
	Out  *wait.Journal     // its standard output
	Log  *wait.Journal     // its standard error

	cmd   *exec.Cmd
	ended chan struct{}
	err   error // set when it has ended
}

// Start starts a program and waits until it has logged its addresses. The program is killed after
// the test.
func Start(t testing.TB, name string, args ...string) *Program {
	t.Helper()
	p := Begin(t, name, args...)
	p.Listening(t)
	return p
}

// Begin starts a program without waiting. The program is killed after the test.
func Begin(t testing.TB, name string, args ...string) *Program {
	t.Helper()
	cmd := Command(context.Background(), name, args...)
	cmd.Env = append(cmd.Env, "LOG_FORMAT=json")
	return Run(t, name, cmd)
}

// Run is [Begin] for any command.
func Run(t testing.TB, name string, cmd *exec.Cmd) *Program {
	t.Helper()
	p := &Program{Name: name, Out: new(wait.Journal), Log: new(wait.Journal), cmd: cmd,
		ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.Out, p.Log
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.ended)
		p.err = cmd.Wait()
	}()
	t.Cleanup(func() {
		p.Kill()
		if strings.Contains(p.Log.String(), "nats: permissions violation") {
			t.Errorf("%s may not do on NATS what it does; see package access", name)
		}
		if t.Failed() {
			t.Logf("%s %s said:\n%s", name, strings.Join(cmd.Args[1:], " "), p.Tail(60))
		}
	})
	return p
}

// Pillion starts the whole system on free ports with the given data folder, and waits until it is
// ready.
func Pillion(t testing.TB, data string, args ...string) *Program {
	t.Helper()
	p := Start(t, "pillion", append([]string{"--data", data, "--auth-addr=127.0.0.1:0", "--user-addr=127.0.0.1:0",
		"--rider-addr=127.0.0.1:0",
		"--ops-addr=127.0.0.1:0", "--nats-addr=127.0.0.1:0"}, args...)...)
	p.Ready(t)
	return p
}

// Listening waits until the program has logged its addresses.
func (p *Program) Listening(t testing.TB) {
	t.Helper()
	wait.Until(t, p.Name+" says what it listens on", func() bool {
		for line := range strings.Lines(p.Log.String()) {
			var entry map[string]string
			if json.Unmarshal([]byte(line), &entry) == nil && entry["msg"] == "listening" {
				p.At = entry
				return true
			}
		}
		p.runs(t)
		return false
	})
}

// runs fails the test if the program has ended.
func (p *Program) runs(t testing.TB) {
	t.Helper()
	select {
	case <-p.ended:
		t.Fatalf("%s ended: %v\n%s", p.Name, p.err, p.Tail(20))
	default:
	}
}

// Ready waits until the program is ready.
func (p *Program) Ready(t testing.TB) {
	t.Helper()
	if p.At == nil {
		p.Listening(t)
	}
	wait.Until(t, p.Name+" is ready", func() bool {
		p.runs(t)
		status, _ := p.Readiness(t)
		return status == http.StatusOK
	})
}

// Readiness returns the status and the body of /readyz, or 0 and the error.
func (p *Program) Readiness(t testing.TB) (status int, words string) {
	t.Helper()
	return Get(t, p.At["ops"]+"/readyz")
}

// NATS returns the flags with which "operator", or a service, connects to the NATS server of a
// pillion with this data folder.
func (p *Program) NATS(data, who string) []string {
	return []string{"--nats-url=" + p.At["nats"], "--service-key=" + filepath.Join(data, "services", who+".nk")}
}

// PID returns the process ID.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// Resident returns the resident memory of the program, in MiB. It skips the test on systems without
// /proc.
func (p *Program) Resident(t testing.TB) (mib float64) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Skipf("resident memory is read from /proc: %v", err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	if _, err := fmt.Sscan(rest, &mib); err != nil {
		t.Fatal(err)
	}
	return mib / 1024
}

// Tail returns the last lines of the program's output.
func (p *Program) Tail(lines int) string {
	all := strings.Split(strings.TrimSpace(p.Out.String()+p.Log.String()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Signal sends a signal and returns at once.
func (p *Program) Signal(t testing.TB, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("signal %s: %v", p.Name, err)
	}
}

// Kill kills the program, like a power failure, and waits for its end.
func (p *Program) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.ended
}

// Wait waits for the program's end and returns its exit status.
func (p *Program) Wait(t testing.TB) (status int) {
	t.Helper()
	wait.For(t, p.Name+" ends", p.ended)
	return exitStatus(p.err)
}

// Stop interrupts the program, as Ctrl-C does, and fails the test unless it ends with status 0.
func (p *Program) Stop(t testing.TB) {
	t.Helper()
	p.Signal(t, os.Interrupt)
	if status := p.Wait(t); status != 0 {
		t.Errorf("%s ended with status %d", p.Name, status)
	}
}

// Get returns the status and the body of an answer, or 0 and the error.
func Get(t testing.TB, url string) (status int, body string) {
	t.Helper()
	return Call(t, http.MethodGet, url, nil, "")
}

// Call is [Get] with another method, headers and a body.
func Call(t testing.TB, method, url string, header http.Header, body string) (status int, answer string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	client := http.Client{Transport: webtest.Transport(t, &http.Transport{DisableKeepAlives: true}, "../..")}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}
