//go:build docker

package deploy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/wait"
)

var (
	nodes    = []string{"nats-1", "nats-2", "nats-3"}
	services = []string{"authsvc-1", "authsvc-2", "usersvc-1", "usersvc-2", "ridersvc-1", "ridersvc-2"}
	once     = []string{"keys", "certs", "provision", "ops"}
	opsPorts = map[string]string{"authsvc-1": "3010", "authsvc-2": "3110", "usersvc-1": "3011", "usersvc-2": "3111",
		"ridersvc-1": "3012", "ridersvc-2": "3112"}
)

// TestCluster runs the cluster of docker-compose.cluster.yml while people ride. All streams have
// three replicas, nothing is unencrypted, and nothing runs as root. The loss of one server causes a
// pause, and the loss of two an error that says so. An upgrade follows docs/operate-cluster.md. No
// acknowledged step may be missing at the end.
func TestCluster(t *testing.T) {
	s := newStack(t, "pillion-cluster-test", "docker-compose.cluster.yml", map[string]string{
		"NATS_1_PORT": "4222", "NATS_2_PORT": "4223", "NATS_3_PORT": "4224",
		"AUTH_1_PORT": "3000", "AUTH_2_PORT": "3100", "USER_1_PORT": "3001", "USER_2_PORT": "3101",
		"RIDER_1_PORT": "3002", "RIDER_2_PORT": "3102",
		"AUTH_1_OPS_PORT": "3010", "AUTH_2_OPS_PORT": "3110", "USER_1_OPS_PORT": "3011", "USER_2_OPS_PORT": "3111",
		"RIDER_1_OPS_PORT": "3012", "RIDER_2_OPS_PORT": "3112", "GATEWAY_PORT": "8080",
	})
	s.up(t)
	for _, service := range services {
		s.awaitReady(t, opsPorts[service])
	}
	for _, service := range slices.Concat(nodes, services, once) {
		s.nobodyInParticular(t, service, "[]")
	}
	s.awaitHealthy(t, "gateway")
	s.nobodyInParticular(t, "gateway", "[NET_BIND_SERVICE]")
	s.unreadable(t)

	c := newCrowd(t, s)
	c.run(t)
	took, _ := c.everybody(t)
	t.Logf("all couples have ridden, %v after logging in", took)
	js := s.operator(t)
	s.threeCopies(t, js)

	t.Run("one server is killed", func(t *testing.T) {
		leader := ledgerLeader(t, js)
		docker(t, "kill", s.container(t, leader))
		took, slowest := c.everybody(t)
		t.Logf("%s, which led the ledger, was killed: all rode on after %v, and the slowest step took %v", leader, took,
			slowest)
		docker(t, "start", s.container(t, leader))
		s.awaitHealthy(t, leader)
		s.threeCopies(t, js)
	})
	t.Run("instances are killed", func(t *testing.T) {
		killed := []string{"authsvc-1", "usersvc-1", "ridersvc-1"}
		for _, one := range killed {
			docker(t, "kill", s.container(t, one))
		}
		took, slowest := c.everybody(t)
		t.Logf("%v were killed: all rode on after %v, and the slowest step took %v", killed, took, slowest)
		for _, one := range killed {
			docker(t, "start", s.container(t, one))
			s.awaitHealthy(t, one)
			s.awaitReady(t, opsPorts[one])
		}
	})
	t.Run("two servers are killed", func(t *testing.T) { s.noMajority(t, c) })
	t.Run("upgrade", func(t *testing.T) {
		for _, some := range [][]string{{nodes[0]}, {nodes[1]}, {nodes[2]}, {"authsvc-1", "usersvc-1", "ridersvc-1"},
			{"authsvc-2", "usersvc-2", "ridersvc-2"}, {"gateway"}} {
			s.compose(t, append([]string{"up", "-d", "--no-deps", "--force-recreate"}, some...)...)
			for _, one := range some {
				s.awaitHealthy(t, one)
				if ops, ok := opsPorts[one]; ok {
					s.awaitReady(t, ops)
				}
			}
			took, slowest := c.everybody(t)
			t.Logf("%v is new: all rode on after %v, and the slowest step took %v", some, took, slowest)
		}
		s.threeCopies(t, js)
	})

	c.rest()
	s.clientsAreKnown(t)
	acked := c.rides()
	stored := s.cancelled(t)
	missing := 0
	for _, id := range acked {
		if !stored[id] {
			missing++
		}
	}
	t.Logf("%d rides", len(acked))
	if missing > 0 || len(acked) == 0 {
		t.Errorf("of %d rides that were brought to their end the ledger lacks %d", len(acked), missing)
	}
	out, err := s.run("run", "--rm", "-T", "ops", "pillion", "audit")
	if err != nil {
		t.Errorf("the audit of the ledger: %v", err)
	}
	t.Logf("%s", out)
}

// noMajority kills two servers, and starts one of them again.
func (s *stack) noMajority(t *testing.T, c *crowd) {
	token := c.enter(t, "patient@example.com", "user")
	for _, node := range nodes[:2] {
		docker(t, "kill", s.container(t, node))
	}
	begun := time.Now()
	a, err := c.call(t.Context(), http.MethodPost, c.at["user"][1]+"/book", "{}", token, "")
	if seconds, _ := strconv.Atoi(a.retryAfter); err != nil || a.status != http.StatusServiceUnavailable ||
		seconds <= 0 {
		t.Errorf("book without a majority: %d, Retry-After %q: %s %v", a.status, a.retryAfter, a.text, err)
	}
	said := time.Since(begun)
	t.Logf("without a majority the answer came after %v: %s", said, a.text)
	wait.Until(t, "usersvc-1 says that it is not ready", func() bool {
		resp, err := http.Get("http://127.0.0.1:" + s.ports[opsPorts["usersvc-1"]] + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		why, _ := io.ReadAll(resp.Body)
		if resp.StatusCode == http.StatusServiceUnavailable {
			t.Logf("/readyz: %s", bytes.ReplaceAll(bytes.TrimSpace(why), []byte("\n"), []byte("; ")))
		}
		return resp.StatusCode == http.StatusServiceUnavailable
	})
	wait.Until(t, "reading is answered with 503 too, because revocations are unknown", func() bool {
		a, err := c.call(t.Context(), http.MethodGet, c.at["user"][0]+"/bookings", "", token, "")
		return err == nil && a.status == http.StatusServiceUnavailable && a.retryAfter != ""
	})
	docker(t, "start", s.container(t, nodes[0]))
	took, _ := c.everybody(t)
	t.Logf("with one of the two back all rode on after %v", took)
	docker(t, "start", s.container(t, nodes[1]))
	s.awaitHealthy(t, nodes[0])
	s.awaitHealthy(t, nodes[1])
}

// nobodyInParticular checks that a container has no more rights than it needs. may are the
// capabilities that its program may ask for; it gets none.
func (s *stack) nobodyInParticular(t *testing.T, service, may string) {
	t.Helper()
	const facts = "{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Privileged}} " +
		"{{.HostConfig.CapDrop}} {{.HostConfig.CapAdd}} {{.HostConfig.SecurityOpt}}"
	// Engines differ in the names of capabilities.
	want := "65532:65532 true false [ALL] " + may + " [no-new-privileges:true]"
	if got := strings.ReplaceAll(s.inspect(t, service, facts), "CAP_", ""); got != want {
		t.Errorf("%s: %s, want %s", service, got, want)
	}
	if got := s.inspect(t, service, "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}"); strings.HasPrefix(got, "0 ") ||
		strings.HasSuffix(got, "<nil>") {
		t.Errorf("%s has no limits: %s", service, got)
	}
	if s.inspect(t, service, "{{.State.Running}}") == "true" {
		if out := strings.Fields(docker(t, "top", s.container(t, service), "-o", "pid,uid")); len(out) < 4 ||
			out[3] != "65532" {
			t.Errorf("%s runs as %q", service, out)
		}
		// where the engine is on this machine
		status, err := os.ReadFile("/proc/" + s.inspect(t, service, "{{.State.Pid}}") + "/status")
		if err == nil && !strings.Contains(string(status), "CapEff:\t0000000000000000\n") {
			t.Errorf("%s has capabilities:\n%s", service, status)
		}
	}
}

// unreadable checks, from the address of another container, that a client without TLS receives
// nothing.
func (s *stack) unreadable(t *testing.T) {
	t.Helper()
	for _, node := range nodes {
		ip := s.inspect(t, node, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
		// A server greets its clients before TLS, and then ignores all that is not encrypted.
		if heard := plain(t, ip+":4222", "CONNECT {\"verbose\":true}\r\nPING\r\n"); strings.Contains(heard, "PONG") ||
			strings.Contains(heard, "+OK") || !strings.Contains(heard, `"tls_required":true`) {
			t.Errorf("%s said to a client without TLS: %q", node, heard)
		}
		if heard := plain(t, ip+":6222", "INFO {}\r\nCONNECT {}\r\nPING\r\n"); strings.Contains(heard, "INFO") ||
			strings.Contains(heard, "PONG") {
			t.Errorf("%s said to another server without TLS: %q", node, heard)
		}
		if conn, err := net.DialTimeout("tcp", ip+":8222", 10*time.Second); err == nil {
			_ = conn.Close()
			t.Errorf("%s can be monitored from elsewhere", node)
		}
	}
	for service, port := range map[string]string{"authsvc-1": "3000", "usersvc-2": "3001", "ridersvc-1": "3002",
		"gateway": "8080"} {
		ip := s.inspect(t, service, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
		if heard := plain(t, ip+":"+port, "GET /public-key HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(heard,
			"HTTP/1.0 400 ") {
			t.Errorf("%s said without TLS: %q", service, heard)
		}
	}
}

// plain sends text to an address and returns all that it receives until the other side closes the
// connection.
func plain(t *testing.T, addr, say string) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, say); err != nil {
		return ""
	}
	heard, err := io.ReadAll(conn)
	if nerr, ok := err.(net.Error); ok && nerr.Timeout() { //nolint:errorlint // data, or an error after the close
		t.Errorf("%s does not hang up", addr)
	}
	return string(heard)
}

// clientsAreKnown checks that the services believe the gateway about its clients, by its address:
// no request is logged as the gateway's own, and none is warned of.
func (s *stack) clientsAreKnown(t *testing.T) {
	t.Helper()
	gateway := s.inspect(t, "gateway", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
	out, err := s.run(append([]string{"logs", "--no-color"}, services...)...)
	if err != nil || !strings.Contains(string(out), `"client":"`) {
		t.Fatalf("the services log no clients: %v", err)
	}
	for _, bad := range []string{`"client":"` + gateway + `"`, "--trusted-proxies", "trusted proxy"} {
		if at := strings.Index(string(out), bad); at >= 0 {
			t.Errorf("the services log %s: %.400s", bad, out[max(0, at-200):])
		}
	}
}

// operator connects as the operator and returns JetStream.
func (s *stack) operator(t *testing.T) jetstream.JetStream {
	t.Helper()
	key, err := nats.NkeyOptionFromSeed(s.file(t, "provision", "/key/operator.nk"))
	if err != nil {
		t.Fatal(err)
	}
	var urls []string
	for _, port := range []string{"4222", "4223", "4224"} {
		urls = append(urls, "tls://127.0.0.1:"+s.ports[port])
	}
	nc, err := nats.Connect(strings.Join(urls, ","), key, nats.RootCAs(s.file(t, "authsvc-1", "/ca/ca.crt")),
		nats.CustomInboxPrefix("_INBOX_operator"),
		nats.MaxReconnects(-1), nats.ReconnectWait(200*time.Millisecond), nats.Timeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// threeCopies waits until all eleven streams and buckets have three replicas that are up to date.
func (s *stack) threeCopies(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	var last string
	wait.Until(t, "three copies of everything", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		list := js.ListStreams(ctx)
		n, bad := 0, ""
		for info := range list.Info() {
			n++
			current := 0
			if info.Cluster != nil && info.Cluster.Leader != "" {
				current++
				for _, peer := range info.Cluster.Replicas {
					if peer.Current && !peer.Offline {
						current++
					}
				}
			}
			if info.Config.Replicas != 3 || current != 3 || info.Config.Storage != jetstream.FileStorage {
				bad += fmt.Sprintf("%s has %d replicas, %d of them up to date; ", info.Config.Name,
					info.Config.Replicas, current)
			}
		}
		if bad != last {
			last = bad
			if bad != "" {
				t.Log(bad)
			}
		}
		return list.Err() == nil && n >= 11 && bad == ""
	})
}

func ledgerLeader(t *testing.T, js jetstream.JetStream) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := js.Stream(ctx, bus.LedgerStream)
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().Cluster.Leader
}

// awaitHealthy waits until a container is healthy. For a NATS server this means that its replicas
// are up to date.
func (s *stack) awaitHealthy(t *testing.T, service string) {
	t.Helper()
	wait.Until(t, service+" is healthy", func() bool {
		return s.inspect(t, service,
			"{{.State.Health.Status}}") == "healthy"
	})
}

// cancelled returns the bookings that are cancelled by verified events of the ledger.
func (s *stack) cancelled(t *testing.T) map[string]bool {
	t.Helper()
	out, err := s.run("run", "--rm", "-T", "ops", "pillion", "bookings", "list", "--state", "cancelled",
		"--limit", "1000000", "--json")
	if err != nil {
		t.Fatalf("list bookings: %v\n%s", err, out)
	}
	all := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		var b struct {
			ID string `json:"booking_id"`
		}
		if json.Unmarshal([]byte(line), &b) == nil { // Compose prints other lines as well
			all[b.ID] = true
		}
	}
	return all
}
