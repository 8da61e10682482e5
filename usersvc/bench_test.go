package usersvc_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
	"github.com/example/pillion/usersvc"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/bookings"
)

const (
	watched = 5000 // bookings, each with a watcher of its own
	pace    = 500  // events a second
	// events of each booking that there are when it begins to be watched: requested and accepted
	before   = 2
	perRide  = 2 // and those that are watched as they happen: arrived and started
	mostLate = 250 * time.Millisecond
)

// BenchmarkWatch has 5,000 users watch a booking each, over HTTP and from another process, while
// riders arrive and start, 500 events a second through a real ledger and its follower. It measures
// from when the ledger stored an event to when its watcher has read it, and what a watcher costs
// this process. It fails where one misses an event or is told one twice, or where a hundredth of
// the events is later than 250 ms.
func BenchmarkWatch(b *testing.B) {
	e, auth := bustest.Run(b), tokentest.New(b)
	ledger, err := ledger.Open(e.Connect(b), ledger.Options{Source: "/usersvc", Tokens: auth.Verifier()})
	if err != nil {
		b.Fatal(err)
	}
	desk, err := booking.NewDesk(ledger, booking.DeskOptions{Deadline: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	board := board.New()
	follower := ledger.Follow(board)
	riders, err := fleet.NewMap(fleet.Options{})
	if err != nil {
		b.Fatal(err)
	}
	service, err := usersvc.New(usersvc.Config{Config: bookings.Config{Fleet: riders, Desk: desk, Board: board,
		Ready: follower.Ready, Ledger: ledger, Verifier: auth.Verifier()}})
	if err != nil {
		b.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work errgroup.Group
	work.Go(func() error { return follower.Run(ctx) })
	work.Go(func() error { return web.DefaultLimits().Serve(ctx, ln, service.Routes(), nil) })
	defer func() {
		cancel()
		if err := work.Wait(); err != nil {
			b.Error(err)
		}
	}()
	var events, late99, late50, worst, each float64
	b.ResetTimer()
	for range b.N {
		rides := book(b, desk, auth)
		last, err := ledger.LastSequence(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if err := board.Await(ctx, last); err != nil {
			b.Fatal(err)
		}
		idle := inUse()
		look := startLooking(b, ln.Addr().String(), rides)
		each = (inUse() - idle) / watched / 1024
		began := time.Now()
		ride(b, desk, rides)
		events = watched * perRide / time.Since(began).Seconds()
		seen := look.result(b)
		late50, late99, worst = seen.P50, seen.P99, seen.Max
		if seen.Right != watched {
			b.Errorf("%d of %d watchers were told everything once and in order; %s", seen.Right, watched, seen.Wrong)
		}
	}
	b.StopTimer()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(events, "events/s")
	b.ReportMetric(late50, "ms-p50")
	b.ReportMetric(late99, "ms-p99")
	b.ReportMetric(worst, "ms-worst")
	b.ReportMetric(each, "KiB/watcher")
	b.Logf("%.0f events a second; %.1f ms late in the middle, %.1f ms in the slowest hundredth, %.1f ms at worst; %.1f KiB a watcher",
		events, late50, late99, worst, each)
	if late99 > float64(mostLate.Milliseconds()) {
		b.Errorf("a hundredth of the events is later than %.0f ms, want at most %s", late99, mostLate)
	}
	if events < 0.95*pace {
		b.Errorf("%.0f events a second, want %d: this machine is too busy to say anything", events, pace)
	}
}

// inUse returns how many bytes this process has in use.
func inUse() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

// A watchedRide is a booking and who has to do with it.
type watchedRide struct {
	ID    booking.ID
	Token string // its user's
	rider booking.Command
}

// book makes the bookings, with a rider for each.
func book(b *testing.B, desk *booking.Desk, auth *tokentest.Authority) []watchedRide {
	b.Helper()
	rides := make([]watchedRide, watched)
	var g errgroup.Group
	g.SetLimit(16)
	for i := range rides {
		g.Go(func() error {
			by := func(role booking.Role) booking.Command {
				who := booking.NewID()
				return booking.Command{
					ID: booking.CommandID(booking.NewID()), Actor: booking.Actor{ID: who, Role: role},
					Proof: auth.Proof(token.Role(role), who),
				}
			}
			user := by(booking.User)
			rides[i] = watchedRide{ID: booking.ID(booking.NewID()), rider: by(booking.Rider),
				Token: auth.Token(token.User, user.Actor.ID, "somebody@example.com")}
			if _, err := desk.Book(b.Context(), user, rides[i].ID, booking.Trip{}); err != nil {
				return err
			}
			_, err := desk.Accept(b.Context(), rides[i].rider, rides[i].ID)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	return rides
}

// ride has all riders arrive and then start, at the pace.
func ride(b *testing.B, desk *booking.Desk, rides []watchedRide) {
	b.Helper()
	var g errgroup.Group
	g.SetLimit(64)
	tick := time.NewTicker(time.Second / pace)
	defer tick.Stop()
	began := time.Now()
	for n := range perRide * len(rides) {
		// a tick that was missed is made up for
		for time.Since(began) < time.Duration(n)*time.Second/pace {
			<-tick.C
		}
		r, do := rides[n%len(rides)], desk.Arrive
		if n >= len(rides) {
			do = desk.Start
		}
		c := r.rider
		c.ID = booking.CommandID(booking.NewID())
		g.Go(func() error {
			_, err := do(b.Context(), c, r.ID)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		b.Error(err)
	}
}

// onlookers is the variable that makes a process of this test the watchers.
const onlookers = "PILLION_TEST_ONLOOKERS"

// A looking is a process that watches.
type looking struct {
	cmd *exec.Cmd
	out *bufio.Reader
}

// startLooking returns once all watchers have been told of their booking.
func startLooking(b *testing.B, addr string, rides []watchedRide) *looking {
	b.Helper()
	in, err := json.Marshal(map[string]any{"Addr": addr, "Rides": rides})
	if err != nil {
		b.Fatal(err)
	}
	l := &looking{cmd: exec.CommandContext(b.Context(), os.Args[0])}
	l.cmd.Env = append(os.Environ(), onlookers+"=1")
	l.cmd.Stdin, l.cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	l.out = bufio.NewReader(out)
	if err := l.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	if line, err := l.out.ReadString('\n'); err != nil || line != "ready\n" {
		b.Fatalf("the watchers are not ready: %q, %v", line, err)
	}
	return l
}

// A seen is what the watchers have seen. Times are milliseconds.
type seen struct {
	Right         int    // watchers who were told everything once and in order
	Wrong         string // what another one was told
	P50, P99, Max float64
}

func (l *looking) result(b *testing.B) (s seen) {
	b.Helper()
	if err := json.NewDecoder(l.out).Decode(&s); err != nil {
		b.Fatal(err)
	}
	if err := l.cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	return s
}

// lookOn is the process that watches: it reads what to watch, says when all watch, and says what
// they have seen.
func lookOn(in io.Reader, out io.Writer) int {
	var what struct {
		Addr  string
		Rides []watchedRide
	}
	if err := json.NewDecoder(in).Decode(&what); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var mu sync.Mutex
	var late []float64
	var s seen
	var ready, done sync.WaitGroup
	room := make(chan struct{}, 64) // as many connect at a time
	for _, r := range what.Rides {
		ready.Add(1)
		done.Go(func() {
			room <- struct{}{}
			begun := sync.OnceFunc(func() { <-room; ready.Done() })
			defer begun()
			kinds, took, err := lookAt(what.Addr, r, begun)
			mu.Lock()
			defer mu.Unlock()
			late = append(late, took...)
			if err == nil && slices.Equal(kinds, []string{"requested", "accepted", "arrived", "started"}) {
				s.Right++
			} else {
				s.Wrong = fmt.Sprint(kinds, " ", err)
			}
		})
	}
	ready.Wait()
	fmt.Fprintln(out, "ready")
	done.Wait()
	slices.Sort(late)
	if n := len(late); n > 0 {
		s.P50, s.P99, s.Max = late[n/2], late[n*99/100], late[n-1]
	}
	if err := json.NewEncoder(out).Encode(s); err != nil {
		return 1
	}
	return 0
}

// lookAt watches a booking until it has been told as much as there is, and a moment longer. It
// returns what it was told and, of what was told as it happened, how late that was.
func lookAt(addr string, r watchedRide, begun func()) (kinds []string, late []float64, err error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Minute))
	if _, err := fmt.Fprintf(conn, "GET /bookings/%s/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n",
		r.ID, r.Token); err != nil {
		return nil, nil, err
	}
	lines := bufio.NewReaderSize(conn, 1024)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) && len(kinds) == before+perRide {
				return kinds, late, nil // nothing comes twice
			}
			return kinds, late, err
		}
		if kind, ok := strings.CutPrefix(line, "event: "); ok {
			kinds = append(kinds, strings.TrimSpace(kind))
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		now := time.Now()
		var v struct{ At time.Time }
		if err := json.Unmarshal([]byte(data), &v); err != nil {
			return kinds, late, err
		}
		if len(kinds) <= before {
			if len(kinds) == before {
				begun()
			}
			continue
		}
		late = append(late, float64(now.Sub(v.At).Microseconds())/1000)
		if len(kinds) == before+perRide {
			_ = conn.SetDeadline(now.Add(time.Second))
		}
	}
}
