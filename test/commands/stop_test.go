package commands

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

// TestStop stops the whole system with each signal. It exits with status 0, even if a client does
// not finish its request.
func TestStop(t *testing.T) {
	t.Parallel()
	for name, signal := range bothSignals {
		for _, busy := range []bool{false, true} {
			t.Run(name+map[bool]string{true: " with a request in progress"}[busy], func(t *testing.T) {
				t.Parallel()
				p := proctest.Pillion(t, t.TempDir())
				if busy {
					hold(t, p)
				}
				p.Signal(t, signal)
				if busy { // it is unready at once, until it has ended
					wait.Until(t, "it is unready", func() bool {
						status, words := p.Readiness(t)
						return status == http.StatusServiceUnavailable &&
							strings.Contains(words, "running: the process is stopping")
					})
				}
				if status := p.Wait(t); status != 0 {
					t.Errorf("stopped with status %d", status)
				}
			})
		}
	}
}

// TestStopServices stops each service, with and without a NATS server.
func TestStopServices(t *testing.T) {
	t.Parallel()
	shared := t.TempDir()
	system := proctest.Pillion(t, shared)
	for _, c := range []struct{ name, addr string }{{"authsvc", "--auth-addr"}, {"usersvc", "--user-addr"},
		{"ridersvc", "--rider-addr"}} {
		for where, url := range map[string]string{"connected": system.At["nats"], "without NATS": "nats://" +
			bustest.FreeAddr(t)} {
			t.Run(c.name+" "+where, func(t *testing.T) {
				args := []string{c.addr + "=127.0.0.1:0", "--ops-addr=127.0.0.1:0", "--nats-url=" + url,
					system.NATS(shared, c.name)[1]}
				if c.name == "authsvc" {
					args = append(args, "--data="+t.TempDir())
				}
				p := proctest.Start(t, c.name, args...)
				p.Signal(t, os.Interrupt)
				if status := p.Wait(t); status != 0 {
					t.Errorf("stopped with status %d", status)
				}
			})
		}
	}
}

// TestStopBesideSilentNATS stops each service while its NATS server is frozen, so that the
// connections cannot be drained. Nothing is lost by that, and the services exit with status 0.
func TestStopBesideSilentNATS(t *testing.T) {
	t.Parallel()
	shared := t.TempDir()
	system := proctest.Pillion(t, shared)
	var services []*proctest.Program
	for _, c := range []struct{ name, addr string }{{"authsvc", "--auth-addr"}, {"usersvc", "--user-addr"},
		{"ridersvc", "--rider-addr"}} {
		args := append(system.NATS(shared, c.name), c.addr+"=127.0.0.1:0", "--ops-addr=127.0.0.1:0")
		if c.name == "authsvc" {
			args = append(args, "--data="+shared)
		}
		p := proctest.Start(t, c.name, args...)
		p.Ready(t)
		services = append(services, p)
	}
	system.Signal(t, syscall.SIGSTOP)
	for _, p := range services {
		p.Signal(t, os.Interrupt)
	}
	for _, p := range services {
		if status := p.Wait(t); status != 0 {
			t.Errorf("%s stopped with status %d", p.Name, status)
		}
	}
}

// TestSecondSignal sends a second signal, which ends the process at once.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	p := proctest.Pillion(t, t.TempDir())
	hold(t, p)
	p.Signal(t, os.Interrupt)
	wait.Until(t, "it is stopping", func() bool {
		status, _ := p.Readiness(t)
		return status == http.StatusServiceUnavailable
	})
	p.Signal(t, syscall.SIGTERM)
	if status := p.Wait(t); status != 130 {
		t.Errorf("stopped with status %d, want 130", status)
	}
}

// TestRestart checks that the signing key is the same after a restart.
func TestRestart(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := proctest.Pillion(t, data)
	_, key := proctest.Get(t, p.At["authsvc"]+"/public-key")
	p.Signal(t, os.Interrupt)
	p.Wait(t)
	p = proctest.Pillion(t, data)
	if _, again := proctest.Get(t, p.At["authsvc"]+"/public-key"); again != key ||
		!strings.HasPrefix(key, "-----BEGIN PUBLIC KEY-----") {
		t.Errorf("the key was %q and is %q", key, again)
	}
}

var bothSignals = map[string]os.Signal{"SIGINT": os.Interrupt, "SIGTERM": syscall.SIGTERM}

// hold begins a request without finishing it, so that a stopping process has to wait.
func hold(t testing.TB, p *proctest.Program) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.At["authsvc"], "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	// With Expect the server reports when a handler has begun to read the body.
	const head = "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" +
		"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n"
	if _, err := io.WriteString(conn, head); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("the request did not begin: %q, %v", line, err)
	}
}
