package cmd_test

import (
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"pillion/wait"
)

// limit is how long stopping may take.
const limit = 2 * time.Second

// A signal stops the whole system in order, with status 0, also while a client does not finish its request.
func TestStop(t *testing.T) {
	for name, signal := range bothSignals {
		for _, busy := range []bool{false, true} {
			t.Run(name+map[bool]string{true: " with a request under way"}[busy], func(t *testing.T) {
				t.Parallel()
				p := pillion(t, t.TempDir())
				if busy {
					p.hold(t)
				}
				asked := time.Now()
				p.signal(t, signal)
				if busy { // it is unready at once, and says so until it is gone
					wait.Until(t, "it is unready", func() bool {
						status, words := p.readiness(t)
						return status == http.StatusServiceUnavailable && strings.Contains(words, "running: the process is stopping")
					})
				}
				if status := p.wait(t); status != 0 {
					t.Errorf("stopped with status %d", status)
				}
				if took := time.Since(asked); took > limit {
					t.Errorf("it took %v", took)
				}
			})
		}
	}
}

// Each service stops so too, whether there is a NATS server or not.
func TestStopServices(t *testing.T) {
	shared := t.TempDir()
	system := pillion(t, shared)
	for _, c := range []struct{ name, addr string }{{"authsvc", "--auth-addr"}, {"usersvc", "--user-addr"}, {"ridersvc", "--rider-addr"}} {
		for where, url := range map[string]string{"connected": system.at["nats"], "without NATS": "nats://" + freeAddr(t)} {
			t.Run(c.name+" "+where, func(t *testing.T) {
				args := []string{c.addr + "=127.0.0.1:0", "--ops-addr=127.0.0.1:0", "--nats-url=" + url, natsAt(system, shared, c.name)[1]}
				if c.name == "authsvc" {
					args = append(args, "--data="+t.TempDir())
				}
				p := start(t, c.name, args...)
				asked := time.Now()
				p.signal(t, os.Interrupt)
				if status := p.wait(t); status != 0 {
					t.Errorf("stopped with status %d", status)
				}
				if took := time.Since(asked); took > limit {
					t.Errorf("it took %v", took)
				}
			})
		}
	}
}

// A second signal does not wait for anything.
func TestSecondSignal(t *testing.T) {
	p := pillion(t, t.TempDir())
	p.hold(t)
	p.signal(t, os.Interrupt)
	wait.Until(t, "it is stopping", func() bool {
		status, _ := p.readiness(t)
		return status == http.StatusServiceUnavailable
	})
	asked := time.Now()
	p.signal(t, syscall.SIGTERM)
	if status := p.wait(t); status != 130 {
		t.Errorf("stopped with status %d, want 130", status)
	}
	if took := time.Since(asked); took > limit/4 {
		t.Errorf("at once took %v", took)
	}
}

// What was there before a stop is there after it.
func TestRestart(t *testing.T) {
	data := t.TempDir()
	p := pillion(t, data)
	_, key := get(t, p.at["authsvc"]+"/public-key")
	p.signal(t, os.Interrupt)
	p.wait(t)
	p = pillion(t, data)
	if _, again := get(t, p.at["authsvc"]+"/public-key"); again != key || !strings.HasPrefix(key, "-----BEGIN PUBLIC KEY-----") {
		t.Errorf("the key was %q and is %q", key, again)
	}
}
