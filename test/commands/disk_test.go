//go:build linux

package commands

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

// booker returns a function that books a ride as john.
func booker(t *testing.T, p *proctest.Program) func() (int, string) {
	t.Helper()
	token := login(t, p)
	return func() (int, string) {
		return proctest.Call(t, http.MethodPost, p.At["usersvc"]+"/book",
			http.Header{"Authorization": {"Bearer " + token}}, "{}")
	}
}

// TestSmallDisk runs the demonstration on a disk of 512 MiB until the disk is full, and starts it
// again.
func TestSmallDisk(t *testing.T) {
	t.Parallel()
	disk := bustest.MountVolume(t, 512<<20)
	data := filepath.Join(disk.Dir, "data")
	p := proctest.Pillion(t, data, "--demo", "--open-bookings=0")
	book := booker(t, p)
	if status, words := book(); status != http.StatusOK {
		t.Fatalf("book: %d %s", status, words)
	}

	disk.Fill(16 << 20)
	wait.Until(t, "no booking is taken, and it is said why", func() bool {
		status, words := book()
		return status == http.StatusServiceUnavailable && strings.HasPrefix(words,
			"No new bookings can be taken at the moment")
	})
	if status, words := p.Readiness(t); status != http.StatusServiceUnavailable ||
		!strings.Contains(words, "room: ledger_full") {
		t.Errorf("on a full disk readiness says: %d %s", status, words)
	}
	ride(t, p)

	p.Stop(t)
	disk.Fill(2 << 20)
	p = proctest.Start(t, "pillion", "--demo", "--data", data, "--auth-addr=127.0.0.1:0", "--user-addr=127.0.0.1:0",
		"--rider-addr=127.0.0.1:0",
		"--ops-addr=127.0.0.1:0", "--nats-addr=127.0.0.1:0")
	wait.Until(t, "it is ready but for the room", func() bool {
		status, words := p.Readiness(t)
		return status == http.StatusServiceUnavailable && strings.HasPrefix(words, "room: ledger_full") &&
			!strings.Contains(words, "\n")
	})
	disk.Empty()
	p.Ready(t)
	book = booker(t, p)
	wait.Until(t, "bookings are taken again", func() bool { status, _ := book(); return status == http.StatusOK })

	disk.Fill(32 << 20)
	status, _, stderr := proctest.Finish(t, "pillion", "--data", filepath.Join(disk.Dir, "another"),
		"--auth-addr=127.0.0.1:0", "--user-addr=127.0.0.1:0",
		"--rider-addr=127.0.0.1:0", "--ops-addr=127.0.0.1:0", "--nats-addr=127.0.0.1:0")
	if status != 2 || !strings.Contains(stderr, "A new data folder needs 96 MiB") {
		t.Errorf("where a new folder has too little room: status %d, %s", status, stderr)
	}
}

// ride completes the open booking.
func ride(t *testing.T, p *proctest.Program) {
	t.Helper()
	user, rider := tokenOf(t, p, "john@example.com", "user"), tokenOf(t, p, "rider@example.com", "raider")
	var b struct {
		ID   string `json:"booking_id"`
		Code string `json:"start_code"`
	}
	step := func(method, url string, as http.Header, body string) {
		t.Helper()
		status, words := proctest.Call(t, method, url, as, body)
		if status != http.StatusOK {
			t.Fatalf("%s: %d %s", url, status, words)
		}
		if err := json.Unmarshal([]byte(words), &b); err != nil {
			t.Fatal(err)
		}
	}
	step(http.MethodPost, p.At["ridersvc"]+"/accept-booking", rider, "{}")
	here, there := p.At["ridersvc"]+"/bookings/"+b.ID, p.At["usersvc"]+"/bookings/"+b.ID
	step(http.MethodPost, here+"/arrive", rider, "")
	step(http.MethodGet, there, user, "")
	step(http.MethodPost, here+"/start", rider, `{"start_code":"`+b.Code+`"}`)
	step(http.MethodPost, here+"/complete", rider, "")
}
