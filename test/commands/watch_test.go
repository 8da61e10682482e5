package commands

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

// TestWatch follows all bookings, and one from its first event to its end.
func TestWatch(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	system := proctest.Pillion(t, data, "--demo")
	user, rider := tokenOf(t, system, "john@example.com", "user"), tokenOf(t, system, "rider@example.com", "raider")
	operator := system.NATS(data, "operator")

	everything := proctest.Begin(t, "pillion", append([]string{"watch"}, operator...)...)
	wait.Until(t, "the watch has begun", func() bool { return strings.HasPrefix(everything.Out.String(), "TIME ") })
	_, words := proctest.Call(t, http.MethodPost, system.At["usersvc"]+"/book", user, "{}")
	booked := regexp.MustCompile(`"booking_id":"([^"]+)"`).FindStringSubmatch(words)
	if booked == nil {
		t.Fatalf("book: %s", words)
	}
	id := booked[1]
	shows := func(event, state, by string) {
		t.Helper()
		line := regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT[0-9:.]+Z  ` + id + `   \d  ` + event + ` +` + state + ` +` + by + `$`)
		wait.Until(t, "it shows that the booking is "+event, func() bool {
			return line.MatchString(everything.Out.String())
		})
	}
	shows("requested", "open", "user")

	one := proctest.Begin(t, "pillion", append([]string{"watch", "--json", id}, operator...)...)
	wait.Until(t, "it shows the first event", func() bool { return strings.Contains(one.Out.String(), "\n") })
	if status, words := proctest.Call(t, http.MethodPost, system.At["ridersvc"]+"/accept-booking", rider,
		`{"booking_id":"`+id+`"}`); status != http.StatusOK {
		t.Fatalf("accept: %d %s", status, words)
	}
	shows("accepted", "accepted", "raider")
	if status, words := proctest.Call(t, http.MethodPost, system.At["usersvc"]+"/bookings/"+id+"/cancel", user,
		`{"reason":"<rain>"}`); status != http.StatusOK {
		t.Fatalf("cancel: %d %s", status, words)
	}
	shows("cancelled", "cancelled", "user")
	if status := one.Wait(t); status != 0 {
		t.Errorf("the watch of a booking that is over ends with status %d", status)
	}
	var events []string
	for line := range strings.Lines(one.Out.String()) {
		var e struct {
			ID                        string `json:"booking_id"`
			N                         int
			Event, State, Role, Actor string
			At, Reason                string
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		events = append(events, e.Event+" "+e.State+" "+e.Role+" "+e.Reason)
		if e.ID != id || e.N != len(events) || len(e.Actor) != 26 || e.At == "" {
			t.Errorf("event %d is %s", len(events), line)
		}
	}
	if want := []string{"requested open user ", "accepted accepted raider ",
		"cancelled cancelled user <rain>"}; !slices.Equal(events, want) {
		t.Errorf("the events are %q, want %q", events, want)
	}
	everything.Stop(t)
	if shown := everything.Out.String(); strings.Contains(shown, "\x1b") || strings.Count(shown, "\n") != 4 {
		t.Errorf("what is no terminal gets\n%s", shown)
	}
}
