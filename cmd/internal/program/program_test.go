package program_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
)

func TestBind(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := program.ListenAddr{Name: "usersvc", Flag: "--user-addr", Addr: "127.0.0.1:0"}

	listeners, err := program.Bind(free, free)
	if err != nil || len(listeners) != 2 {
		t.Fatalf("Bind: %v, %v", listeners, err)
	}
	program.Close(listeners)
	if _, err := net.Dial("tcp", listeners[0].Addr().String()); err == nil {
		t.Error("a closed listener still accepts")
	}

	_, err = program.Bind(free,
		program.ListenAddr{Name: "authsvc", Flag: "--auth-addr", Addr: taken.Addr().String()},
		// TEST-NET-1 belongs to no machine
		program.ListenAddr{Name: "The ops address", Flag: "--ops-addr", Addr: "192.0.2.1:1"})
	if !errors.Is(err, program.ErrListen) {
		t.Fatalf("Bind to a taken port: %v", err)
	}
	for _, want := range []string{
		"authsvc cannot listen on " + taken.Addr().String() +
			": address already in use. Choose another address with --auth-addr.",
		"The ops address cannot listen on 192.0.2.1:1: cannot assign requested address. Choose another address with --ops-addr.",
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
		{"info", "", `"msg":"told"`}, // a buffer is no terminal
		{"info", "json", `"msg":"told"`},
		{"info", "text", `level=INFO msg=told`},
		{"warn", "text", ``},
	} {
		var b bytes.Buffer
		log := program.Logger(setting.Log{Level: setting.Choice{Value: c.level},
			Format: setting.Choice{Value: c.format}}, &b)
		log.Debug("kept")
		log.Info("told")
		if got := b.String(); strings.Contains(got, "kept") || !strings.Contains(got, c.want) ||
			(c.want == "") != (got == "") {
			t.Errorf("%s, %s: %q, want %q", c.level, c.format, got, c.want)
		}
	}
}

func TestBanner(t *testing.T) {
	var out, logged bytes.Buffer
	err := program.Banner(&out, slog.New(slog.NewTextHandler(&logged, nil)), "pillion 1.2.3",
		[]program.Address{{Name: "usersvc", URL: "http://127.0.0.1:3001", For: "POST /book"}}, []string{"curl it"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"pillion 1.2.3\n", "usersvc", "http://127.0.0.1:3001", "POST /book", "  curl it\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("not printed: %q\n%s", want, &out)
		}
	}
	if !strings.Contains(logged.String(), "usersvc=http://127.0.0.1:3001") {
		t.Errorf("not logged: %s", &logged)
	}
}
