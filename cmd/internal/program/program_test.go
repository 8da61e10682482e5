package program_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
)

func TestBind(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := program.ListenAddr{Name: "usersvc", Flag: "--user-addr (USER_ADDR)", Addr: "127.0.0.1:0"}

	listeners, err := program.Bind(free, free)
	if err != nil || len(listeners) != 2 {
		t.Fatalf("Bind: %v, %v", listeners, err)
	}
	program.Close(listeners)
	if _, err := net.Dial("tcp", listeners[0].Addr().String()); err == nil {
		t.Error("a closed listener still accepts")
	}

	_, err = program.Bind(free,
		program.ListenAddr{Name: "authsvc", Flag: "--auth-addr (AUTH_ADDR)", Addr: taken.Addr().String()},
		// TEST-NET-1 belongs to no machine
		program.ListenAddr{Name: "The ops address", Flag: "--ops-addr (OPS_ADDR)", Addr: "192.0.2.1:1"})
	if !errors.Is(err, program.ErrListen) {
		t.Fatalf("Bind to a taken port: %v", err)
	}
	for _, want := range []string{
		"authsvc cannot listen on " + taken.Addr().String() +
			": address already in use. Choose another address with --auth-addr (AUTH_ADDR).",
		"The ops address cannot listen on 192.0.2.1:1: cannot assign requested address. Choose another address with --ops-addr (OPS_ADDR).",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing: %s\n%v", want, err)
		}
	}
}

func health(ctx context.Context, ops string) error {
	return program.HealthCheck{Ops: setting.Ops{OpsAddr: setting.Addr{Value: ops}}}.Run(ctx, program.Env{})
}

func TestHealth(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			t.Errorf("request of %s", r.URL.Path)
		}
		w.WriteHeader(status)
	}))
	defer server.Close()
	addr := server.Listener.Addr().String()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, ops := range []string{addr, ":" + port, "0.0.0.0:" + port} {
		if err := health(t.Context(), ops); err != nil {
			t.Errorf("Health(%s): %v", ops, err)
		}
	}
	status = http.StatusInternalServerError
	if err := health(t.Context(), addr); !errors.Is(err, program.ErrUnhealthy) {
		t.Errorf("Health of a sick process: %v", err)
	}
	server.Close()
	if err := health(t.Context(), addr); !errors.Is(err, program.ErrUnhealthy) {
		t.Errorf("Health without a process: %v", err)
	}
}

func TestLogger(t *testing.T) {
	for _, c := range []struct{ level, format, want string }{
		{"info", "", `"msg":"told","took":"2ms","retry_in":"20µs"`}, // a buffer is no terminal
		{"info", "json", `"msg":"told","took":"2ms","retry_in":"20µs"`},
		{"info", "text", `level=INFO msg=told took=2ms retry_in=20µs`},
		{"warn", "text", ``},
	} {
		var b bytes.Buffer
		log := program.Logger(setting.Log{Level: setting.Choice{Value: c.level},
			Format: setting.Choice{Value: c.format}}, &b)
		log.Debug("kept")
		log.Info("told", "took", 1500*time.Microsecond, "retry_in", 20*time.Microsecond)
		if got := b.String(); strings.Contains(got, "kept") || !strings.Contains(got, c.want) ||
			(c.want == "") != (got == "") {
			t.Errorf("%s, %s: %q, want %q", c.level, c.format, got, c.want)
		}
	}
}

func TestBanner(t *testing.T) {
	show := func(format string) string {
		var out, errs bytes.Buffer
		env := program.Env{Name: "pillion", Stdout: &out, Stderr: &errs}
		env.Banner(setting.Log{Format: setting.Choice{Value: format}},
			[]program.Address{{Name: "usersvc", URL: "http://0.0.0.0:3001", For: "POST /book"}}, []string{"curl it"})
		if out.Len() > 0 {
			t.Errorf("as %q it prints on standard output:\n%s", format, &out)
		}
		return errs.String()
	}
	text := show("text")
	for _, want := range []string{"usersvc=http://0.0.0.0:3001", "\npillion " + program.Version() + "\n",
		"http://0.0.0.0:3001", "POST /book", "  curl it\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("not printed: %q\n%s", want, text)
		}
	}
	for _, format := range []string{"json", ""} { // a buffer is no terminal
		line, rest, _ := strings.Cut(show(format), "\n")
		var entry map[string]string
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry["usersvc"] != "http://0.0.0.0:3001" ||
			rest != "" {
			t.Errorf("as %q it prints %s\n%s (%v)", format, line, rest, err)
		}
	}
}
