package e2e

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/internal/wait"
)

// TestThousandLogins sends a thousand logins at once, without limits. Memory stays bounded, and
// each login gets a useful answer.
func TestThousandLogins(t *testing.T) {
	p := newPorts(t)
	prog := pillion(t, p, t.TempDir(), "--login-limit", "1000", "--address-limit", "1000000")
	const credentials = `{"email":"john@example.com","password":"password123","role":"user"}`
	var mu sync.Mutex
	answers := make(map[int]int)
	var all sync.WaitGroup
	people := 250
	if wait.Long() {
		people = 1000
	}
	for i := range people {
		all.Go(func() {
			body := credentials
			if i%2 == 1 {
				body = fmt.Sprintf(`{"email":"nobody-%d@example.com","password":"password123","role":"user"}`, i)
			}
			a, err := call(t.Context(), "POST", "http://"+p.auth+"/login", body, "Content-Type", "application/json")
			if err != nil {
				t.Error(err)
				return
			}
			if i%2 == 1 && a.status == http.StatusUnauthorized {
				a.status = http.StatusOK // also a good answer: the password was checked
			}
			if busy := a.status == http.StatusTooManyRequests ||
				a.status == http.StatusServiceUnavailable; busy != (a.header.Get("Retry-After") != "") || !busy &&
				a.status != http.StatusOK {
				t.Errorf("login: %d %s, Retry-After %q", a.status, a.body, a.header.Get("Retry-After"))
			}
			mu.Lock()
			defer mu.Unlock()
			answers[a.status]++
		})
	}
	all.Wait()
	if answers[http.StatusOK] == 0 {
		t.Error("no login succeeded")
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", prog.PID()))
	if err != nil {
		t.Skip("this system does not report the memory: ", err)
	}
	peak := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if peak == nil {
		t.Skip("the system does not say how much memory it took")
	}
	kib, err := strconv.Atoi(string(peak[1]))
	if err != nil || kib > 400<<10 {
		t.Errorf("it took %d KiB at most (%v), want less than 400 MiB", kib, err)
	}
	t.Logf("answers %v, %d MiB at most", answers, kib>>10)
}

// Strangers whom NATS refuses write a line a second of the server's log, and it says how many there
// were.
func TestRefusedStrangersInTheLog(t *testing.T) {
	p := newPorts(t)
	prog := pillion(t, p, t.TempDir())
	began, tries := time.Now(), 0
	lines := func() (all []string) {
		for line := range strings.Lines(prog.Tail(1_000_000)) {
			if strings.Contains(line, `"nats: `) {
				all = append(all, line)
			}
		}
		return all
	}
	wait.Until(t, "lines are left out, and counted", func() bool {
		tries++
		if nc, err := nats.Connect("nats://"+p.nats, nats.Token("forged")); err == nil {
			nc.Close()
			t.Fatal("a stranger has connected")
		}
		return slices.ContainsFunc(lines(), func(l string) bool { return strings.Contains(l, `"unlogged":`) })
	})
	if written, most := lines(), int(time.Since(began)/time.Second)+1; len(written) > most {
		t.Errorf("%d strangers have written %d lines in %d seconds:\n%s", tries, len(written), most,
			strings.Join(written, ""))
	}
}
