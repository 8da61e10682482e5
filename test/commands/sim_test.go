package commands

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/sim"
	"github.com/example/pillion/test/proctest"
	"github.com/example/pillion/token/tokentest"
	"github.com/example/pillion/web/webtest"
)

// TestLoad runs a load without faults, which must find none. Then a proxy falsifies answers, and
// the load must find that.
func TestLoad(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	system := proctest.Pillion(t, data, "--address-limit=100000", "--request-limit=0", "--book-limit=0", "--open-bookings=0")
	fronts := checkedServices(t, system)
	key := "--operator-key=" + filepath.Join(data, "services", "operator.nk")
	length := "2s"
	if wait.Long() {
		length = "20s"
	}
	through := func(service string, proxy http.Handler) string {
		t.Helper()
		s := httptest.NewServer(proxy)
		t.Cleanup(s.Close)
		return "--" + service + "-url=" + s.URL
	}
	put := func(args ...string) (status int, r sim.Report, said string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "result.json")
		status, stdout, stderr := proctest.Finish(t, "pillion-sim", append([]string{
			"--auth-url=" + fronts["authsvc"], "--user-url=" + fronts["usersvc"], "--rider-url=" + fronts["ridersvc"],
			"--nats-url=" + system.At["nats"],
			"--users=4", "--riders=4", "--think=20ms", "--rate=20", "--duration=1s", "--patience=15s", "--json=" + file,
			// creating accounts takes most of the time, so they are used again
			"--name=once", "--password=correct horse battery",
		}, args...)...)
		result, err := os.ReadFile(file)
		if err == nil && len(result) > 0 {
			err = json.Unmarshal(result, &r)
		}
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		if m := regexp.MustCompile(`eyJ[\w-]+\.|"start_code"|S[UOX][A-Z2-7]{20}`).Find(append(result,
			stdout+stderr...)); m != nil {
			t.Errorf("a secret: %s", m)
		}
		return status, r, stdout + stderr
	}
	found := func(r sim.Report) (what []string) {
		if r.Ledger == nil {
			t.Fatal("the ledger was not checked")
		}
		for _, f := range r.Ledger.Findings {
			what = append(what, string(f.What))
		}
		return slices.Compact(what)
	}

	status, r, said := put(key, "--duration="+length)
	if status != 0 || len(found(r)) > 0 || len(r.Violations) > 0 || r.Ledger.Checked == 0 {
		t.Errorf("all is well: status %d, %v, %v\n%s", status, found(r), r.Violations, said)
	}
	for _, op := range []sim.Op{sim.Register, sim.Login, sim.Book, sim.Accept, sim.Arrive, sim.Start,
		sim.Complete, sim.Position, sim.Online, sim.Offline} {
		if r.Operations[op].Steps[sim.Done] == 0 {
			t.Errorf("no step %s\n%s", op, said)
		}
	}
	if w := r.Watched; w.Watchers != 8 || w.Events == 0 || w.Expected == 0 || w.Missing != 0 || w.Lag.Count == 0 {
		t.Errorf("watched: %+v", w)
	}

	if status, r, said := put("--watchers=0", "--record"); status != 3 || r.Ledger != nil || len(r.Calls) == 0 ||
		!strings.Contains(said, "The ledger was not checked.") {
		t.Errorf("without the operator's key: status %d, want 3, %d calls\n%s", status, len(r.Calls), said)
	}

	// A city whose clock runs as fast as it can: what its riders report is still believed.
	status, r, said = put(key, "--name=city", "--users=8", "--riders=8", "--rate=0", "--speed=100", "--duration=20m", "--rides=100", "--seed=1")
	if g := r.Figures; status != 0 || len(found(r)) > 0 || g.Requested == 0 || g.Completed == 0 || g.Wait.P50 == 0 ||
		g.Working.Passenger == 0 || g.Earned.Total == 0 {
		t.Errorf("a city: status %d, %+v\n%s", status, g, said)
	}

	// A booking is acknowledged and not stored.
	var lies atomic.Int64
	forgetful := proxy(t, fronts["usersvc"], func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/book" || lies.Add(1) != 3 {
			return false
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"booking_id": booking.DeriveID("booking", subjectOf(r),
			r.Header.Get("Idempotency-Key"))})
		return true
	}, nil)
	if status, r, said := put(key, "--watchers=0", through("user", forgetful)); status != 1 ||
		!slices.Equal(found(r), []string{"missing"}) || len(r.Ledger.Findings) != 1 ||
		!strings.Contains(said, "FOUND missing") {
		t.Errorf("a booking is nowhere: status %d, want 1 and one that is missing\n%s", status, said)
	}

	// A second rider who names no booking gets the answer of the first. That rider's next step is
	// refused, because the booking does not exist for strangers.
	var won atomic.Pointer[winner]
	told := atomic.Bool{}
	generous := proxy(t, fronts["ridersvc"], func(w http.ResponseWriter, r *http.Request) bool {
		first := won.Load()
		if r.URL.Path != "/accept-booking" || r.ContentLength > 2 || first == nil || first.rider == subjectOf(r) ||
			!told.CompareAndSwap(false, true) {
			return false
		}
		_, _ = w.Write(first.body)
		return true
	}, func(resp *http.Response) error {
		if resp.Request.URL.Path != "/accept-booking" || resp.StatusCode != http.StatusOK {
			return nil
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body = io.NopCloser(bytes.NewReader(body))
		won.CompareAndSwap(nil, &winner{subjectOf(resp.Request), body})
		return err
	})
	if status, r, said := put(key, "--watchers=0", through("rider", generous)); status != 1 ||
		!slices.Equal(found(r), []string{"missing"}) || !strings.Contains(r.Ledger.Findings[0].Detail, "accepted by") {
		t.Errorf("two riders won: status %d, want 1 and an acceptance that is missing\n%s", status, said)
	}

	// A server fails.
	broken := proxy(t, fronts["usersvc"], func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/book" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		return r.URL.Path == "/book"
	}, nil)
	if status, r, said := put(key, "--watchers=0", through("user", broken)); status != 1 || len(r.Violations) == 0 ||
		len(found(r)) > 0 || !strings.Contains(said, "VIOLATION book") {
		t.Errorf("a server fails: status %d, want 1 and violations\n%s", status, said)
	}
}

// checkedServices returns the URLs of services, for a program whose answers must be as the OpenAPI
// documents have them.
func checkedServices(t *testing.T, system *proctest.Program) map[string]string {
	t.Helper()
	fronts := make(map[string]string)
	for _, service := range []string{"authsvc", "usersvc", "ridersvc"} {
		fronts[service] = webtest.Front(t, "../..", system.At[service])
	}
	return fronts
}

// proxy forwards requests, except those that answer handles. change may change the answers.
func proxy(
	t *testing.T, to string, answer func(http.ResponseWriter, *http.Request) bool, change func(*http.Response) error,
) http.Handler {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	p := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }, ModifyResponse: change}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer == nil || !answer(w, r) {
			p.ServeHTTP(w, r)
		}
	})
}

// subjectOf returns the account of a request's token.
func subjectOf(r *http.Request) string {
	subject, _ := tokentest.Claimed(r.Header.Get("Authorization"))
	return subject
}

// A winner is a rider whose acceptance succeeded, and its answer.
type winner struct {
	rider string
	body  []byte
}

// TestLoadStopsAndRefuses ends a load early, which still reports. Bad settings are reported before
// the load begins.
func TestLoadStopsAndRefuses(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	system := proctest.Pillion(t, data, "--address-limit=100000", "--request-limit=0", "--book-limit=0", "--open-bookings=0",
		"--jwt-expiry=3s")
	file := filepath.Join(t.TempDir(), "result.json")
	fronts := checkedServices(t, system)
	loading := proctest.Begin(t, "pillion-sim", "--auth-url="+fronts["authsvc"], "--user-url="+fronts["usersvc"],
		"--rider-url="+fronts["ridersvc"], "--nats-url="+system.At["nats"],
		"--users=2", "--riders=2", "--think=20ms", "--rate=10", "--duration=10m", "--json="+file,
		"--operator-key="+filepath.Join(data, "services", "operator.nk"))
	// This is long enough for tokens, and the watchers' connections, to expire.
	wait.Until(t, "sixty bookings", func() bool {
		_, metrics := proctest.Get(t, system.At["ops"]+"/metrics")
		m := regexp.MustCompile(`pillion_events_appended_total\{event="requested"\} (\d+)`).FindStringSubmatch(metrics)
		if m == nil {
			return false
		}
		n, err := strconv.Atoi(m[1])
		return err == nil && n >= 60
	})
	loading.Signal(t, os.Interrupt)
	status := loading.Wait(t)
	var r sim.Report
	result, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(result, &r)
	}
	if err != nil || status != 0 || r.Ledger == nil || len(r.Ledger.Findings) > 0 || r.Events[booking.Requested] < 60 ||
		r.Seconds > 300 {
		t.Errorf("it ended with %d, %v, after %g s\n%s", status, err, r.Seconds, loading.Tail(60))
	}
	if w := r.Watched; r.Operations[sim.Refresh].Steps[sim.Done] == 0 || w.Breaks == 0 || w.Events == 0 ||
		w.Missing > 0 {
		t.Errorf("tokens ran out: %+v, %+v\n%s", r.Operations[sim.Refresh], w, loading.Tail(60))
	}

	for _, c := range []struct {
		args  []string
		lines int
		says  string
	}{
		{[]string{"--rate=-1", "--users=none", "--user-url=127.0.0.1"}, 3, "--user-url (USER_URL) must look like http://host:3000"},
		{[]string{"--operator-key=" + file + ".nk"}, 1, "--operator-key (OPERATOR_KEY_FILE)"},
		{[]string{"--json=" + file + "/in"}, 1, "--json"},
		{[]string{"--name=A b"}, 1, "The name of a run"},
	} {
		status, _, stderr := proctest.Finish(t, "pillion-sim", c.args...)
		if status != 2 || strings.Count(stderr, "\n") != c.lines || !strings.Contains(stderr, c.says) {
			t.Errorf("%q: status %d, want 2 and %d sentences:\n%s", c.args, status, c.lines, stderr)
		}
	}
	if status, _, stderr := proctest.Finish(t, "pillion-sim", "--auth-url=http://"+bustest.FreeAddr(t),
		"--patience=1s"); status != 1 || !strings.Contains(stderr, "Cannot reach authsvc") {
		t.Errorf("no authsvc: status %d, want 1: %s", status, stderr)
	}
}

// TestSimulationIsDocumented checks that the flags and variables in docs/simulation.md are those of
// --help.
func TestSimulationIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/simulation.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := regexp.MustCompile("(?m)^\\| `--([a-z-]+)` \\| (?:`([A-Z_]+)`)?").FindAllStringSubmatch(string(page),
		-1)
	_, help, _ := proctest.Finish(t, "pillion-sim", "--help")
	shown := regexp.MustCompile(`(?m)^ +--([a-z-]+)(?:[= ]|$)`).FindAllStringSubmatch(help, -1)
	var want, got []string
	for _, m := range shown {
		want = append(want, m[1])
	}
	for _, m := range documented {
		got = append(got, m[1])
		if m[2] != "" && !strings.Contains(help, "$"+m[2]) {
			t.Errorf("--%s has no variable %s", m[1], m[2])
		}
	}
	want = slices.DeleteFunc(want, func(s string) bool { return s == "help" || s == "version" })
	slices.Sort(want)
	slices.Sort(got)
	if len(want) < 20 || !slices.Equal(got, want) {
		t.Errorf("documented are %v, want %v", got, want)
	}
}
