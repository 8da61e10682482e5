package page

import (
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/retry"
	"github.com/example/pillion/internal/wait"
)

// TestTabs has a user in two tabs, and a rider in two tabs. What one of two does, the other shows.
func TestTabs(t *testing.T) {
	browser := newBrowser(t)
	origin, _ := start(t)
	desk := look{1440, "light", true}
	user := open(t, browser, origin, "/", desk, chromedp.WithNewBrowserContext())
	user2 := open(t, user.ctx, origin, "/", desk)
	rider, rider2 := open(t, user.ctx, origin, "/#ride", desk), open(t, user.ctx, origin, "/#ride", desk)
	user2.see("Book a ride")
	rider2.see("Ride for others")
	register(user, "kim@example.com", "Book a ride", "Where to?")
	user2.see("kim@example.com")
	register(rider, "lou@example.com", "Ride for others", "You are offline")
	rider2.see("You are offline")

	book := func(b *tab) {
		b.pick(station, market)
		b.press("Book for")
	}
	book(user)
	user2.see("Looking for a rider")
	user2.press("Cancel this booking")
	user2.press("Cancel the booking")
	user.see("Booking cancelled")
	user.press("Book another ride")
	user.see("Where to?")
	book(user)
	user2.see("Looking for a rider")

	rider.press("Go online here")
	rider2.see("You are online")
	rider2.press("Accept the ride")
	rider.see("Ride to the pickup")
	rider.press("I have arrived")
	rider2.see("Ask for the start code")
	user2.see("Your rider is here")
	var code string
	user2.js(&code, "() => document.querySelector('.code strong').textContent")
	rider2.write("Start code", code)
	rider2.press("Start the ride")
	rider.see("Ride to the destination")
	rider.press("Complete the ride")
	rider2.see("Ride completed")
	rider2.choose(4)
	rider2.press("Rate the passenger")
	rider.see("You gave 4 stars")
	user2.see("You have arrived")
	user2.choose(5)
	user2.press("Rate the ride")
	user.see("You gave 5 stars")

	// The tabs share one bike, so the other one goes on when the one that rides is left.
	var rode string
	by := "() => JSON.parse(Object.entries(localStorage).find(([k]) => k.startsWith('pillion.bike.'))[1]).by"
	user.js(&rode, by)
	rider.press("Watch")
	wait.Until(t, "the other tab rides", func() bool {
		var rides string
		user.js(&rides, by)
		return rides != rode
	})
	rider.press("Ride")
	rider.see("You are online")
	rider.press("Go offline")
	rider2.see("You are offline")

	user2.press("Sign out")
	user.see("Book a ride")
	user.see("Register instead")
	rider2.press("Go online here")
	rider.see("You are online")
	rider2.press("Sign out")
	rider.see("Ride for others")
	var left []string
	rider.js(&left, "() => Object.keys(localStorage)")
	if len(left) > 0 {
		t.Errorf("after both have signed out the browser keeps %v", left)
	}
}

// TestOffline takes the network away from the tabs of a user and of a board, lets others go on, and
// gives it back: the tabs say that they are offline, do what was asked for meanwhile, and miss
// nothing. OFFLINE=1m is how long the network stays away; by default, until the tabs have said so.
func TestOffline(t *testing.T) {
	browser := newBrowser(t)
	origin, _ := start(t)
	way := newWay(t, strings.TrimPrefix(origin, "http://"))
	desk := look{1440, "light", true}
	user := open(t, browser, "http://"+way.addr, "/", desk, chromedp.WithNewBrowserContext())
	board := open(t, user.ctx, "http://"+way.addr, "/#board", desk)
	user.press("Continue as john@example.com")
	user.see("Where to?")
	board.see("Nothing has happened yet.")
	user.pick(station, market)
	user.see("about")
	town := town{TB: t, origin: origin}
	other, rider := town.person("user", 1), town.person("raider", 2)
	rider.do("PUT", "/rider/position", `{"lat":12.9748,"lng":77.5926}`)
	inVain := func() {
		id, _ := other.do("POST", "/user/book", "{}")["booking_id"].(string)
		rider.do("POST", "/rider/accept-booking", `{"booking_id":"`+id+`"}`)
		other.do("POST", "/user/bookings/"+id+"/cancel", "{}")
	}
	inVain()
	board.see("Cancelled\n")

	const notice = "You are offline, or the service is."
	way.close()
	user.press("Book for")
	user.see(notice)
	board.see(notice)
	inVain()
	inVain()
	if away, err := time.ParseDuration(os.Getenv("OFFLINE")); err == nil {
		retry.Sleep(t.Context(), away)
	}
	// An acceptance is two messages, of which the second is the event.
	if seqs := board.events(); !slices.Equal(seqs, []int{1, 3, 4}) {
		t.Errorf("the board without a network has the events %v", seqs)
	}

	way.open()
	user.see("Looking for a rider")
	wait.Until(t, "the board has all events", func() bool { return slices.Contains(board.events(), 13) })
	if seqs := board.events(); !slices.Equal(seqs, []int{1, 3, 4, 5, 7, 8, 9, 11, 12, 13}) {
		t.Errorf("the board has the events %v", seqs)
	}
	for _, b := range []*tab{user, board} {
		wait.Until(t, "the notice goes", func() bool { return !strings.Contains(b.text(), notice) })
	}
}

// events returns the sequences of the events that a board shows, the earliest first.
func (b *tab) events() (seqs []int) {
	b.Helper()
	b.js(&seqs, `() => [...document.querySelectorAll('.log .verified')].map((e) => Number(e.title.split('sequence ')[1]))`)
	slices.Reverse(seqs)
	return seqs
}

// A way is what leads from browsers to a server. It can be closed, as by a phone that loses its
// network.
type way struct {
	testing.TB
	addr, to string
	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
}

// newWay returns an open way to an address.
func newWay(t testing.TB, to string) *way {
	w := &way{TB: t, addr: bustest.FreeAddr(t), to: to}
	w.open()
	t.Cleanup(w.close)
	return w
}

func (w *way) open() {
	w.Helper()
	listener, err := net.Listen("tcp", w.addr)
	if err != nil {
		w.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listener = listener
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go w.lead(conn)
		}
	}()
}

// lead connects one connection.
func (w *way) lead(conn net.Conn) {
	server, err := net.Dial("tcp", w.to)
	if err != nil {
		conn.Close()
		return
	}
	w.mu.Lock()
	w.conns = append(w.conns, conn, server)
	w.mu.Unlock()
	go func() {
		_, _ = io.Copy(server, conn)
		server.Close()
	}()
	_, _ = io.Copy(conn, server)
	conn.Close()
}

func (w *way) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listener.Close()
	for _, conn := range w.conns {
		conn.Close()
	}
	w.conns = nil
}

// TestCity starts the simulated city on the board, and stops it in another tab. Riders and bookings
// come, and no new ones after that.
func TestCity(t *testing.T) {
	browser := newBrowser(t)
	origin, _ := start(t)
	one := open(t, browser, origin, "/#board", look{1440, "light", true}, chromedp.WithNewBrowserContext())
	one.press("Continue as john@example.com")
	one.see("Nothing has happened yet.")
	two := open(t, one.ctx, origin, "/#board", look{390, "dark", true})
	two.see("Start a small city")
	one.press("Start a small city")
	one.see("A small city of simulated people runs")
	two.see("A small city of simulated people runs")
	wait.Until(t, "riders come", func() bool { return two.figure("Riders online") > 0 })
	two.see("Requested")
	wait.Until(t, "bookings come", func() bool { return two.figure("Open")+two.figure("On the way") > 0 })
	two.named()
	two.fits()
	two.press("Stop the city")
	one.see("Nobody in the city books any more.")
	one.see("Start a small city")
	requested := one.figure("Requested")
	wait.Until(t, "idle riders leave", func() bool { return one.figure("Riders online") == one.figure("Riders with a ride") })
	if now := one.figure("Requested"); now > requested+1 { // one may have been under way
		t.Errorf("%d bookings, and there were %d when the city stopped", now, requested)
	}
}

// figure returns a figure of the board by its name.
func (b *tab) figure(name string) (n int) {
	b.Helper()
	b.js(&n, `(name) => {
		const named = [...document.querySelectorAll('dt, .funnel th')].find((e) => e.textContent === name);
		return Number(named?.parentElement.querySelector('dd, .number').textContent);
	}`, name)
	return n
}
