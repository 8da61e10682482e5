package pipe_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"

	"github.com/example/pillion/internal/pipe"
	"github.com/example/pillion/internal/wait"
)

func TestMain(m *testing.M) { os.Exit(wait.Main(m)) }

// TestHTTP makes a request over a pipe, and none once the listener is closed.
func TestHTTP(t *testing.T) {
	l := pipe.Listen()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "over a pipe")
	})}
	served := make(chan error)
	go func() { served <- server.Serve(l) }()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return l.Dial(ctx) }
	transport := &http.Transport{DialContext: dial}
	client := &http.Client{Transport: transport}
	resp, err := client.Get("http://pillion.example/")
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "over a pipe" {
		t.Errorf("%q, %v", body, err)
	}
	resp.Body.Close()
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	transport.CloseIdleConnections()
	var failed *net.OpError
	resp, err = client.Get("http://pillion.example/")
	if err == nil {
		resp.Body.Close()
	}
	if !errors.As(err, &failed) || failed.Op != "dial" {
		t.Errorf("a closed listener is dialed: %v", err)
	}
}
