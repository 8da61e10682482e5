package page

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/example/pillion/internal/wait"
)

// chromium returns the path of the browser, or skips the test.
func chromium(t testing.TB) string {
	t.Helper()
	if os.Getenv("PILLION_WEB") == "" {
		t.Skip("The page is tested in a browser by make web-test and make check.")
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("There is no Chromium. Install it (on Debian: apt-get install chromium) to test the page.")
	return ""
}

// newBrowser starts Chromium. It ends after the test.
func newBrowser(t testing.TB) context.Context {
	t.Helper()
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(chromium(t)),
		chromedp.DisableGPU, chromedp.WSURLReadTimeout(wait.Patience))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, closeAll := chromedp.NewContext(allocator)
	t.Cleanup(closeAll)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	return ctx
}

// A look is how a tab shows the page.
type look struct {
	width  int64
	scheme string // light or dark
	still  bool   // without motion
}

func (l look) String() string { return fmt.Sprintf("%d px, %s", l.width, l.scheme) }

// A tab is a tab of the browser. It fails the test for what must not happen on the page: requests
// to other origins, violations of the policy, errors of scripts.
type tab struct {
	testing.TB
	ctx      context.Context
	origin   string
	keyboard bool // whether everything is done with the keyboard

	mu    sync.Mutex
	wrong []string
}

// open opens a tab beside another one, or in a browser, in which case it has its own cookies.
func open(t testing.TB, beside context.Context, origin, path string, l look, own ...chromedp.ContextOption) *tab {
	t.Helper()
	b := &tab{TB: t, origin: origin}
	ctx, closeTab := chromedp.NewContext(beside, append(own, chromedp.WithListener(b.listen))...)
	t.Cleanup(closeTab)
	b.ctx = ctx
	if err := chromedp.Do(ctx); err != nil { // without a time limit, which would be the tab's
		t.Fatalf("open a tab: %v", err)
	}
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, w := range b.wrong {
			t.Errorf("on the page: %s", w)
		}
		if t.Failed() {
			t.Logf("the page shows:\n%s", b.text())
		}
	})
	motion := "no-preference"
	if l.still {
		motion = "reduce"
	}
	b.run(call(network.Enable, network.EnableParams{}), call(emulation.SetDeviceMetricsOverride,
		emulation.SetDeviceMetricsOverrideParams{Width: l.width, Height: 900, DeviceScaleFactor: 1}),
		call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: l.scheme}, {Name: "prefers-reduced-motion", Value: motion}}}),
		chromedp.Navigate(origin+path))
	return b
}

// call is an action that sends a command of the protocol.
func call[P, R any](command cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, command, params)
		return err
	})
}

// listen notes what must not happen.
func (b *tab) listen(event any) {
	note := func(format string, args ...any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.wrong = append(b.wrong, fmt.Sprintf(format, args...))
	}
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(e.Request.URL, b.origin+"/") {
			note("a request for %s", e.Request.URL)
		}
	case *runtime.EventExceptionThrown:
		why := e.ExceptionDetails.Text
		if x := e.ExceptionDetails.Exception; x != nil {
			why += " " + x.Description
		}
		note("an exception: %s", why)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			note("the console has %s", e.Args[0].Value)
		}
	case *cdplog.EventEntryAdded: // refused requests are the page's business
		if e.Entry.Level == cdplog.EntryLevelError && e.Entry.Source != cdplog.EntrySourceNetwork {
			note("the log has %s: %s", e.Entry.Source, e.Entry.Text)
		}
	}
}

// run does what takes no longer than patience.
func (b *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, wait.Patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.Fatalf("in the browser: %v", err)
	}
}

// js evaluates a function of the page with arguments, into a result; nil: there is none.
func (b *tab) js(result any, function string, args ...any) {
	b.Helper()
	texts := make([]string, len(args))
	for i, a := range args {
		text, err := json.Marshal(a)
		if err != nil {
			b.Fatal(err)
		}
		texts[i] = string(text)
	}
	ctx, cancel := context.WithTimeout(b.ctx, wait.Patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[[]byte]("("+function+")("+strings.Join(texts, ",")+")",
		chromedp.EvalAwaitPromise))
	if err == nil && result != nil {
		err = json.Unmarshal(text, result)
	}
	if err != nil {
		b.Fatalf("in the browser: %v", err)
	}
}

// text returns what the page shows.
func (b *tab) text() string {
	shown, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
	if err != nil {
		return err.Error()
	}
	return shown
}

// see waits until the page shows a text.
func (b *tab) see(want string) {
	b.Helper()
	wait.Until(b.TB, "the page shows "+want, func() bool { return strings.Contains(b.text(), want) })
}

// find returns the element that a person knows by a name, and where it is. It scrolls there.
const find = `(name) => {
  const named = (e) => (e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent).replace('★', '').trim();
  const all = [...document.querySelectorAll('a, button, summary, input, select, canvas')];
  const found = all.find((e) => named(e).startsWith(name) && e.getClientRects().length && e.getAttribute('aria-disabled') !== 'true');
  if (!found) return null;
  found.scrollIntoView({ block: 'center' });
  const box = found.getBoundingClientRect();
  return { x: box.x + box.width / 2, y: box.y + box.height / 2, left: box.x, top: box.y, tag: found.tagName };
}`

type spot struct {
	X, Y, Left, Top float64
	Tag             string
}

// find waits for an element.
func (b *tab) find(name string) (s *spot) {
	b.Helper()
	wait.Until(b.TB, "there is "+name, func() bool { b.js(&s, find, name); return s != nil })
	return s
}

// focused returns the name of what has the focus.
const focused = `() => {
  const e = document.activeElement;
  return (e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent).replace('★', '').trim();
}`

// reach presses Tab until an element has the focus.
func (b *tab) reach(name string) {
	b.Helper()
	b.find(name)
	wait.Until(b.TB, "Tab leads to "+name, func() bool {
		var now string
		if b.js(&now, focused); strings.HasPrefix(now, name) {
			return true
		}
		b.run(chromedp.KeyEvent(kb.Tab))
		return false
	})
}

// press presses a button or a link.
func (b *tab) press(name string) {
	b.Helper()
	if b.keyboard {
		b.reach(name)
		b.run(chromedp.KeyEvent(kb.Enter))
		return
	}
	at := b.find(name)
	b.run(chromedp.MouseClickXY(at.X, at.Y))
}

// write writes into a field.
func (b *tab) write(name, text string) {
	b.Helper()
	if b.keyboard {
		b.reach(name)
	} else {
		b.press(name)
	}
	b.run(call(input.InsertText, input.InsertTextParams{Text: text}))
}

// choose chooses one to five stars.
func (b *tab) choose(stars int) {
	b.Helper()
	if !b.keyboard {
		b.press(fmt.Sprintf("%d star", stars))
		return
	}
	b.reach("1 star")
	b.run(chromedp.KeyEvent(" "))
	for range stars - 1 {
		b.run(chromedp.KeyEvent(kb.ArrowRight))
	}
}

// places are known to the page by these numbers.
const (
	station = 0
	market  = 1
)

// pick chooses the ends of a trip: on the map, or by the names of places.
func (b *tab) pick(pickup, dropoff int) {
	b.Helper()
	for i, field := range []string{"Pickup", "Destination"} {
		place := []int{pickup, dropoff}[i]
		if b.keyboard {
			b.reach(field)
			for range place + 1 {
				b.run(chromedp.KeyEvent(kb.ArrowDown))
			}
			continue
		}
		var at spot
		b.js(&at, `async (place) => {
			const { View, CENTER, places } = await import(document.querySelector('[type=module]').src.replace('main.js', 'city.js'));
			const view = new View(), box = document.querySelector('canvas').getBoundingClientRect();
			Object.assign(view, { width: box.width, height: box.height });
			view.fit([CENTER, places[1], places[3]]);
			return { x: box.x + view.x(places[place]), y: box.y + view.y(places[place]) };
		}`, place)
		b.run(chromedp.MouseClickXY(at.X, at.Y))
	}
}

// named checks that everything that can have the focus has a name, as assistive technology sees it.
func (b *tab) named() {
	b.Helper()
	var tree accessibility.GetFullAXTreeResult
	b.run(chromedp.Func(func(ctx context.Context, target *chromedp.Target) (err error) {
		tree, err = cdp.Call(ctx, target, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
		return err
	}))
	seen := 0
	for _, n := range tree.Nodes {
		focusable := slices.ContainsFunc(n.Properties, func(p *accessibility.Property) bool {
			return p.Name == accessibility.PropertyNameFocusable && string(p.Value.Value) == "true"
		})
		if !focusable || n.Role == nil || string(n.Role.Value) == `"RootWebArea"` || string(n.Role.Value) == `"main"` {
			continue
		}
		seen++
		if n.Name == nil || strings.Trim(string(n.Name.Value), `" `) == "" {
			b.Errorf("something that can have the focus has no name: %s %d", n.Role.Value, n.BackendDOMNodeID)
		}
	}
	if seen < 4 {
		b.Errorf("only %d things can have the focus", seen)
	}
}

// fits checks that the page is no wider than its tab.
func (b *tab) fits() {
	b.Helper()
	var wide int
	if b.js(&wide, "() => document.documentElement.scrollWidth - innerWidth"); wide > 0 {
		b.Errorf("the page is %d px wider than its tab", wide)
	}
}
