package commands

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/example/pillion/test/proctest"
)

// tokenOf logs in with a demo account and returns the header with its token.
func tokenOf(t *testing.T, p *proctest.Program, email, role string) http.Header {
	t.Helper()
	_, words := proctest.Call(t, http.MethodPost, p.At["authsvc"]+"/login", asJSON,
		`{"email":"`+email+`","password":"password123","role":"`+role+`"}`)
	m := regexp.MustCompile(`"token":"([^"]+)"`).FindStringSubmatch(words)
	if m == nil {
		t.Fatalf("login: %s", words)
	}
	return http.Header{"Authorization": {"Bearer " + m[1]}}
}

// TestBookingCommands lists, releases and cancels bookings beside the running services.
func TestBookingCommands(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	system := proctest.Pillion(t, data, "--demo", "--booking-deadline=1h")
	user, rider := tokenOf(t, system, "john@example.com", "user"), tokenOf(t, system, "rider@example.com", "raider")
	book := func() string {
		t.Helper()
		_, words := proctest.Call(t, http.MethodPost, system.At["usersvc"]+"/book", user, "{}")
		m := regexp.MustCompile(`"booking_id":"([^"]+)"`).FindStringSubmatch(words)
		if m == nil {
			t.Fatalf("book: %s", words)
		}
		return m[1]
	}
	ridersvc := func(path, body string) (int, string) {
		t.Helper()
		return proctest.Call(t, http.MethodPost, system.At["ridersvc"]+path, rider, body)
	}
	operate := func(args ...string) (int, string, string) {
		t.Helper()
		return proctest.Finish(t, "pillion", append(append([]string{"bookings"}, args...),
			"--nats-url="+system.At["nats"], "--service-key="+filepath.Join(data, "services", "operator.nk"))...)
	}
	list := func(args ...string) (ids []string) {
		t.Helper()
		status, out, stderr := operate(append([]string{"list", "--json"}, args...)...)
		if status != 0 {
			t.Fatalf("list: %d %s", status, stderr)
		}
		for line := range strings.Lines(out) {
			var b struct {
				ID string `json:"booking_id"`
			}
			if err := json.Unmarshal([]byte(line), &b); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			ids = append(ids, b.ID)
		}
		return ids
	}
	if got := list(); got != nil {
		t.Errorf("before anything was booked: %v", got)
	}
	first, second := book(), book()
	if got := list(); len(got) != 2 || got[0] != second || got[1] != first {
		t.Errorf("the list is %v, want the newest first of %s and %s", got, first, second)
	}

	// The rider accepts, and then its phone is dead.
	if status, words := ridersvc("/accept-booking", `{"booking_id":"`+first+`"}`); status != http.StatusOK {
		t.Fatalf("accept: %d %s", status, words)
	}
	if status, out, stderr := operate("release", first, "--reason=the phone is dead"); status != 0 ||
		!strings.Contains(out, "open") || !strings.Contains(out, "the phone is dead") {
		t.Errorf("release: %d %s%s", status, out, stderr)
	}
	if status, words := ridersvc("/accept-booking", `{"booking_id":"`+first+`"}`); status != http.StatusConflict ||
		!strings.Contains(words, "The system has taken this booking back from you") {
		t.Errorf("accept what was released: %d %s", status, words)
	}
	if status, words := ridersvc("/accept-booking", `{}`); status != http.StatusOK || !strings.Contains(words, second) {
		t.Errorf("the rider is free for another one: %d %s", status, words)
	}
	if status, _, stderr := operate("release", "--booking-deadline=5m", first, "--reason=again"); status != 1 ||
		stderr == "" || strings.Count(stderr, "\n") != 1 {
		t.Errorf("release what is open: %d %s", status, stderr)
	}

	// The ride starts, and then the rider is not heard of again: only an operator can cancel it.
	_, words := proctest.Call(t, http.MethodGet, system.At["usersvc"]+"/bookings/"+second, user, "")
	code := regexp.MustCompile(`"start_code":"([0-9]{4})"`).FindStringSubmatch(words)
	if code == nil {
		t.Fatalf("no start code: %s", words)
	}
	for _, step := range [][2]string{{"arrive", ""}, {"start", `{"start_code":"` + code[1] + `"}`}} {
		if status, words := ridersvc("/bookings/"+second+"/"+step[0], step[1]); status != http.StatusOK {
			t.Fatalf("%s: %d %s", step[0], status, words)
		}
	}
	if status, words := proctest.Call(t, http.MethodPost, system.At["usersvc"]+"/bookings/"+second+"/cancel", user,
		""); status != http.StatusConflict {
		t.Errorf("the user cancels a started ride: %d %s", status, words)
	}
	if status, out, stderr := operate("cancel", second, "--reason=not heard of for an hour"); status != 0 ||
		!strings.Contains(out, "cancelled") {
		t.Errorf("cancel: %d %s%s", status, out, stderr)
	}
	if _, words := proctest.Call(t, http.MethodGet, system.At["usersvc"]+"/bookings/"+second, user,
		""); !strings.Contains(words, `"reason":"not heard of for an hour"`) {
		t.Errorf("the user sees %s", words)
	}
	if got := list("--state=cancelled"); len(got) != 1 || got[0] != second {
		t.Errorf("cancelled are %v", got)
	}
	if status, out, _ := operate("show", second); status != 0 || !strings.Contains(out, second) ||
		!strings.Contains(out, "cancelled") {
		t.Errorf("show: %d %s", status, out)
	}

	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"show", "x"}, 2, "26 characters"},
		{[]string{"show", strings.Repeat("a", 26)}, 1, "no such booking"},
		{[]string{"cancel", first}, 2, "--reason"},
		{[]string{"cancel", first, "--reason="}, 2, "--reason"},
		{[]string{"cancel", second, "--reason=again"}, 1, "was cancelled"},
		{[]string{"list", "--state=gone"}, 2, "tate"},
		{[]string{"list", "--user=a", "--raider=b"}, 2, "--user"},
	} {
		if status, _, stderr := operate(c.args...); status != c.status || !strings.Contains(stderr, c.says) ||
			strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: status %d, want %d: %s", strings.Join(c.args, " "), status, c.status, stderr)
		}
	}
	// An operator with an unknown key is rejected.
	status, _, stderr := proctest.Finish(t, "pillion", "bookings", "cancel", first, "--reason=mine", "--timeout=3s",
		"--nats-url="+system.At["nats"],
		"--service-key="+filepath.Join(t.TempDir(), "operator.nk"))
	if status != 1 || !strings.Contains(stderr, "rejected the key of this process") {
		t.Errorf("an unknown operator: %d %s", status, stderr)
	}
	if got := list(); len(got) != 1 || got[0] != first {
		t.Errorf("active bookings: %v", got)
	}
}
