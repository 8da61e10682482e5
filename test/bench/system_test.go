package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/internal/retry"
	"github.com/example/pillion/test/proctest"
	"github.com/example/pillion/token/tokentest"
	"github.com/example/pillion/web/webtest"
)

// A system is what is measured: one process, or a cluster. It is stopped (SIGSTOP) while it is not
// its turn.
type system struct {
	name            string
	processes       []*process
	authAt          string
	userAt, riderAt []string  // host and port of each instance
	operator        *bus.Conn // nil: nothing follows from what the system acknowledges
	keys            string    // the folder of its service keys
	people          people
	started         time.Duration // from start to ready
	alone           bool          // nothing is compared with it, so it is never stopped

	accepted []ride // by all clients so far
}

// people are the accounts of a system, with a token each that outlives every measurement.
type people struct{ users, riders []person }

type person struct{ id, token string }

const usersOfAll = 64 // so that the work is on more than one person's list

// settings are those of all systems: nothing is refused for coming too often or from one place, no
// booking expires while it is measured, and the process tells what it uses.
var settings = []string{
	"REQUEST_LIMIT=0", "BOOK_LIMIT=0", "OPEN_BOOKINGS=0", "ADDRESS_LIMIT=1000000", "LOGIN_LIMIT=1000",
	"STREAM_LIMIT=1000000", "STREAMS=1000000", "CONNECTION_LIMIT=0", "BOOKING_DEADLINE=24h", "PICKUP_PATIENCE=24h",
	"JWT_EXPIRY=24h", "SERVICE_EXPIRY=24h", "PILLION_PPROF=true", "LEDGER_SIZE=32GiB",
	"PILLION_ADDR=off",
}

// programs returns the folder of the programs to measure.
func programs() string { return cmp.Or(*ours, filepath.Dir(proctest.Path("pillion"))) }

// pillion starts the whole system in one process and waits until it is ready.
func pillion(b *testing.B, name, programs, data, when string, who people, args ...string) *system {
	b.Helper()
	began := time.Now()
	p := start(b, settingsOf(name), filepath.Join(programs, "pillion"), append([]string{"--data", data, "--sync", when,
		"--auth-addr=127.0.0.1:0", "--user-addr=127.0.0.1:0", "--rider-addr=127.0.0.1:0", "--ops-addr=127.0.0.1:0",
		"--nats-addr=127.0.0.1:0"}, args...)...)
	p.ready(b)
	s := &system{name: name, processes: []*process{p}, authAt: p.host("authsvc"), userAt: []string{p.host("usersvc")},
		riderAt: []string{p.host("ridersvc")}, people: who, started: time.Since(began)}
	s.keys = filepath.Join(data, "services")
	s.operator = operate(b, p.at["nats"], s.keys)
	if s.people.users == nil {
		s.signUp(b)
		// Other programs have documents of their own.
		if programs == filepath.Dir(proctest.Path("pillion")) {
			s.rehearse(b)
		}
	}
	s.pause(b)
	return s
}

// operate connects as the operator.
func operate(b *testing.B, urls, keys string) *bus.Conn {
	b.Helper()
	key, err := bus.LoadOrCreateServiceKey(access.KeyFile(keys, access.Operator))
	if err != nil {
		b.Fatal(err)
	}
	conn, err := bus.Connect(bus.Config{URL: urls, Name: "bench", Key: key, Inbox: access.Operator})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.NATS().Close() })
	return conn
}

// end ends all processes.
func (s *system) end(b *testing.B) {
	b.Helper()
	s.resume(b)
	if s.operator != nil {
		s.operator.NATS().Close()
	}
	for _, p := range s.processes {
		p.end(b)
	}
}

// pause stops all processes, so that they take nothing from those whose turn it is.
func (s *system) pause(b *testing.B) {
	b.Helper()
	if s.alone {
		return
	}
	for _, p := range s.processes {
		p.signal(b, syscall.SIGSTOP)
	}
}

// resume continues them, and waits until they are ready.
func (s *system) resume(b *testing.B) {
	b.Helper()
	if s.alone {
		return
	}
	for _, p := range s.processes {
		p.signal(b, syscall.SIGCONT)
	}
	for _, p := range s.processes {
		if s.operator != nil && p.at["ops"] != "" {
			p.ready(b)
		}
	}
}

// A usage is what the processes of a system have used since they started.
type usage struct {
	cpu            time.Duration
	mallocs, bytes float64 // allocations, and their size
}

func (s *system) usage(b *testing.B) (sum usage) {
	b.Helper()
	for _, p := range s.processes {
		sum.cpu += p.cpu(b)
		if p.at["ops"] == "" {
			continue // a NATS server
		}
		m := p.metrics(b)
		sum.mallocs += m["go_memstats_mallocs_total"]
		sum.bytes += m["go_memstats_alloc_bytes_total"]
	}
	return sum
}

func (u usage) since(before usage) usage {
	return usage{u.cpu - before.cpu, u.mallocs - before.mallocs, u.bytes - before.bytes}
}

func (u usage) plus(v usage) usage {
	return usage{u.cpu + v.cpu, u.mallocs + v.mallocs, u.bytes + v.bytes}
}

// signUp makes the accounts, and logs in to each. A password hash takes long on purpose.
func (s *system) signUp(b *testing.B) {
	b.Helper()
	s.people = people{make([]person, usersOfAll), make([]person, *crowd)}
	var g errgroup.Group
	g.SetLimit(8)
	for i := range s.people.users {
		g.Go(func() (err error) { s.people.users[i], err = s.account(b.Context(), i, "user"); return err })
	}
	for i := range s.people.riders {
		g.Go(func() (err error) { s.people.riders[i], err = s.account(b.Context(), i, "raider"); return err })
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
}

// rehearse does each task once, and holds the answers against the OpenAPI documents. That would be
// too much work beside what is measured.
func (s *system) rehearse(b *testing.B) {
	b.Helper()
	checked := func(address string) string {
		return strings.TrimPrefix(webtest.Front(b, "../..", "http://"+address), "http://")
	}
	stage := &system{authAt: checked(s.authAt), userAt: []string{checked(s.userAt[0])},
		riderAt: []string{checked(s.riderAt[0])}, people: s.people}
	if _, err := stage.account(b.Context(), usersOfAll, "user"); err != nil {
		b.Fatal(err)
	}
	for _, t := range []task{bookTask, acceptTask, rideTask, fillTask} {
		c := stage.clients(1)[0]
		defer c.close()
		if err := t.do(c); err != nil {
			b.Fatal(err)
		}
		stage.undo(b, []*client{c}, t)
	}
	s.accepted = append(s.accepted, stage.accepted...)
}

// account makes one account and returns its person.
func (s *system) account(ctx context.Context, i int, role string) (person, error) {
	c := &client{system: s, links: map[string]*link{}}
	defer c.close()
	body := fmt.Sprintf(`{"email":"bench-%d@example.com","password":"correct horse battery","role":%q}`, i, role)
	if _, err := c.patient(ctx, "/register", body); err != nil {
		return person{}, err
	}
	a, err := c.patient(ctx, "/login", body)
	if err != nil {
		return person{}, err
	}
	token := a.field("token")
	subject, _ := tokentest.Claimed(token)
	return person{subject, token}, nil
}

// patient calls authsvc until it is not too busy.
func (c *client) patient(ctx context.Context, path, body string) (answer, error) {
	for {
		a, err := c.call(c.system.authAt, http.MethodPost, path, "", body)
		r, ok := errors.AsType[refusal](err)
		if !ok || r.status != http.StatusServiceUnavailable && r.status != http.StatusTooManyRequests {
			return a, err
		}
		if !retry.Sleep(ctx, 100*time.Millisecond) {
			return nil, ctx.Err()
		}
	}
}
