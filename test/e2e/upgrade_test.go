package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

// oldCommit is the last commit before the packages got their present rooms.
const oldCommit = "5f0d14ccbdf4930a1c09be28ba541de104e0d19e"

// buildOld builds the programs of oldCommit, and returns their folder. It skips the test where git
// does not have that commit, as in a shallow clone.
func buildOld(t *testing.T) (folder string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("git", "-C", root, "cat-file", "-e", oldCommit).CombinedOutput(); err != nil {
		t.Skipf("git does not have commit %s here: %v %s", oldCommit, err, out)
	}
	source := t.TempDir()
	archive := filepath.Join(source, "old.tar")
	for _, args := range [][]string{
		{"git", "-C", root, "archive", "--output", archive, oldCommit},
		{"tar", "-xf", archive, "-C", source},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	folder = t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", folder, "./cmd/pillion", "./cmd/authsvc")
	build.Dir, build.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the old commit: %v: %s", err, out)
	}
	return folder
}

// TestUpgrade starts the present build on data that an older build has written: accounts, sessions,
// keys, a snapshot, and bookings in every state. All of them must be there, and rides that were
// under way must go on.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	if !wait.Long() {
		t.Skip("make check builds the old commit")
	}
	old := buildOld(t)
	p, data := newPorts(t), t.TempDir()
	at := []ports{p, p}
	args := []string{"--demo", "--data", data, "--auth-addr", p.auth, "--user-addr", p.user, "--rider-addr", p.rider,
		"--ops-addr", p.ops, "--nats-addr", p.nats, "--snapshot-events", "1", "--snapshot-every", "1s"}
	cmd := exec.Command(filepath.Join(old, "pillion"), args...)
	cmd.Env, cmd.Dir = []string{"PATH=" + os.Getenv("PATH"), "LOG_FORMAT=json"}, data
	before := proctest.Run(t, "pillion", cmd)
	before.Ready(t)
	p.keys = filepath.Join(data, "services")

	user, rider := newSession(t, at, "upgrade-user@example.com", "user"),
		newSession(t, at, "upgrade-rider@example.com", "raider")
	u := upgrade{p: p, user: user, rider: rider, states: map[string]string{}}
	u.end(t, u.book(t), "cancelled", p.user, "cancel", "{}", user)
	u.complete(t, u.accept(t))
	u.book(t) // stays open
	if out, err := exec.Command(filepath.Join(old, "authsvc"), "keys", "rotate", "--nats-url", "nats://"+p.nats,
		p.key("operator")).CombinedOutput(); err != nil {
		t.Errorf("rotate the keys: %v: %s", err, out)
	}
	started := u.accept(t)
	code := u.code(t, started)
	u.step(t, p.rider, started, "arrive", "{}", rider)
	u.step(t, p.rider, started, "start", fmt.Sprintf(`{"start_code":%q}`, code), rider)
	u.states[started] = "started"
	wait.Until(t, "the old build has made a snapshot", func() bool {
		return strings.Contains(before.Log.String(), "snapshot")
	})
	oldKeys := u.kids(t)
	before.Stop(t)

	after := pillion(t, p, data)
	now := u.kids(t)
	for _, kid := range oldKeys {
		if !slices.Contains(now, kid) {
			t.Errorf("key %s is lost: %v", kid, now)
		}
	}
	u.check(t) // with tokens that the old build has issued
	list := mustCall(t, "GET", "http://"+p.user+"/bookings", "", "Authorization", user.bearer())
	for id := range u.states {
		if !strings.Contains(list.body, id) {
			t.Errorf("the list has no %s: %s", id, list.body)
		}
	}
	// Nothing can be changed with a token of the old build: it has no event token.
	if a := mustCall(t, "POST", "http://"+p.user+"/book", "{}", "Authorization", user.bearer(), "Accept",
		"application/json"); a.field("code") != "token_expired" {
		t.Errorf("book with a token of the old build: %d %s", a.status, a.body)
	}
	user.refresh(t.Context(), t, 0)
	rider.refresh(t.Context(), t, 0)
	u.step(t, p.rider, started, "complete", "{}", rider)
	u.states[started] = "completed"
	for _, role := range []string{"user", "raider"} {
		body := fmt.Sprintf(`{"email":"upgrade-%s@example.com","password":"correct horse battery","role":%q}`,
			strings.Replace(role, "raider", "rider", 1), role)
		if a := mustCall(t, "POST", "http://"+p.auth+"/login", body); a.status != http.StatusOK {
			t.Errorf("log in with an old account: %d %s", a.status, a.body)
		}
	}
	u.closeOldRule(t)
	if log := after.Log.String(); strings.Contains(log, `"level":"ERROR"`) {
		t.Errorf("the new build logs an error:\n%s", log)
	}
	_, metrics := proctest.Get(t, "http://"+p.ops+"/metrics")
	if !strings.Contains(metrics, `pillion_board_started_from{from="version"} 1`) {
		t.Error("the new build did not notice that the snapshot has another version than its own boards")
	}
}

// check checks that all bookings are there as they were.
func (u upgrade) check(t *testing.T) {
	t.Helper()
	for id, state := range u.states {
		a := mustCall(t, "GET", "http://"+u.p.user+"/bookings/"+id, "", "Authorization", u.user.bearer())
		if a.status != http.StatusOK || a.field("state") != state {
			t.Errorf("booking %s was %s: %d %s", id, state, a.status, a.body)
		}
	}
}

// closeOldRule has an operator close the old rule, which holds until then. What the old build has
// stored stays what it was.
func (u upgrade) closeOldRule(t *testing.T) {
	t.Helper()
	for _, c := range [][2]string{{"list", " holds. "}, {"close-old-rule", " has ended with message "}} {
		command, says := c[0], c[1]
		status, out, errs := proctest.Finish(t, "authsvc", "keys", command, "--nats-url=nats://"+u.p.nats,
			u.p.key("operator"))
		if status != 0 || !strings.Contains(out, says) {
			t.Errorf("keys %s: %d %s%s", command, status, out, errs)
		}
	}
	wait.Until(t, "the services have read their lists again", func() bool {
		_, metrics := proctest.Get(t, "http://"+u.p.ops+"/metrics")
		return strings.Contains(metrics, "pillion_board_rebuilds_total 1")
	})
	u.check(t)
}

// An upgrade is what people have done before one, and how it must be found afterwards.
type upgrade struct {
	p           ports
	user, rider *session
	states      map[string]string // by booking
}

// kids returns the ids of the published keys.
func (u upgrade) kids(t *testing.T) (kids []string) {
	t.Helper()
	var set struct {
		Keys []struct{ Kid string }
	}
	a := mustCall(t, "GET", "http://"+u.p.auth+"/.well-known/jwks.json", "")
	if err := json.Unmarshal([]byte(a.body), &set); err != nil || len(set.Keys) < 2 {
		t.Fatalf("keys: %v: %s", err, a.body)
	}
	for _, k := range set.Keys {
		kids = append(kids, k.Kid)
	}
	return kids
}

// book returns a new booking that is open.
func (u upgrade) book(t *testing.T) (id string) {
	t.Helper()
	a := mustCall(t, "POST", "http://"+u.p.user+"/book", "{}", "Authorization", u.user.bearer())
	if a.status != http.StatusOK {
		t.Fatalf("book: %d %s", a.status, a.body)
	}
	id = a.field("booking_id")
	u.states[id] = "open"
	return id
}

// accept returns a new booking that the rider has accepted.
func (u upgrade) accept(t *testing.T) (id string) {
	t.Helper()
	id = u.book(t)
	a := mustCall(t, "POST", "http://"+u.p.rider+"/accept-booking", fmt.Sprintf(`{"booking_id":%q}`, id),
		"Authorization", u.rider.bearer())
	if a.status != http.StatusOK {
		t.Fatalf("accept: %d %s", a.status, a.body)
	}
	u.states[id] = "accepted"
	return id
}

// code returns the start code of a booking, as its user is told it.
func (u upgrade) code(t *testing.T, id string) string {
	t.Helper()
	return mustCall(t, "GET", "http://"+u.p.user+"/bookings/"+id, "", "Authorization",
		u.user.bearer()).field("start_code")
}

// complete rides an accepted booking to its end.
func (u upgrade) complete(t *testing.T, id string) {
	t.Helper()
	code := u.code(t, id)
	u.step(t, u.p.rider, id, "arrive", "{}", u.rider)
	u.step(t, u.p.rider, id, "start", fmt.Sprintf(`{"start_code":%q}`, code), u.rider)
	u.end(t, id, "completed", u.p.rider, "complete", "{}", u.rider)
}

// end takes the last step of a booking.
func (u upgrade) end(t *testing.T, id, state, addr, step, body string, by *session) {
	t.Helper()
	u.step(t, addr, id, step, body, by)
	u.states[id] = state
}

// step takes one step of a ride.
func (u upgrade) step(t *testing.T, addr, id, step, body string, by *session) {
	t.Helper()
	a := mustCall(t, "POST", "http://"+addr+"/bookings/"+id+"/"+step, body, "Authorization", by.bearer())
	if a.status != http.StatusOK {
		t.Fatalf("%s: %d %s", step, a.status, a.body)
	}
}
