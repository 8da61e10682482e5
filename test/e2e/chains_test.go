package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

// TestRefreshChainsOutliveKills keeps many people logged in, two hundred in CI, while one authsvc
// after the other is killed and restarted. Each refresh token has one successor, whichever instance
// answers. No honest client is logged out, and a thief ends the session.
func TestRefreshChainsOutliveKills(t *testing.T) {
	t.Parallel() // mostly waits
	const steps = 6
	chains, kills := 40, 2
	if wait.Long() {
		chains, kills = 200, 4
	}
	p := newPorts(t)
	p.server(t)
	if status := proctest.Begin(t, "pillion", "provision", "--nats-url", "nats://"+p.nats,
		p.key("operator")).Wait(t); status != 0 {
		t.Fatalf("provision ended with status %d", status)
	}
	data, more := t.TempDir(), addrs(t, 2)
	second := ports{auth: more[0], authOps: more[1], nats: p.nats, keys: p.keys}
	run := func(at ports) *proctest.Program {
		t.Helper()
		prog := proctest.Begin(t, "authsvc", "--demo", "--data", data, "--auth-addr", at.auth, "--ops-addr", at.authOps,
			"--nats-url", "nats://"+at.nats, at.key("authsvc"), "--services", at.keys,
			"--address-limit", "1000000", "--request-limit", "0")
		prog.Ready(t)
		return prog
	}
	at := []ports{p, second}
	running := []*proctest.Program{run(p), run(second)}

	first := make([]string, chains)
	var group sync.WaitGroup
	lanes := make(chan struct{}, 2) // password hashes are slow, and a long queue of them is refused
	for i := range chains {
		group.Go(func() {
			lanes <- struct{}{}
			defer func() { <-lanes }()
			// An account's sessions can be refreshed a hundred times before its limit.
			person := fmt.Sprintf(`{"email":"person-%d@example.com","password":"correct horse battery","role":"user"}`,
				i)
			mustCall(t, "POST", "http://"+at[i%2].auth+"/register", person)
			a := mustCall(t, "POST", "http://"+at[i%2].auth+"/login", person)
			if first[i] = a.field("refresh_token"); a.status != http.StatusOK {
				t.Errorf("login: %d %s", a.status, a.body)
			}
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}

	var asked, again, done atomic.Int64
	// refresh asks the two instances in turn until one answers.
	refresh := func(token string, which int) (int, string) {
		for patience := time.Now().Add(wait.Patience); ; which++ {
			asked.Add(1)
			a, err := call(t.Context(), "POST", "http://"+at[which%2].auth+"/refresh",
				fmt.Sprintf(`{"refresh_token":%q}`, token))
			if err == nil && a.status != http.StatusServiceUnavailable || time.Now().After(patience) {
				return a.status, a.field("refresh_token")
			}
			again.Add(1)
			<-time.After(20 * time.Millisecond) // obeys Retry-After
		}
	}
	killed := make(chan struct{})
	group.Go(func() {
		defer close(killed)
		for n := range kills {
			running[n%2].Kill()
			running[n%2] = run(at[n%2])
		}
	})
	for i := range chains {
		group.Go(func() {
			defer done.Add(1)
			rnd := rand.New(rand.NewPCG(11, uint64(i)))
			history := []string{first[i]}
			for step := 0; ; step++ {
				over := false
				select {
				case <-killed:
					over = step >= steps
				default:
				}
				if over {
					break
				}
				now := history[len(history)-1]
				uses := 1 + rnd.IntN(3) // tabs that wake up together, and lost answers
				next := make([]string, uses)
				codes := make([]int, uses)
				var tabs sync.WaitGroup
				for n := range uses {
					tabs.Go(func() { codes[n], next[n] = refresh(now, i+n) })
				}
				tabs.Wait()
				for n := range uses {
					if codes[n] != http.StatusOK || next[n] != next[0] {
						t.Errorf("chain %d, step %d: %d uses were answered with %v; with another successor: %v",
							i, step, uses, codes, next[n] != next[0])
						return
					}
				}
				history = append(history, next[0])
				// people do not refresh all the time
				<-time.After(time.Duration(rnd.IntN(400)) * time.Millisecond)
			}
			last := history[len(history)-1]
			if i%4 != 0 {
				if code, _ := refresh(last, i); code != http.StatusOK {
					t.Errorf("chain %d: the last token: %d", i, code)
				}
				return
			}
			for _, stolen := range []string{history[rnd.IntN(len(history)-2)], last} {
				if code, _ := refresh(stolen, i); code != http.StatusUnauthorized {
					t.Errorf("chain %d: after a theft: %d, want 401", i, code)
				}
			}
		})
	}
	group.Wait()
	t.Logf("%d refreshes in %d chains over %d kills, %d of them retries", asked.Load(), done.Load(), kills,
		again.Load())
	if again.Load() == 0 {
		t.Error("no refresh met a killed instance")
	}
}
