package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

const natsEnv = "PILLION_E2E_NATS"

// natsMain is a NATS server in its own process, which can be killed. It returns only with an error.
func natsMain(args string) error {
	addr, dir, _ := strings.Cut(args, "|")
	public, err := access.LoadOrCreate(dir + "/services")
	if err != nil {
		return err
	}
	if _, err := embedded.Start(embedded.Config{Dir: dir + "/nats", Addr: addr, SyncAlways: true,
		Access: access.Conf(public, false)}); err != nil {
		return err
	}
	select {}
}

// A killable is a system of four processes that can each be killed and restarted.
type killable struct {
	t       *testing.T
	ports   ports
	data    string
	running map[string]*proctest.Program

	deadline time.Duration // of bookings, for services started from now on
	env      []string      // of the services
}

func newKillable(t *testing.T, deadline time.Duration, env ...string) *killable {
	k := &killable{t: t, ports: newPorts(t), data: t.TempDir(), running: make(map[string]*proctest.Program),
		deadline: deadline, env: env}
	k.ports.keys = k.data + "/services"
	k.start("nats")
	if status := proctest.Begin(t, "pillion", "provision", "--nats-url", "nats://"+k.ports.nats,
		k.ports.key("operator")).Wait(t); status != 0 {
		t.Fatalf("provision ended with status %d", status)
	}
	for _, name := range []string{"authsvc", "usersvc", "ridersvc"} {
		k.start(name)
	}
	k.ready()
	return k
}

func (k *killable) start(name string) {
	k.t.Helper()
	begin := func(name string, args ...string) *proctest.Program {
		cmd := proctest.Command(context.Background(), name, args...)
		cmd.Env = append(append(cmd.Env, "LOG_FORMAT=json"), k.env...)
		return proctest.Run(k.t, name, cmd)
	}
	p, key := k.ports, k.data+"/services/"+name+".nk"
	common := []string{"--nats-url", "nats://" + p.nats, "--request-limit", "0"}
	switch name {
	case "nats":
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), natsEnv+"="+p.nats+"|"+k.data)
		k.running[name] = proctest.Run(k.t, name, cmd)
		wait.Until(k.t, "NATS listens", func() bool {
			c, err := net.Dial("tcp", p.nats)
			return err == nil && c.Close() == nil
		})
	case "authsvc":
		k.running[name] = begin(name, append(common, "--demo", "--data", k.data, "--auth-addr", p.auth,
			"--ops-addr", p.authOps)...)
	case "usersvc":
		k.running[name] = begin(name, append(common, "--service-key", key, "--user-addr", p.user,
			"--ops-addr", p.userOps,
			"--booking-deadline", k.deadline.String(), "--book-limit", "0", "--open-bookings", "0")...)
	case "ridersvc":
		k.running[name] = begin(name, append(common, "--service-key", key, "--rider-addr", p.rider,
			"--ops-addr", p.riderOps,
			"--booking-deadline", k.deadline.String())...)
	}
}

// bookWith restarts usersvc with another deadline for bookings.
func (k *killable) bookWith(deadline time.Duration) {
	k.t.Helper()
	k.deadline = deadline
	k.running["usersvc"].Stop(k.t)
	k.start("usersvc")
	k.ready()
}

// ready waits until all processes are ready.
func (k *killable) ready() {
	k.t.Helper()
	for _, name := range []string{"authsvc", "usersvc", "ridersvc"} {
		k.running[name].Ready(k.t)
	}
}

// ask repeats a request with the same key until the answer is not Retry-After.
func (k *killable) ask(method, url, body, bearer, key string) answer {
	k.t.Helper()
	for patience := time.Now().Add(wait.Patience); ; {
		ctx, cancel := context.WithTimeout(k.t.Context(), wait.Patience)
		a, err := call(ctx, method, url, body, "Authorization", bearer, "Idempotency-Key", key)
		cancel()
		if err == nil && a.status != http.StatusServiceUnavailable {
			return a
		}
		if time.Now().After(patience) {
			k.t.Fatalf("%s %s is not answered: %d %s %v", method, url, a.status, a.body, err)
		}
		<-time.After(50 * time.Millisecond) // obeys Retry-After
	}
}

// TestKilledAtEveryStep kills each process at each step of a ride. Every requested step happens
// once, every booking has its deadline, and no rider stays busy without a ride.
func TestKilledAtEveryStep(t *testing.T) {
	t.Parallel() // mostly waits
	const long, short = 10 * time.Minute, time.Second
	k := newKillable(t, long)
	user := "Bearer " + login(t, k.ports, "john@example.com", "user")
	rita, rolf := "Bearer "+register(t, k.ports, "rita@example.com", "raider"),
		"Bearer "+register(t, k.ports, "rolf@example.com", "raider")
	usersvc, ridersvc := "http://"+k.ports.user, "http://"+k.ports.rider

	type ride struct{ id, code string }
	type step struct {
		name   string
		take   func(r *ride, key string) answer
		status int
		says   string
	}
	at := func(base, bearer, what string, body func(r *ride) string) func(*ride, string) answer {
		return func(r *ride, key string) answer {
			return k.ask("POST", base+"/bookings/"+r.id+"/"+what, body(r), bearer, key)
		}
	}
	is := func(text string) func(*ride) string { return func(*ride) string { return text } }
	book := step{"book", func(r *ride, key string) answer {
		a := k.ask("POST", usersvc+"/book", "{}", user, key)
		r.id, r.code = a.field("booking_id"), a.field("start_code")
		return a
	}, 200, `"state":"open"`}
	accept := func(bearer string) step {
		return step{"accept", func(r *ride, key string) answer {
			return k.ask("POST", ridersvc+"/accept-booking", fmt.Sprintf(`{"booking_id":%q}`, r.id), bearer, key)
		}, 200, `"message":"Booking accepted"`}
	}
	wrong := func(r *ride) string {
		if r.code == "0000" {
			return `{"start_code":"0001"}`
		}
		return `{"start_code":"0000"}`
	}
	right := func(r *ride) string { return fmt.Sprintf(`{"start_code":%q}`, r.code) }
	stories := [][]step{
		{book, accept(rita),
			{"arrive", at(ridersvc, rita, "arrive", is("")), 200, `"state":"arrived"`},
			{"start with a wrong code", at(ridersvc, rita, "start", wrong), 409, "4 tries left"},
			{"start", at(ridersvc, rita, "start", right), 200, `"state":"started"`},
			{"complete", at(ridersvc, rita, "complete", is("")), 200, `"state":"completed"`},
			{"rate", at(usersvc, user, "rate", is(`{"stars":5}`)), 200, `"user_stars":5`}},
		{book, accept(rita), {"release", at(ridersvc, rita, "release", is("")), 200, `"state":"open"`}, accept(rolf),
			{"cancel", at(usersvc, user, "cancel", is("")), 200, `"state":"cancelled"`}},
		{book}, // and no rider accepts it
	}
	processes := []string{"nats", "authsvc", "usersvc", "ridersvc"}
	turns := 1 // each step meets one process, or all in turn
	if wait.Long() {
		turns = len(processes)
	}
	kills, begun := 0, time.Now()
	var waiting []string
	for turn := range turns {
		n := turn
		for s, story := range stories {
			var r ride
			if s == len(stories)-1 { // no rider accepts this one
				k.bookWith(short)
			}
			for i, step := range story {
				victim := processes[n%len(processes)]
				n++
				// Kill it at a random moment of the step, which takes some milliseconds.
				moment := time.After(time.Duration(rand.IntN(12_000)) * time.Microsecond)
				killed := make(chan struct{})
				go func() {
					defer close(killed)
					<-moment
					k.running[victim].Kill()
				}()
				answered := make(chan answer, 1)
				key := fmt.Sprintf("turn-%d-story-%d-step-%d", turn, s, i)
				go func() {
					defer close(answered)
					answered <- step.take(&r, key)
				}()
				<-killed
				kills++
				k.start(victim)
				a, ok := <-answered
				if !ok {
					t.FailNow()
				}
				if a.status != step.status || !strings.Contains(a.body, step.says) {
					t.Fatalf("%s, with %s killed: %d %s, want %d %s", step.name, victim, a.status, a.body, step.status,
						step.says)
				}
				k.ready()
			}
			if s == len(stories)-1 {
				waiting = append(waiting, r.id)
				k.bookWith(long)
			}
		}
	}
	t.Logf("%d kills in %v", kills, time.Since(begun).Round(time.Second))
	for _, id := range waiting {
		wait.Until(t, "a booking without a rider has expired", func() bool {
			return mustCall(t, "GET", usersvc+"/bookings/"+id, "", "Authorization", user).field("state") == "expired"
		})
	}
	// A list comes from usersvc's board, which hears of ridersvc's events a moment later.
	wait.Until(t, "no booking is active", func() bool {
		return mustCall(t, "GET", usersvc+"/bookings?state=open,accepted,arrived,started", "", "Authorization",
			user).body == `{"bookings":[]}`
	})
	for name, bearer := range map[string]string{"rita": rita, "rolf": rolf} {
		var r ride
		book.take(&r, "last-of-"+name)
		if a := accept(bearer).take(&r, "last-of-"+name); a.status != http.StatusOK {
			t.Errorf("%s has no ride, and gets %d %s", name, a.status, a.body)
		}
	}
}
