// Package page takes rides on the page, in a browser. See make web-test.
package page

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

func TestMain(m *testing.M) {
	if os.Getenv("PILLION_WEB") == "" { // nothing to build
		os.Exit(wait.Main(m))
	}
	os.Exit(proctest.Main(m, "pillion"))
}

const password = "correct horse battery"

// markup is what somebody writes to take over the page of somebody else.
const markup = `<img src=x onerror=alert(1)>`

// start starts the whole system at an address that it keeps when it is started again.
func start(t testing.TB) (origin string, again func()) {
	t.Helper()
	data, addr := t.TempDir(), bustest.FreeAddr(t)
	args := []string{"--demo", "--addr=" + addr, "--jwt-expiry=20s"}
	p := proctest.Pillion(t, data, args...)
	return "http://" + addr, func() {
		p.Kill()
		p = proctest.Pillion(t, data, args...)
	}
}

// TestRides takes a ride from the registration to the rating, in two tabs of one browser, and reads
// its story: by mouse and by keyboard alone, on a phone and on a desk, in light and dark.
func TestRides(t *testing.T) {
	browser := newBrowser(t)
	origin, again := start(t)
	for i, c := range []struct {
		look
		keyboard bool
	}{
		{look{390, "light", false}, false}, {look{1440, "dark", true}, false},
		{look{390, "dark", true}, true}, {look{1440, "light", false}, true},
	} {
		by := "mouse"
		if c.keyboard {
			by = "keyboard"
		}
		t.Run(fmt.Sprintf("%s by %s", c.look, by), func(t *testing.T) {
			user := open(t, browser, origin, "/", c.look, chromedp.WithNewBrowserContext())
			rider := open(t, user.ctx, origin, "/#ride", c.look)
			user.keyboard, rider.keyboard = c.keyboard, c.keyboard
			// the characters that mean something to HTML, as far as an address may have them
			register(user, fmt.Sprintf("o'hara&amp=%d@example.com", i), "Book a ride", "Where to?")
			register(rider, fmt.Sprintf("o'hara&amp=%d@example.com", i), "Ride for others", "You are offline")
			ride(user, rider)
			story(user)
			if i == 0 {
				restart(user, rider, again)
			}
			board(user)
		})
	}
}

func register(b *tab, email, title, then string) {
	b.Helper()
	b.see(title)
	b.named()
	b.press("Register instead")
	b.write("Email", email)
	b.write("Password", password)
	b.press("Register")
	b.see(then)
	b.see(email)
}

// ride books and takes a ride.
func ride(user, rider *tab) {
	user.Helper()
	rider.press("Go online here")
	rider.see("You are online")
	rider.see("Nothing is open at the moment.")
	user.pick(station, market)
	user.see("about")
	user.see("near the pickup, the nearest")
	user.named()
	user.fits()
	user.press("Book for")
	user.see("Looking for a rider")
	rider.press("Accept the ride")
	user.see("Your rider is on the way")
	rider.see("Ride to the pickup")
	rider.named()
	rider.press("I have arrived")
	rider.see("Ask for the start code")
	user.see("Your rider is here")
	var code string
	user.js(&code, "() => document.querySelector('.code strong').textContent")
	rider.write("Start code", wrong(code))
	rider.press("Start the ride")
	rider.see("start code")
	rider.js(nil, "() => { document.querySelector('[inputmode=numeric]').value = ''; }")
	rider.write("Start code", code)
	rider.press("Start the ride")
	rider.see("Ride to the destination")
	user.see("Enjoy the ride")
	rider.press("Complete the ride")
	rider.see("Ride completed")
	rider.fits()
	user.see("You have arrived")
	user.choose(5)
	user.named()
	user.press("Rate the ride")
	user.see("You gave 5 stars")
	rider.choose(4)
	rider.press("Rate the passenger")
	rider.see("You gave 4 stars")
	rider.see("1 ride, ")
}

// wrong returns a start code that is not code.
func wrong(code string) string {
	if code == "0000" {
		return "0001"
	}
	return "0000"
}

// story reads the story of the ride.
func story(user *tab) {
	user.Helper()
	user.press("See each event and its signature")
	user.see("The story of a booking")
	for _, want := range []string{"Requested", "Accepted", "Wrong start code", "Ride completed", "5 stars",
		"by the user, you"} {
		user.see(want)
	}
	if strings.Contains(user.text(), "4 stars") {
		user.Error("the user sees the rider's rating")
	}
	user.press("✓ Verified Why it is believed")
	user.see("event+jwt")
	user.see("pillion-ledger")
	user.named()
	user.fits()
}

// restart starts the system again while a booking is open. The page goes on, and shows a reason
// that is markup as text.
func restart(user, rider *tab, again func()) {
	user.Helper()
	user.press("Book")
	user.see("Where to?")
	user.pick(station, market)
	user.press("Book for")
	user.see("Looking for a rider")
	rider.press("Look for the next ride")
	rider.see("Open bookings")
	again()
	rider.press("Accept the ride")
	user.see("Your rider is on the way")
	user.press("Cancel this booking")
	user.write("Why?", markup)
	user.press("Cancel the booking")
	user.see(markup)
	rider.see("The passenger has cancelled")
	rider.see(markup)
	for _, b := range []*tab{user, rider} {
		var images int
		if b.js(&images, "() => document.querySelectorAll('img[src=x]').length"); images > 0 {
			b.Error("a reason has become an element")
		}
	}
	// What a tab keeps is in its cookies: it goes on after a reload, in its own role.
	user.run(chromedp.Reload())
	user.see("o'hara")
	rider.run(chromedp.Reload())
	rider.see("You are online")
}

// board looks at the whole city.
func board(user *tab) {
	user.Helper()
	user.press("Board")
	user.see("The city now")
	user.see("Half within")
	user.see("✓ signature, role, order")
	user.named()
	user.fits()
}

// TestRefresh lets access tokens expire. Nobody sees it.
func TestRefresh(t *testing.T) {
	browser := newBrowser(t)
	data := t.TempDir()
	p := proctest.Pillion(t, data, "--demo", "--jwt-expiry=2s")
	user := open(t, browser, p.At["all"], "/", look{1440, "light", false}, chromedp.WithNewBrowserContext())
	user.press("Continue as john@example.com")
	user.see("Where to?")
	user.pick(station, market)
	user.press("Book for")
	user.see("Looking for a rider")
	wait.Until(t, "the token is refreshed", func() bool {
		_, metrics := proctest.Get(t, p.At["ops"]+"/metrics")
		return strings.Contains(metrics, `pillion_refreshes_total{result="success"}`) &&
			!strings.Contains(metrics, `pillion_refreshes_total{result="success"} 0`)
	})
	if strings.Contains(user.text(), "Sign in") {
		t.Error("the user is signed out")
	}
	p.Stop(t)
}

// TestFirstPaint loads the page without a cache.
func TestFirstPaint(t *testing.T) {
	browser := newBrowser(t)
	origin, _ := start(t)
	b := open(t, browser, origin, "/", look{390, "light", false}, chromedp.WithNewBrowserContext())
	b.see("Book a ride")
	var loaded struct{ Bytes, Paint float64 }
	b.js(&loaded, `() => {
		const all = performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation'));
		return { bytes: all.reduce((sum, e) => sum + e.transferSize, 0), paint: performance.getEntriesByName('first-contentful-paint')[0]?.startTime || 0 };
	}`)
	t.Logf("%.1f KiB over the wire, the first paint after %.0f ms", loaded.Bytes/1024, loaded.Paint)
	if loaded.Bytes > 200<<10 || loaded.Bytes < 10<<10 {
		t.Errorf("%.0f bytes over the wire, want at most 200 KiB", loaded.Bytes)
	}
}

// shot stores a picture of a tab in docs/page, if PILLION_SHOTS asks for it.
func (b *tab) shot(name string) {
	b.Helper()
	if os.Getenv("PILLION_SHOTS") == "" {
		return
	}
	picture, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll("../../docs/page", 0o755),
		os.WriteFile("../../docs/page/"+name+".png", picture, 0o644)); err != nil {
		b.Fatal(err)
	}
}
