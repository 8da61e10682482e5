//go:build linux

package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/certfile"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
	"github.com/example/pillion/web/webtest"
)

// The instances of a service differ in their loopback address, and not in their ports, because the
// gateway has one port for the health checks of a service. The gateway reaches them from 127.0.0.1.
// Clients have addresses of their own.
const (
	gatewayHost = "127.0.0.1"
	alice, bob  = "127.0.0.21", "127.0.0.22"
)

var hosts = []string{"127.0.0.11", "127.0.0.12"}

// kinds are the services, with the word for each in flags and in the gateway's variables.
var kinds = map[string]string{"authsvc": "auth", "usersvc": "user", "ridersvc": "rider"}

// A system is a NATS server, two instances of each service, and the gateway.
type system struct {
	t         *testing.T
	at        string // the URL of the gateway
	certs     string // the folder of certificates
	gateway   *proctest.Program
	operator  []string            // the flags of an operator
	env       []string            // of the instances
	flags     map[string][]string // of an instance, by service and host
	instances map[string]*proctest.Program
}

// start starts a system, with these variables and flags for all instances, and waits until the
// gateway leads to each service.
func start(t *testing.T, env []string, more ...string) *system {
	t.Helper()
	if os.Getenv(wantedEnv) == "" {
		t.Skip("The gateway is tested by make gateway-test.")
	}
	caddy, err := exec.LookPath("caddy")
	if err != nil {
		t.Fatalf("make gateway-test builds Caddy and puts it into the path: %v", err)
	}
	dir := t.TempDir()
	certs, keys := filepath.Join(dir, "certs"), filepath.Join(dir, "services")
	s := &system{t: t, env: env, certs: certs, flags: map[string][]string{},
		instances: map[string]*proctest.Program{}}
	nats := s.nats(dir, keys)
	s.operator = []string{nats, "--service-key=" + filepath.Join(keys, "operator.nk")}
	s.run("pillion", append([]string{"provision"}, s.operator...)...)
	s.certify("--for=authsvc,usersvc,ridersvc,gateway")

	ports, err := bustest.FreePorts(2*len(kinds) + 2)
	if err != nil {
		t.Fatal(err)
	}
	next := func() int { defer func() { ports = ports[1:] }(); return ports[0] }
	s.at = fmt.Sprintf("https://%s:%d", gatewayHost, ports[len(ports)-1])
	health := fmt.Sprintf("%s:%d", gatewayHost, ports[len(ports)-2])
	cmd := exec.Command(caddy, "run", "--config", "../../deploy/caddy/Caddyfile", "--adapter", "caddyfile")
	cmd.Env = []string{"HOME=" + dir, "BIND=" + gatewayHost, fmt.Sprintf("PORT=%d", ports[len(ports)-1]), "HEALTH_ADDR=" + health,
		"TLS_CERT_FILE=" + filepath.Join(certs, "gateway.crt"), "TLS_KEY_FILE=" + filepath.Join(certs, "gateway.key"),
		"CA_FILE=" + filepath.Join(certs, "ca.crt")}
	own := map[string][]string{
		"authsvc":  {"--data=" + filepath.Join(dir, "auth"), "--services=" + keys, "--page"},
		"usersvc":  {"--booking-deadline=1h", "--book-limit=0", "--open-bookings=0"},
		"ridersvc": {"--booking-deadline=1h"},
	}
	for name, word := range kinds {
		port, ops := next(), next()
		var urls []string
		for _, host := range hosts {
			urls = append(urls, fmt.Sprintf("https://%s:%d", host, port))
			s.flags[name+host] = append([]string{nats, "--service-key=" + filepath.Join(keys, name+".nk"),
				fmt.Sprintf("--%s-addr=%s:%d", word, host, port), fmt.Sprintf("--ops-addr=%s:%d", host, ops),
				"--tls-cert=" + filepath.Join(certs, name+".crt"), "--tls-key=" + filepath.Join(certs, name+".key"),
				"--trusted-proxies=" + gatewayHost}, more...)
			s.flags[name+host] = append(s.flags[name+host], own[name]...)
			s.begin(name, host)
		}
		word = strings.ToUpper(word)
		cmd.Env = append(cmd.Env, word+"="+strings.Join(urls, " "), fmt.Sprintf("%s_OPS_PORT=%d", word, ops))
	}
	for _, p := range s.instances {
		p.Ready(t)
	}
	s.gateway = proctest.Run(t, "caddy", cmd)
	from := s.from(alice)
	for _, path := range []string{"/auth/public-key", "/user/bookings", "/rider/bookings"} {
		wait.Until(t, "the gateway leads to "+path, func() bool {
			a, err := from.try(http.MethodGet, path, "", "", "")
			return err == nil && (a.status == http.StatusOK || a.status == http.StatusUnauthorized)
		})
	}
	if status, text := proctest.Get(t, "http://"+health+"/healthz"); status != http.StatusOK {
		t.Errorf("the health check of the gateway: %d %s", status, text)
	}
	return s
}

// nats starts a NATS server, makes the keys of all services, and returns the flag with its URL.
func (s *system) nats(dir, keys string) string {
	s.t.Helper()
	program := filepath.Join(dir, "nats-server")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "github.com/nats-io/nats-server/v2")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		s.t.Fatalf("build nats-server: %v\n%s", err, out)
	}
	if err := os.MkdirAll(filepath.Join(dir, "keys"), 0o700); err != nil {
		s.t.Fatal(err)
	}
	s.run("pillion", "keys", "init", "--services", keys, "--conf", filepath.Join(dir, "keys", "keys.conf"))
	access, err := os.ReadFile("../../deploy/nats/access.conf")
	if err != nil {
		s.t.Fatal(err)
	}
	addr := bustest.FreeAddr(s.t)
	for name, text := range map[string]string{"access.conf": string(access), "nats.conf": fmt.Sprintf(`
		server_name: n1
		listen: %q
		jetstream { store_dir: %q, sync_interval: always, max_file_store: 64GB, max_memory_store: 64MB }
		include ./access.conf`, addr, filepath.Join(dir, "store"))} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	proctest.Run(s.t, "nats-server", exec.Command(program, "-c", filepath.Join(dir, "nats.conf")))
	return "--nats-url=nats://" + addr
}

// certify makes certificates, with the CA that there is.
func (s *system) certify(more ...string) {
	s.t.Helper()
	s.run("pillion", append([]string{"certs", "init", "--certs=" + s.certs, "--hosts=" + strings.Join(hosts, ",")}, more...)...)
}

// run runs a command to its end.
func (s *system) run(name string, args ...string) (out string) {
	s.t.Helper()
	status, out, stderr := proctest.Finish(s.t, name, args...)
	if status != 0 {
		s.t.Fatalf("%s %q: status %d, %s", name, args, status, stderr)
	}
	return out
}

// begin starts an instance.
func (s *system) begin(name, host string) {
	s.t.Helper()
	cmd := proctest.Command(context.Background(), name, s.flags[name+host]...)
	cmd.Env = append(append(cmd.Env, "LOG_FORMAT=json"), s.env...)
	p := proctest.Run(s.t, name, cmd)
	p.Listening(s.t)
	s.instances[name+host] = p
}

// A client has an address of its own, and repeats nothing by itself.
type client struct {
	*http.Client
	tcp  *http.Transport
	pool *x509.CertPool // the CAs it trusts
	t    *testing.T
	at   string
}

// from returns a client with an address.
func (s *system) from(address string) client {
	s.t.Helper()
	pool, err := certfile.Authorities(filepath.Join(s.certs, "ca.crt"))
	if err != nil {
		s.t.Fatal(err)
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	transport := &http.Transport{DialContext: dialer.DialContext, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}}
	s.t.Cleanup(transport.CloseIdleConnections)
	return client{&http.Client{Transport: webtest.Transport(s.t, transport, "../..")}, transport, pool,
		s.t, s.at}
}

// An answer has the members that the tests read.
type answer struct {
	ID    string `json:"booking_id"`
	State string `json:"state"`
	Token string `json:"token"`
	Code  string `json:"code"`

	status int
	header http.Header
	text   string
}

// ask makes a request, with a token and a key unless they are empty; headers are names and values
// in turn. The caller reads the answer.
func (c client) ask(
	ctx context.Context, method, path, body, token, key string, headers ...string,
) (*http.Response, error) {
	url := path
	if strings.HasPrefix(path, "/") {
		url = c.at + path
	}
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for pair := range slices.Chunk(append([]string{"Content-Type", "application/json", "Accept", "application/json",
		"Authorization", token, "Idempotency-Key", key}, headers...), 2) {
		if pair[1] != "" {
			req.Header.Set(pair[0], pair[1])
		}
	}
	return c.Do(req)
}

// try makes a request and reads the answer.
func (c client) try(method, path, body, token, key string, headers ...string) (a answer, err error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), wait.Patience)
	defer cancel()
	resp, err := c.ask(ctx, method, path, body, token, key, headers...)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return a, err
	}
	a.status, a.header, a.text = resp.StatusCode, resp.Header, string(text)
	_ = json.Unmarshal(text, &a) // what is not JSON has no members
	return a, nil
}

// must is try for an answer with a status.
func (c client) must(status int, method, path, body, token, key string, headers ...string) answer {
	c.t.Helper()
	a, err := c.try(method, path, body, token, key, headers...)
	if err != nil || a.status != status {
		c.t.Fatalf("%s %s: %d %s (%v), want %d", method, path, a.status, a.text, err, status)
	}
	return a
}

// enter registers an account, and returns the Authorization of its token.
func (c client) enter(email, role string) string {
	c.t.Helper()
	who := fmt.Sprintf(`{"email":%q,"password":"a password that is long","role":%q}`, email, role)
	c.must(http.StatusCreated, http.MethodPost, "/auth/register", who, "", "")
	return "Bearer " + c.must(http.StatusOK, http.MethodPost, "/auth/login", who, "", "").Token
}
