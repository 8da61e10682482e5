package wiring

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
	"github.com/example/pillion/token/trustkey"
)

// TestStopBesideSilentNATS stops all tasks of usersvc and ridersvc while NATS says nothing, and has
// them wait no longer than lastWords for it, and the connection not at all.
func TestStopBesideSilentNATS(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		server, err := embedded.Start(embedded.Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
		})
		silent := make(chan struct{})
		keys := t.TempDir()
		key, err := trustkey.LoadOrCreate(filepath.Join(keys, trustkey.KeyFile))
		if err != nil {
			t.Fatal(err)
		}
		base, err := NewBase(slog.New(slog.DiscardHandler), filepath.Join(keys, trustkey.AnchorFile), bus.Config{
			Name: "all", InProcess: &silenced{InProcessConnProvider: server.Provider(), silent: silent}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		if err := bus.Provision(ctx, base.Conn, bus.Plan{LedgerSize: 1 << 26}); err != nil {
			t.Fatal(err)
		}
		auth := tokentest.New(t)
		authority := trust.NewAuthority(base.Conn, key, "")
		if _, _, err := authority.ChangeKeys(ctx, func(*token.KeySet, time.Time) (*token.KeySet, error) {
			return auth.KeySet(), nil
		}); err != nil {
			t.Fatal(err)
		}
		rides, user, rider := components(t, base)
		stopped := make(chan error)
		go func() {
			stopped <- program.Run(ctx, slices.Concat(base.component().Tasks, rides.Component().Tasks, user.Tasks,
				rider.Tasks))
		}()
		wait.Until(t, "usersvc publishes the feed", func() bool {
			turn, _, err := base.Conn.FeedTurn(ctx)
			return err == nil && turn.Owner != ""
		})
		close(silent)
		told := time.Now()
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		base.Close()
		if took := time.Since(told); took > lastWords {
			t.Errorf("it took %v, want %v at most", took, lastWords)
		}
	})
}

// silenced provides connections to a server that says nothing any more once silent is closed.
type silenced struct {
	nats.InProcessConnProvider
	silent chan struct{}
}

func (s *silenced) InProcessConn() (net.Conn, error) {
	conn, err := s.InProcessConnProvider.InProcessConn()
	return &silencedConn{Conn: conn, silent: s.silent, closed: make(chan struct{})}, err
}

type silencedConn struct {
	net.Conn
	silent, closed chan struct{}
	once           sync.Once
}

func (c *silencedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	select {
	case <-c.silent:
		<-c.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (c *silencedConn) Write(p []byte) (int, error) {
	select {
	case <-c.silent:
		return len(p), nil
	default:
		return c.Conn.Write(p)
	}
}

func (c *silencedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
