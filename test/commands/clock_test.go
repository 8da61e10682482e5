package commands

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

// An hourglass is a proxy between services and NATS. When it is turned, the server of the ledger
// seems to be in another year. To a service that looks as if its own clock had jumped.
type hourglass struct {
	url    string
	turned atomic.Bool
}

func newHourglass(t *testing.T, nats string) *hourglass {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	h := &hourglass{url: "nats://" + ln.Addr().String()}
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return // the test has ended
			}
			server, err := net.Dial("tcp", strings.TrimPrefix(nats, "nats://"))
			if err != nil {
				_ = client.Close()
				continue
			}
			go func() {
				defer client.Close()
				h.pass(client, server)
			}()
			go func() {
				defer server.Close()
				_, _ = io.Copy(server, client)
			}()
		}
	}()
	return h
}

// pass forwards the server's lines. A JSON message is one line, and keeps its length.
func (h *hourglass) pass(client io.Writer, server io.Reader) {
	year := []byte(`"ts":"` + time.Now().UTC().Format("2006"))
	another := []byte(`"ts":"1999`)
	for lines := bufio.NewReader(server); ; {
		line, err := lines.ReadBytes('\n')
		if h.turned.Load() && bytes.Contains(line, []byte("stream_info_response")) &&
			bytes.Contains(line, []byte(`"name":"BOOKINGS"`)) {
			line = bytes.Replace(line, year, another, 1)
		}
		if _, werr := client.Write(line); err != nil || werr != nil {
			return
		}
	}
}

// TestClockThatIsOff runs services whose clock differs from that of the server of the ledger. They
// are unready, say why, verify no tokens meanwhile, and recover when the clocks agree again.
func TestClockThatIsOff(t *testing.T) {
	t.Parallel() // mostly waits
	data := t.TempDir()
	system := proctest.Pillion(t, data, "--demo")
	token := login(t, system)
	h := newHourglass(t, system.At["nats"])
	at := func(name string, args ...string) *proctest.Program {
		return proctest.Start(t, name, append(args, "--ops-addr=127.0.0.1:0", "--nats-url="+h.url,
			"--service-key="+filepath.Join(data, "services", name+".nk"))...)
	}
	services := map[string]*proctest.Program{
		"authsvc":  at("authsvc", "--data="+data, "--auth-addr=127.0.0.1:0", "--demo"),
		"usersvc":  at("usersvc", "--user-addr=127.0.0.1:0"),
		"ridersvc": at("ridersvc", "--rider-addr=127.0.0.1:0"),
	}
	for _, p := range services {
		p.Ready(t)
	}
	bearer := http.Header{"Authorization": {"Bearer " + token}}
	asked := func() map[string]int {
		status := func(service, method, path string, header http.Header, body string) int {
			status, _ := proctest.Call(t, method, services[service].At[service]+path, header, body)
			return status
		}
		return map[string]int{
			"authsvc":  status("authsvc", http.MethodPost, "/login", asJSON, john),
			"usersvc":  status("usersvc", http.MethodPost, "/book", bearer, "{}"),
			"ridersvc": status("ridersvc", http.MethodGet, "/bookings", bearer, ""),
		}
	}
	want := func(when string, wants map[string]int) {
		t.Helper()
		for name, got := range asked() {
			if got != wants[name] {
				t.Errorf("%s: %s answers %d, want %d", when, name, got, wants[name])
			}
		}
	}
	// a user's token at ridersvc
	right := map[string]int{"authsvc": http.StatusOK, "usersvc": http.StatusOK, "ridersvc": http.StatusForbidden}
	want("at first", right)

	h.turned.Store(true)
	for name, p := range services {
		wait.Until(t, name+" is unready", func() bool {
			status, words := p.Readiness(t)
			return status == http.StatusServiceUnavailable && strings.Contains(words, "clock: clock_off: ") &&
				strings.Contains(words, "ahead of") && strings.Contains(words, "NTP")
		})
	}
	const away = http.StatusServiceUnavailable
	want("off", map[string]int{"authsvc": away, "usersvc": away, "ridersvc": away})
	if status, words := system.Readiness(t); status != http.StatusOK {
		t.Errorf("the others: %d %s", status, words)
	}

	h.turned.Store(false)
	for _, p := range services {
		p.Ready(t)
	}
	want("right again", right)
}
