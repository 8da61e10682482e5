package commands

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
	"github.com/example/pillion/web/webtest"
)

// TestIdleConnections opens more connections from one network, over HTTP and to NATS, than the
// process may have files. People elsewhere go on booking, NATS goes on storing, and the process is
// ready. Addresses of 127.0.0.0/8 stand for networks.
func TestIdleConnections(t *testing.T) {
	t.Parallel()
	const files = 400
	cmd := proctest.Command(t.Context(), "pillion", "--demo", "--data="+t.TempDir(), "--auth-addr=127.0.0.1:0",
		"--user-addr=127.0.0.1:0", "--rider-addr=127.0.0.1:0", "--ops-addr=127.0.0.1:0", "--nats-addr=127.0.0.1:0")
	// the program raises the limit to the highest, so that has to be lowered
	cmd.Args = append([]string{"sh", "-c", `ulimit -n "$0" && exec "$@"`, strconv.Itoa(files), cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	p := proctest.Run(t, "pillion", cmd)
	p.Ready(t)
	token := login(t, p)

	flood := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.1.1")}}
	for _, name := range []string{"usersvc", "nats"} {
		_, addr, _ := strings.Cut(p.At[name], "://")
		for range files {
			if conn, err := flood.Dial("tcp", addr); err == nil {
				defer conn.Close()
			}
		}
	}
	// a connection for each request
	client := &http.Client{Transport: webtest.Transport(t, &http.Transport{DisableKeepAlives: true}, "../..")}
	for range 15 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.At["usersvc"]+"/book",
			strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal("book from another network: ", err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("book from another network: %d %s", resp.StatusCode, body)
		}
	}
	if status, words := p.Readiness(t); status != http.StatusOK {
		t.Errorf("readiness: %d %s", status, words)
	}
	if _, metrics := proctest.Get(t, p.At["ops"]+"/metrics"); strings.Contains(metrics,
		`pillion_http_connections_refused_total{limit="network"} 0`) ||
		!strings.Contains(metrics, `pillion_http_connections_refused_total{limit="network"} `) {
		t.Error("the connections that were closed at once are not counted")
	}
	wait.Until(t, "NATS takes a client, once those who say nothing have had their time", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		nc, err := nats.Connect(p.At["nats"], nats.Token(token))
		if err != nil {
			return false
		}
		defer nc.Close()
		return nc.FlushWithContext(ctx) == nil
	})
}
