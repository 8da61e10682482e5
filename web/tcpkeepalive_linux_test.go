package web_test

import (
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/web"
)

// The system finds out within 30 seconds that a peer has vanished, whether something was sent to it
// or not: what it was told is looked at here, for no peer vanishes from loopback.
func TestVanishedPeersAreNoticed(t *testing.T) {
	option := make(map[string]int, 4)
	seen := make(chan error, 1)
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			seen <- err
			return
		}
		defer c.Close()
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) {
				for name, what := range map[string]struct{ level, option int }{
					"on": {unix.SOL_SOCKET, unix.SO_KEEPALIVE}, "idle": {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}, "interval": {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
					"count": {unix.IPPROTO_TCP, unix.TCP_KEEPCNT}, "unacknowledged": {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT},
				} {
					option[name], _ = unix.GetsockoptInt(int(fd), what.level, what.option)
				}
			})
		}
		seen <- err
	})
	s := serve(t, web.DefaultLimits(), h, new(wait.Journal))
	if _, err := s.dial(t).Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := <-seen; err != nil {
		t.Fatal(err)
	}
	silent := time.Duration(option["idle"]+option["interval"]*option["count"]) * time.Second
	// from the heartbeat before it vanished to the end
	sent := 15*time.Second + time.Duration(option["unacknowledged"])*time.Millisecond
	if option["on"] == 0 || silent <= 0 || silent > 30*time.Second || option["unacknowledged"] == 0 ||
		sent > 30*time.Second {
		t.Errorf("it is noticed after %v of silence, and %v of sending: %v", silent, sent, option)
	}
}
