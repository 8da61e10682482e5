// Package e2e runs stories of rides on the real programs. It starts them, uses them over HTTP and
// NATS, and kills them. The programs' commands and settings are in package commands.
package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

func TestMain(m *testing.M) {
	for env, run := range map[string]func(string) error{bareEnv: bareMain, natsEnv: natsMain} {
		if args := os.Getenv(env); args != "" {
			fmt.Fprintln(os.Stderr, run(args))
			os.Exit(1)
		}
	}
	os.Exit(proctest.Main(m))
}

// ports are the addresses of one system.
type ports struct {
	auth, user, rider, nats, ops, authOps, userOps, riderOps string

	keys string // the folder of service keys, if the services run apart
}

// key returns the flag with a service's key.
func (p ports) key(who string) string { return "--service-key=" + filepath.Join(p.keys, who+".nk") }

func newPorts(t testing.TB) ports {
	t.Helper()
	a := addrs(t, 8)
	return ports{a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], t.TempDir()}
}

// addrs returns unused addresses, all different.
func addrs(t testing.TB, n int) []string {
	t.Helper()
	ports, err := bustest.FreePorts(n)
	if err != nil {
		t.Fatal(err)
	}
	var as []string
	for _, p := range ports {
		as = append(as, net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
	}
	return as
}

// pillion starts the whole system in one process and waits until it is ready.
func pillion(t testing.TB, p ports, data string, more ...string) *proctest.Program {
	t.Helper()
	prog := proctest.Begin(t, "pillion", append([]string{
		"--demo", "--data", data, "--auth-addr", p.auth, "--user-addr", p.user, "--rider-addr", p.rider,
		"--ops-addr", p.ops, "--nats-addr", p.nats,
		"--book-limit", "0", "--open-bookings", "0", "--availability-limit", "0",
		"--request-limit", "0", // one user books as much as a town
	}, more...)...)
	prog.Ready(t)
	return prog
}

// probe returns the status of /readyz, or 0 without an answer.
func probe(ops string) int {
	resp, err := http.Get("http://" + ops + "/readyz")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// An answer is the answer to a call.
type answer struct {
	status int
	header http.Header
	body   string
}

// field returns a field of a JSON answer, as text.
func (a answer) field(name string) string {
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		return ""
	}
	if s, ok := m[name].(string); ok {
		return s
	}
	return fmt.Sprint(m[name])
}

// call makes one request. Headers are pairs of name and value.
func call(ctx context.Context, method, url, body string, headers ...string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(b)}, err
}

func mustCall(t testing.TB, method, url, body string, headers ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	a, err := call(ctx, method, url, body, headers...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return a
}

// release releases a booking, so that its rider is free.
func release(ctx context.Context, p ports, bearer, id string) error {
	a, err := call(ctx, "POST", "http://"+p.rider+"/bookings/"+id+"/release", "{}", "Authorization", bearer)
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("release: %d %s", a.status, a.body)
	}
	return err
}

// login returns the token of a demo account.
func login(t testing.TB, p ports, email, role string) string {
	t.Helper()
	a := mustCall(t, "POST", "http://"+p.auth+"/login", fmt.Sprintf(`{"email":%q,"password":"password123","role":%q}`,
		email, role))
	if a.status != http.StatusOK {
		t.Fatalf("login as %s: %d %s", email, a.status, a.body)
	}
	return a.field("token")
}

// register creates an account and returns its token.
func register(t testing.TB, p ports, email, role string) string {
	t.Helper()
	body := fmt.Sprintf(`{"email":%q,"password":"correct horse battery","role":%q}`, email, role)
	if a := mustCall(t, "POST", "http://"+p.auth+"/register", body); a.status != http.StatusCreated {
		t.Fatalf("register %s: %d %s", email, a.status, a.body)
	}
	a := mustCall(t, "POST", "http://"+p.auth+"/login", body)
	if a.status != http.StatusOK {
		t.Fatalf("login as %s: %d %s", email, a.status, a.body)
	}
	return a.field("token")
}
