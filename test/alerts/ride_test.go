package alerts

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

// system starts the whole system, with TLS for NATS, so that a certificate is among its metrics. It
// returns the folder of its data and that of its certificates, too.
func system(t *testing.T, more ...string) (p *proctest.Program, data, certs string) {
	t.Helper()
	data, certs = t.TempDir(), filepath.Join(t.TempDir(), "certs")
	if status, _, stderr := proctest.Finish(t, "pillion", "certs", "init", "--certs="+certs); status != 0 {
		t.Fatalf("certs init: %d %s", status, stderr)
	}
	return proctest.Pillion(t, data, append([]string{"--demo", "--snapshot-every=1s",
		"--nats-tls-cert=" + certs + "/nats.crt", "--nats-tls-key=" + certs + "/nats.key"}, more...)...), data, certs
}

// send sends JSON and returns the answer's members. It repeats a request that a busy machine
// answers with 503.
func send(t *testing.T, want int, method, url, token, body string) (answer map[string]any) {
	t.Helper()
	header := http.Header{"Content-Type": {"application/json"}, "Idempotency-Key": {booking.NewID()}}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	var status int
	var words string
	wait.Until(t, method+" "+url+" is answered", func() bool {
		status, words = proctest.Call(t, method, url, header, body)
		return status != http.StatusServiceUnavailable
	})
	if status != want {
		t.Fatalf("%s %s: %d %s, want %d", method, url, status, words, want)
	}
	_ = json.Unmarshal([]byte(words), &answer) // some are plain text
	return answer
}

// login returns an access token and a refresh token.
func login(t *testing.T, p *proctest.Program, email, role string) (token, refresh string) {
	t.Helper()
	a := send(t, http.StatusOK, http.MethodPost, p.At["authsvc"]+"/login", "",
		fmt.Sprintf(`{"email":%q,"password":"password123","role":%q}`, email, role))
	return a["token"].(string), a["refresh_token"].(string)
}

// ride books a ride and takes it to its end, with both ratings. It returns when watchers were told
// of all of it, and a snapshot has all of it, too.
func ride(t *testing.T, p *proctest.Program) {
	t.Helper()
	user, _ := login(t, p, "john@example.com", "user")
	rider, _ := login(t, p, "rider@example.com", "raider")
	const at = `{"lat":12.9716,"lng":77.5946}`
	booked := send(t, http.StatusOK, http.MethodPost, p.At["usersvc"]+"/book", user,
		`{"pickup":`+at+`,"dropoff":{"lat":12.9352,"lng":77.6245}}`)
	id := booked["booking_id"].(string)
	to := p.At["ridersvc"]
	send(t, http.StatusOK, http.MethodPut, to+"/position", rider, at)
	send(t, http.StatusOK, http.MethodPost, to+"/accept-booking", rider, `{"booking_id":"`+id+`"}`)
	send(t, http.StatusOK, http.MethodPost, to+"/bookings/"+id+"/arrive", rider, "{}")
	send(t, http.StatusOK, http.MethodPost, to+"/bookings/"+id+"/start", rider,
		fmt.Sprintf(`{"start_code":%q}`, booked["start_code"]))
	send(t, http.StatusOK, http.MethodPost, to+"/bookings/"+id+"/complete", rider, "{}")
	send(t, http.StatusOK, http.MethodPost, p.At["usersvc"]+"/bookings/"+id+"/rate", user, `{"stars":5}`)
	send(t, http.StatusOK, http.MethodPost, to+"/bookings/"+id+"/rate", rider, `{"stars":4}`)
	wait.Until(t, "watchers are told, and a snapshot is made", func() bool {
		s := metrics(t, p)
		return s.has("pillion_feed_delay_seconds_count", valueLabel, "7", false) &&
			s.has("pillion_booking_accept_seconds_count", valueLabel, "1", false) &&
			s["pillion_board_snapshot_sequence"][0][valueLabel] == s["pillion_board_sequence"][0][valueLabel]
	})
}

// metrics returns the series of a program.
func metrics(t *testing.T, p *proctest.Program) series {
	t.Helper()
	status, page := proctest.Get(t, p.At["ops"]+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("/metrics: %d %s", status, page)
	}
	s := series{}
	s.add(page)
	return s
}
