// Package cmd_test starts the real programs: built once, started with flags, signalled.
package cmd_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pillion/wait"
	"pillion/web/webtest"
)

// bin is where TestMain builds the programs.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "pillion-cmd-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
		bin = dir
		// As `make build` does, because sizes and speeds are looked at.
		build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir, "pillion/cmd/...")
		build.Env, build.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "build the programs:", err)
			return 1
		}
		return m.Run()
	}())
}

// command returns a program to be run in an environment without settings, and in a folder of its own.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, name), args...)
	cmd.Env, cmd.Dir = []string{"PATH=" + os.Getenv("PATH")}, bin
	return cmd
}

// finish runs a program to its end and returns its exit status and what it wrote.
func finish(t *testing.T, name string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := command(ctx, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%s %s did not end", name, strings.Join(args, " "))
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

// A process is a program that runs.
type process struct {
	cmd    *exec.Cmd
	stdout *webtest.Journal
	at     map[string]string
	ended  chan struct{}
	err    error // once ended
}

// start starts a program on ports that are free and returns when it has said what it listens on. It is killed after the test.
func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: command(context.Background(), name, append(args, "--log-format=json")...), stdout: new(webtest.Journal), ended: make(chan struct{})}
	p.cmd.Stdout = p.stdout
	logs, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	listening := make(chan map[string]string, 1)
	go func() {
		defer close(p.ended)
		for lines := bufio.NewScanner(logs); lines.Scan(); {
			t.Logf("%s: %s", name, lines.Text())
			if strings.Contains(lines.Text(), "nats: permissions violation") {
				t.Errorf("%s may not do on NATS what it does; see package access", name)
			}
			var line map[string]string
			if json.Unmarshal(lines.Bytes(), &line) == nil && line["msg"] == "listening" {
				listening <- line
			}
		}
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended by itself
		<-p.ended
	})
	select {
	case p.at = <-listening:
	case <-p.ended:
		t.Fatalf("%s ended: %v", name, p.err)
	case <-time.After(30 * time.Second):
		t.Fatalf("%s does not say where it listens", name)
	}
	return p
}

// pillion starts the whole system on free ports, ready to be used.
func pillion(t *testing.T, data string, args ...string) *process {
	t.Helper()
	p := start(t, "pillion", append([]string{"--data", data, "--auth-addr=127.0.0.1:0", "--user-addr=127.0.0.1:0", "--rider-addr=127.0.0.1:0",
		"--ops-addr=127.0.0.1:0", "--nats-addr=127.0.0.1:0"}, args...)...)
	p.awaitReady(t)
	return p
}

// natsAt is how a service, or an operator, is told of the NATS inside a pillion whose data is in a folder.
func natsAt(p *process, data, who string) []string {
	return []string{"--nats-url=" + p.at["nats"], "--service-key=" + filepath.Join(data, "services", who+".nk")}
}

// signal sends a signal and returns at once.
func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("signal: %v", err)
	}
}

// wait returns the exit status, once there is one.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
	return exitStatus(p.err)
}

// readiness returns the status and the words of /readyz.
func (p *process) readiness(t *testing.T) (int, string) {
	t.Helper()
	return get(t, p.at["ops"]+"/readyz")
}

func (p *process) awaitReady(t *testing.T) {
	t.Helper()
	wait.Until(t, "ready", func() bool {
		status, _ := p.readiness(t)
		return status == http.StatusOK
	})
}

// hold begins a request that does not end, so that the process has something to wait for when it stops.
func (p *process) hold(t *testing.T) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.at["authsvc"], "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	// With Expect the server says when a handler has begun to read the body.
	const head = "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"
	if _, err := io.WriteString(conn, head); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("the request did not begin: %q, %v", line, err)
	}
}

// get returns the status and the body of an answer, or 0 where there is none.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	return call(t, http.MethodGet, url, nil, "")
}

func call(t *testing.T, method, url string, header http.Header, body string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
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

var bothSignals = map[string]os.Signal{"SIGINT": os.Interrupt, "SIGTERM": syscall.SIGTERM}
