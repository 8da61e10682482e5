package commands

import (
	"bufio"
	"encoding/json"
	"strings"
	"testing"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
	"github.com/example/pillion/token/tokentest"
)

// told reads a stream until an event of a name has a text in its data, and returns that.
func told(t *testing.T, lines *bufio.Scanner, event, want string) string {
	t.Helper()
	name := ""
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			name = rest
		}
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if ok && name == event && strings.Contains(data, want) {
			return data
		}
	}
	t.Fatalf("the stream does not tell %s %s: %v", event, want, lines.Err())
	return ""
}

// TestBoard watches the whole city in a demonstration, and reads the stories of a booking: the
// user, the rider and the board each see what is theirs to see.
func TestBoard(t *testing.T) {
	t.Parallel()
	p := proctest.Pillion(t, t.TempDir(), "--demo")
	at := p.At["all"]
	user, rider, stranger := newVisit(t, at, at, nil), newVisit(t, at, at, nil), newVisit(t, at, at, nil)
	user.login("john@example.com", "user")
	rider.login("rider@example.com", "raider")
	stranger.do(401, "GET", "/board/events", "")
	board := user.fetch("GET", "/board/events", "")
	if board.status != 200 {
		t.Fatalf("the board: %d", board.status)
	}
	lines := bufio.NewScanner(board.body)
	told(t, lines, "city", `"requested":0`)
	told(t, lines, "bookings", `[]`)

	id, _ := user.do(200, "POST", "/user/book",
		`{"pickup":{"lat":12.9716,"lng":77.5946},"dropoff":{"lat":12.98,"lng":77.6}}`)["booking_id"].(string)
	if event := told(t, lines, "event", `"event":"requested"`); !strings.Contains(event, id) ||
		!strings.Contains(event, `"pickup":{"lat":12.9716`) {
		t.Errorf("the board tells of the booking: %s", event)
	}
	rider.do(200, "PUT", "/rider/position", `{"lat":12.9717,"lng":77.5947}`)
	told(t, lines, "riders", `12.9717,77.5947,false]`)
	rider.do(200, "POST", "/rider/accept-booking", `{"booking_id":"`+id+`"}`)
	told(t, lines, "event", `"event":"accepted"`)
	told(t, lines, "riders", `12.9717,77.5947,true]`)
	if city := told(t, lines, "city", `"accepted":1`); !strings.Contains(city, `"online":1,"busy":1`) ||
		!strings.Contains(city, `"count":1`) {
		t.Errorf("the board counts %s", city)
	}
	rider.do(200, "POST", "/rider/bookings/"+id+"/release", `{"reason":"a puncture"}`)
	rider.do(404, "GET", "/rider/bookings/"+id+"/story", "")
	user.do(200, "POST", "/user/bookings/"+id+"/cancel", `{"reason":"I walk"}`)

	// The user does not learn why the rider gave the booking back. The board does.
	for _, c := range []struct {
		path     string
		has, not string
	}{
		{"/user/bookings/" + id + "/story", "I walk", "puncture"}, {"/board/bookings/" + id, "puncture", "eyJhbGciOi"},
	} {
		text, err := json.Marshal(user.do(200, "GET", c.path, ""))
		if story := string(text); err != nil || !strings.Contains(story, c.has) || strings.Contains(story, c.not) ||
			strings.Count(story, `"aud":"pillion-ledger"`) != 4 || strings.Contains(story, `"sid"`) ||
			!strings.Contains(story, `"event":"released"`) {
			t.Errorf("%s: %s (%v)", c.path, story, err)
		}
	}
	user.do(404, "GET", "/board/bookings/*", "")
	stranger.login("rider@example.com", "raider")
	stranger.do(403, "GET", "/user/bookings/"+id+"/story", "")
	user.do(200, "GET", "/", "")

	// A stream that resumes begins after the last event.
	again := user.fetch("GET", "/board/events", "", "Last-Event-ID", "2")
	lines = bufio.NewScanner(again.body)
	if first := told(t, lines, "event", ""); !strings.Contains(first, `"event":"accepted"`) {
		t.Errorf("the stream goes on with %s", first)
	}
	p.Stop(t)
}

// TestBoardFor has no board unless accounts are named, and then for these only.
func TestBoardFor(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := proctest.Pillion(t, data)
	v := newVisit(t, p.At["all"], p.At["all"], nil)
	enter := func(v *visit, email string) {
		v.do(201, "POST", "/auth/register", `{"email":"`+email+`","password":"correct horse battery","role":"user"}`)
		v.token, _ = v.do(200, "POST", "/auth/login",
			`{"email":"`+email+`","password":"correct horse battery","role":"user"}`)["token"].(string)
	}
	enter(v, "kim@example.com")
	if setup := v.do(200, "GET", "/page.json", ""); setup["demo"] != false || setup["board"] != false {
		t.Errorf("the setup is %v", setup)
	}
	v.do(404, "GET", "/board/events", "")
	who, _ := tokentest.Claimed(v.token)
	p.Stop(t)

	p = proctest.Pillion(t, data, "--board-for="+who)
	kim, other := newVisit(t, p.At["all"], p.At["all"], nil), newVisit(t, p.At["all"], p.At["all"], nil)
	kim.token = v.token
	wait.Until(t, "the board is there", func() bool { return kim.fetch("GET", "/board/events", "").status == 200 })
	enter(other, "lou@example.com")
	refused := other.do(403, "GET", "/board/events", "", "Accept", "application/json")
	if refused["code"] != "not_operator" {
		t.Errorf("another account is answered %v", refused)
	}
	other.do(403, "GET", "/board/bookings/mfrggzdfmztwq2lkmfrggzdfmz", "")
	kim.do(404, "POST", "/board/city/start", "{}") // there is a city in demonstrations only
}
