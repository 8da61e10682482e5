package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/test/proctest"
	"github.com/example/pillion/web/webtest"
)

// TestStories runs the scripts of testdata/stories, each on its own system. These are their
// commands, besides those of testscript:
//
//	system [flag...]           start the whole system; set AUTH, USER, RIDER, OPS, NATS and DATA
//	certs                      create certificates in CERTS; AUTH, USER and RIDER become HTTPS
//	login NAME email role      log in, after registering unless it is a demo account; set NAME
//	                           to the header with the token
//	curl status arg...         run curl, and fail unless it gets the status; stdout is the body,
//	                           stderr the header
//	until pattern arg...       run curl until the body matches
//	field NAME field           set NAME to a field of the JSON in stdout
//	other NAME digits          set NAME to four other digits
//	halt                       stop the system in order
//	elsewhere                  start an empty NATS server with the system's keys; set ELSEWHERE
//	pillion arg...             run pillion, which must succeed, or fail with ! in front
//	operate arg...             run pillion bookings, which must succeed, or fail with ! in front
func TestStories(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("PILLION_README") != "" {
			t.Fatal("these stories need curl")
		}
		t.Skip("there is no curl here")
	}
	files, err := filepath.Glob("testdata/stories/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			told := &storyteller{ports: newPorts(t), data: t.TempDir(), proxy: webtest.Proxy(t, "../..")}
			testscript.Run(t, testscript.Params{
				Files: []string{file},
				Setup: told.setup,
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"system": told.system, "certs": told.certs, "login": told.login, "curl": told.curl,
					"until": told.until, "field": told.field, "operate": told.operate, "other": told.other,
					"halt": told.halt, "elsewhere": told.elsewhere, "pillion": told.pillion,
				},
				RequireExplicitExec: true,
			})
		})
	}
}

// A storyteller implements the commands of one story.
type storyteller struct {
	t     testing.TB // of the script
	ports ports
	data  string
	proxy string            // of curl that is run by exec
	prog  *proctest.Program // the system
}

const storyPatience = 30 * time.Second

func (s *storyteller) setup(env *testscript.Env) error {
	s.t = env.T().(testing.TB)
	for name, value := range map[string]string{
		"AUTH": "http://" + s.ports.auth, "USER": "http://" + s.ports.user, "RIDER": "http://" + s.ports.rider,
		"OPS":  "http://" + s.ports.ops,
		"NATS": "nats://" + s.ports.nats, "DATA": s.data, "JSON": "Accept: application/json",
		"http_proxy": s.proxy, "no_proxy": "",
	} {
		env.Setenv(name, value)
	}
	return nil
}

func (s *storyteller) system(ts *testscript.TestScript, _ bool, args []string) {
	p := s.ports
	prog := proctest.Begin(s.t, "pillion", append([]string{
		"--demo", "--data", s.data, "--auth-addr", p.auth, "--user-addr", p.user, "--rider-addr", p.rider, "--ops-addr",
		p.ops, "--nats-addr", p.nats,
	}, args...)...)
	s.prog = prog
	prog.Ready(s.t)
}

func (s storyteller) certs(ts *testscript.TestScript, _ bool, _ []string) {
	dir := filepath.Join(s.data, "certs")
	if out, err := exec.Command(proctest.Path("pillion"), "certs", "init", "--certs",
		dir).CombinedOutput(); err != nil {
		ts.Fatalf("pillion certs init: %v: %s", err, out)
	}
	for name, value := range map[string]string{"CERTS": dir, "AUTH": "https://" + s.ports.auth, "USER": "https://" +
		s.ports.user, "RIDER": "https://" + s.ports.rider} {
		ts.Setenv(name, value)
	}
}

// wait waits until ok returns true.
func (s *storyteller) wait(ts *testscript.TestScript, what string, ok func() bool) {
	deadline := time.After(storyPatience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("not in time: %s", what)
		}
	}
}

func (s *storyteller) login(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: login NAME email role")
	}
	name, email, role := args[0], args[1], args[2]
	password := "password123"
	body := func() string {
		b, err := json.Marshal(map[string]string{"email": email, "password": password, "role": role})
		ts.Check(err)
		return string(b)
	}
	ctx, cancel := context.WithTimeout(context.Background(), storyPatience)
	defer cancel()
	if email != "john@example.com" && email != "rider@example.com" {
		password = "correct horse battery"
		a, err := call(ctx, "POST", "http://"+s.ports.auth+"/register", body())
		ts.Check(err)
		if a.status != 201 {
			ts.Fatalf("register: %d %s", a.status, a.body)
		}
	}
	a, err := call(ctx, "POST", "http://"+s.ports.auth+"/login", body())
	ts.Check(err)
	if a.status != 200 {
		ts.Fatalf("login: %d %s", a.status, a.body)
	}
	ts.Setenv(name, "Authorization: Bearer "+a.field("token"))
}

// An asked is what curl has received.
type asked struct{ method, url, status, header, body string }

// ask runs curl. The answer must be as the OpenAPI documents have it.
func (s *storyteller) ask(ts *testscript.TestScript, args []string) (a asked) {
	ctx, cancel := context.WithTimeout(context.Background(), storyPatience)
	defer cancel()
	file := filepath.Join(s.t.TempDir(), "header")
	out, err := exec.CommandContext(ctx, "curl", append([]string{"--silent", "--show-error", "--max-time", "25",
		"--dump-header", file, "--write-out", "\n%{method} %{url_effective} %{http_code}"}, args...)...).CombinedOutput()
	if err != nil {
		ts.Fatalf("curl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	end := strings.LastIndexByte(string(out), '\n')
	_, err = fmt.Sscan(string(out[end:]), &a.method, &a.url, &a.status)
	ts.Check(err)
	a.header, a.body = ts.ReadFile(file), string(out[:end])
	ts.Check(a.check(s.t))
	return a
}

// check holds the answer against the OpenAPI documents.
func (a asked) check(t testing.TB) error {
	req, err := http.NewRequestWithContext(t.Context(), a.method, a.url, nil)
	if err != nil {
		return err
	}
	resp := &http.Response{Body: io.NopCloser(strings.NewReader(a.body))}
	if resp.StatusCode, err = strconv.Atoi(a.status); err != nil {
		return err
	}
	_, fields, _ := strings.Cut(a.header, "\n") // after the status line
	header, err := textproto.NewReader(bufio.NewReader(strings.NewReader(fields))).ReadMIMEHeader()
	resp.Header = http.Header(header)
	webtest.Answered(t, req, resp, "../..")
	return err
}

func (s *storyteller) curl(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: curl status arg...")
	}
	a := s.ask(ts, args[1:])
	_, err := ts.Stdout().Write([]byte(a.body))
	ts.Check(err)
	_, err = ts.Stderr().Write([]byte(a.header))
	ts.Check(err)
	if a.status != args[0] {
		ts.Fatalf("answered with %s, want %s: %s", a.status, args[0], a.body)
	}
}

func (s *storyteller) until(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: until pattern arg...")
	}
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	s.wait(ts, args[0], func() bool {
		return pattern.MatchString(s.ask(ts, args[1:]).body)
	})
}

func (s *storyteller) field(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: field NAME field")
	}
	value := answer{body: ts.ReadFile("stdout")}.field(args[1])
	if value == "" || value == "<nil>" {
		ts.Fatalf("there is no %s in %s", args[1], ts.ReadFile("stdout"))
	}
	ts.Setenv(args[0], value)
}

func (s *storyteller) halt(*testscript.TestScript, bool, []string) { s.prog.Stop(s.t) }

func (s *storyteller) elsewhere(ts *testscript.TestScript, _ bool, _ []string) {
	public, err := access.LoadOrCreate(filepath.Join(s.data, "services"))
	ts.Check(err)
	server, err := embedded.Start(embedded.Config{Dir: s.t.TempDir(), Addr: "127.0.0.1:0",
		Access: access.Conf(public, false)})
	ts.Check(err)
	s.t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			s.t.Error(err)
		}
	})
	ts.Setenv("ELSEWHERE", server.URL())
}

func (s *storyteller) pillion(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*storyPatience)
	defer cancel()
	out, err := exec.CommandContext(ctx, proctest.Path("pillion"), args...).CombinedOutput()
	_, failed := ts.Stdout().Write(out)
	ts.Check(failed)
	if (err != nil) != neg || ctx.Err() != nil {
		ts.Fatalf("pillion %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func (s *storyteller) operate(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), storyPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, proctest.Path("pillion"), append(append([]string{"bookings"}, args...),
		"--nats-url", "nats://"+s.ports.nats, "--service-key", filepath.Join(s.data, "services", "operator.nk"))...)
	out, err := cmd.CombinedOutput()
	_, failed := ts.Stdout().Write(out)
	ts.Check(failed)
	if (err != nil) != neg {
		ts.Fatalf("pillion bookings %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func (s *storyteller) other(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: other NAME digits")
	}
	other := "0000"
	if args[1] == other {
		other = "0001"
	}
	ts.Setenv(args[0], other)
}
