package bus_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
)

// listen returns the address of a listener, which hands each connection to say until the test ends.
func listen(t *testing.T, say func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var taken []net.Conn
	var loop sync.WaitGroup
	loop.Go(func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			taken = append(taken, c)
			say(c)
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		loop.Wait()
		for _, c := range taken {
			_ = c.Close()
		}
	})
	return l.Addr().String()
}

// Without NATS, or with a wrong one, operators learn the address, the reason and the remedy: in one
// sentence, once.
func TestTrouble(t *testing.T) {
	t.Parallel()
	certs, others := certificates(t, "127.0.0.1"), certificates(t, "127.0.0.1")
	secure, open := bustest.Serve(t, "127.0.0.1:0", certs), bustest.Serve(t, "127.0.0.1:0", "")
	for _, s := range []*embedded.Server{secure, open} {
		t.Cleanup(func() { bustest.StopServer(t, s) })
	}
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	nobody, mute := bustest.FreeAddr(t), listen(t, func(net.Conn) {})
	hangsUp := listen(t, func(c net.Conn) { _ = c.Close() })
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		config bus.Config
		want   *fault.Error
		says   string
	}{
		"nobody":                        {bus.Config{URL: "nats://" + nobody}, bus.ErrUnreachable, "cannot be reached: connection refused. See that it is running"},
		"a name without a host":         {bus.Config{URL: "nats://nats.invalid:4222"}, bus.ErrUnreachable, "NATS at nats://nats.invalid:4222 cannot be reached: "},
		"somebody who is mute":          {bus.Config{URL: "nats://" + mute}, bus.ErrUnreachable, "no answer in time. See that"},
		"a web server":                  {bus.Config{URL: "nats://" + web.Listener.Addr().String()}, bus.ErrUnreachable, "See that --nats-url is right."},
		"somebody who hangs up":         {bus.Config{URL: "nats://" + hangsUp}, bus.ErrUnreachable, "cannot be used as NATS: "},
		"a server that asks for no key": {bus.Config{URL: open.URL(), Key: key, Inbox: "me"}, bus.ErrNotLetIn, open.URL()},
		"another CA":                    {bus.Config{URL: secure.URL(), CA: filepath.Join(others, "ca.crt")}, bus.ErrNotTrusted, "certificate signed by unknown authority"},
		"another CA, and names that mean nothing here": {
			bus.Config{URL: "nats://nats-1.invalid:4222," + secure.URL() + ",nats://nats-2.invalid:4222,nats://" +
				nobody, CA: filepath.Join(others, "ca.crt")},
			bus.ErrNotTrusted, strings.TrimPrefix(secure.URL(), "tls://") + ": ",
		},
		"a password": {bus.Config{URL: "nats://me:secret@" + nobody}, bus.ErrUnreachable, "NATS at nats://" + nobody + " cannot"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, told := new(wait.Journal), make(chan error, 10)
			c.config.Log = slog.New(slog.NewJSONHandler(log, nil))
			conn := bustest.ConnectTo(t, c.config)
			c.config.ShareMetricsWith = conn
			bustest.ConnectTo(t, c.config) // another one of the same process
			c.config.ShareMetricsWith, c.config.Trouble, c.config.Log = nil, func(err error) { told <- err }, nil
			if err := bustest.ConnectTo(t, c.config).Reach(t.Context()); !errors.Is(err, c.want) {
				t.Errorf("reach it: %v, want %v", err, c.want)
			}
			err := <-told
			f := fault.From(err)
			if !errors.Is(err, c.want) || !strings.Contains(f.Message, c.says) || f.Cause != nil ||
				strings.Contains(f.Message, "secret") {
				t.Errorf("it is told %v, want something with %q", err, c.says)
			}
			becomes(t, name, conn, c.want)
			wait.Until(t, "it is logged", func() bool {
				return strings.Contains(log.String(),
					fmt.Sprintf("%q", f.Message))
			})
			if n := strings.Count(log.String(), "\n"); n != 1 {
				t.Errorf("the log has %d lines:\n%s", n, log)
			}
			select {
			case again := <-told:
				t.Errorf("it is told again: %v", again)
			default:
			}
		})
	}
}

// The reason is reported again after a connection in between.
func TestTroubleAgain(t *testing.T) {
	t.Parallel()
	addr, told := bustest.FreeAddr(t), make(chan error, 10)
	conn := bustest.ConnectTo(t, bus.Config{URL: "nats://" + addr, Trouble: func(err error) { told <- err }})
	for range 2 {
		if err := <-told; !errors.Is(err, bus.ErrUnreachable) {
			t.Errorf("it is told %v", err)
		}
		server := bustest.Serve(t, addr, "")
		if becomes(t, "there is a server", conn, nil); conn.Reach(t.Context()) != nil {
			t.Error("it is not reached")
		}
		bustest.StopServer(t, server)
	}
	becomes(t, "there is none", conn, bus.ErrUnreachable)
}
