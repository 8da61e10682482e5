package commands

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

// holderEnv makes the test binary a holder of connections: the URLs of NATS and of a service, a
// token, and how many connections of each kind.
const holderEnv = "PILLION_TEST_HOLDER"

// holderMain opens connections with one token from a network of its own, prints how many NATS has
// accepted, and holds them until it is killed.
func holderMain(args string) {
	var natsURL, httpURL, token string
	var n int
	if _, err := fmt.Sscan(args, &natsURL, &httpURL, &token, &n); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.1.2")}, Timeout: wait.Patience}
	accepted := make(chan *nats.Conn, n)
	held := make(chan net.Conn, n)
	var all errgroup.Group
	all.SetLimit(50)
	for range n {
		all.Go(func() error {
			if nc, err := nats.Connect(natsURL, nats.Token(token), nats.NoReconnect(), nats.SetCustomDialer(from),
				nats.Timeout(wait.Patience)); err == nil {
				accepted <- nc
			}
			// NATS and the service may refuse as many as they like.
			if conn, err := from.Dial("tcp", strings.TrimPrefix(httpURL, "http://")); err == nil {
				_, _ = fmt.Fprintf(conn, "GET /bookings HTTP/1.1\r\nHost: pillion\r\nAuthorization: Bearer %s\r\n\r\n", token)
				_, _ = conn.Read(make([]byte, 1<<10))
				held <- conn
			}
			return nil
		})
	}
	_ = all.Wait()
	_, _ = fmt.Fprintf(os.Stdout, "accepted %d\n", len(accepted))
	select {} // it is killed
}

// TestConnectionsOfOneAccount has one account open a thousand connections to NATS and over HTTP, in
// a process of its own. NATS takes a few of them. Others go on booking, and watch over NATS.
func TestConnectionsOfOneAccount(t *testing.T) {
	t.Parallel()
	n := 200
	if wait.Long() {
		n = 1000
	}
	p := proctest.Pillion(t, t.TempDir(), "--demo")
	theirs := loginAs(t, p, `{"email":"rider@example.com","password":"password123","role":"raider"}`)
	ours := login(t, p)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s %d", holderEnv, p.At["nats"], p.At["ridersvc"], theirs, n))
	holder := proctest.Run(t, "holder", cmd)
	wait.Until(t, "the connections are there", func() bool { return strings.Contains(holder.Out.String(), "accepted ") })
	_, count, _ := strings.Cut(strings.TrimSpace(holder.Out.String()), "accepted ")
	if accepted, err := strconv.Atoi(count); err != nil || accepted < 1 || accepted > 20 {
		t.Errorf("NATS has accepted %s connections of one account, want at most 20", count)
	}

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 10 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.At["usersvc"]+"/book",
			strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+ours)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal("book beside them: ", err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("book beside them: %d %s", resp.StatusCode, body)
		}
	}
	if status, words := p.Readiness(t); status != http.StatusOK {
		t.Errorf("readiness: %d %s", status, words)
	}
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	nc, err := nats.Connect(p.At["nats"], nats.Token(ours), nats.Timeout(wait.Patience))
	if err != nil {
		t.Fatal("another account connects to NATS: ", err)
	}
	defer nc.Close()
	if err := nc.FlushWithContext(ctx); err != nil {
		t.Error("another account uses NATS: ", err)
	}
}
