package bench

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

// BenchmarkCluster measures three NATS servers that sync before each acknowledgement, with two
// instances of each service that books. All of it is on this machine. With -before it compares
// everything with the same of another commit, and with -env alone with the same without it.
func BenchmarkCluster(b *testing.B) {
	build(b, "github.com/nats-io/nats-server/v2")
	our, their := newCluster(b, "this", programs()), (*system)(nil)
	if name, folder := beside(); name != "" {
		our.pause(b)
		their = newCluster(b, name, folder)
		our.alone, their.alone = false, false
		our.pause(b)
		their.pause(b)
	}
	say("%s Three replicas.\n\n%s", machine(), header)
	var notes []string
	for _, t := range []task{bookTask, acceptTask, rideTask} {
		l := compare(b, always, most, side{our, t}, side{their, t})
		say("%s", l)
		notes = append(notes, our.halfRate(b, l))
	}
	notes = append(notes, our.lag(b, always), our.audit(b, always))
	if their != nil {
		notes = append(notes, their.lag(b, always))
	}
	say("\n- %s", strings.Join(notes, "\n- "))
	b.ReportMetric(0, "ns/op")
}

// build builds a program into the folder of the others.
func build(b *testing.B, program string) {
	b.Helper()
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Dir(proctest.Path("pillion")), program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("build %s: %v\n%s", program, err, out)
	}
}

// newCluster starts a cluster and makes its accounts. It is not stopped until it has to take turns.
func newCluster(b *testing.B, name, programs string) *system {
	b.Helper()
	dir := b.TempDir()
	keys, conf := filepath.Join(dir, "services"), filepath.Join(dir, "nats")
	if err := os.MkdirAll(filepath.Join(conf, "keys"), 0o700); err != nil {
		b.Fatal(err)
	}
	s := &system{name: name, alone: true, keys: keys}
	run(b, programs, "keys", "init", "--services", keys, "--conf", filepath.Join(conf, "keys", "keys.conf"))
	urls := s.servers(b, programs, conf)
	nats := "--nats-url=" + urls
	run(b, programs, "provision", nats, "--replicas=3", "--service-key="+filepath.Join(keys, "operator.nk"))
	service := func(name, flag string, args ...string) string {
		p := start(b, settingsOf(s.name), filepath.Join(programs, name), append([]string{nats, "--" + flag + "=127.0.0.1:0",
			"--ops-addr=127.0.0.1:0", "--service-key=" + filepath.Join(keys, name+".nk")}, args...)...)
		s.processes = append(s.processes, p)
		p.listening(b)
		return p.host(name)
	}
	s.authAt = service("authsvc", "auth-addr", "--data="+filepath.Join(dir, "auth"), "--services="+keys)
	for range 2 {
		s.userAt = append(s.userAt, service("usersvc", "user-addr"))
		s.riderAt = append(s.riderAt, service("ridersvc", "rider-addr"))
	}
	for _, p := range s.processes {
		if p.at != nil {
			p.ready(b)
		}
	}
	s.operator = operate(b, urls, keys)
	s.signUp(b)
	return s
}

// servers starts three NATS servers, with the permissions of the commit that the programs are of,
// and returns their URLs. A folder of programs is bin of a working tree.
func (s *system) servers(b *testing.B, programs, conf string) string {
	b.Helper()
	const n = 3
	ports, err := bustest.FreePorts(3 * n) // for clients, for the other servers, and for health
	if err != nil {
		b.Fatal(err)
	}
	var urls, routes []string
	for i := range n {
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", ports[i]))
		routes = append(routes, fmt.Sprintf("nats-route://127.0.0.1:%d", ports[n+i]))
	}
	access, err := os.ReadFile(filepath.Join(programs, "..", "deploy", "nats", "access.conf"))
	if os.IsNotExist(err) { // they are built from this source
		access, err = os.ReadFile("../../deploy/nats/access.conf")
	}
	if err != nil {
		b.Fatal(err)
	}
	write := func(name, text string) string {
		path := filepath.Join(conf, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
		return path
	}
	write("access.conf", string(access))
	for i := range n {
		path := write(fmt.Sprintf("n%d.conf", i), fmt.Sprintf(`
			server_name: n%d
			listen: "127.0.0.1:%d"
			http: "127.0.0.1:%d"
			cluster { name: pillion, listen: "127.0.0.1:%d", routes: [%s] }
			jetstream { store_dir: %q, sync_interval: always, max_file_store: 64GB, max_memory_store: 64MB }
			include ./access.conf`, i, ports[i], ports[2*n+i], ports[n+i], strings.Join(routes, ", "),
			filepath.Join(conf, fmt.Sprint("store", i))))
		s.processes = append(s.processes, start(b, nil, proctest.Path("nats-server"), "-c", path))
	}
	for i := range n {
		wait.Until(b, "NATS is healthy", func() bool {
			resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/healthz", ports[2*n+i]))
			if err != nil {
				return false
			}
			defer resp.Body.Close() // its status is enough
			return resp.StatusCode == http.StatusOK
		})
	}
	return strings.Join(urls, ",")
}

// run runs a command of pillion to its end.
func run(b *testing.B, programs string, args ...string) {
	b.Helper()
	if out, err := exec.Command(filepath.Join(programs, "pillion"), args...).CombinedOutput(); err != nil {
		b.Fatalf("pillion %s: %v\n%s", args[0], err, out)
	}
}
