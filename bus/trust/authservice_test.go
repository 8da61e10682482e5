package trust_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// A question from a lost connection is not answered on the next one, where the answer would be a
// forbidden publication.
func TestNoAnswerOnAnotherConnection(t *testing.T) {
	t.Parallel() // most of it is waiting
	e := bustest.RunClosed(t, false)
	conn := e.ConnectAs(t, access.Authsvc)
	first, second := true, make(chan struct{})
	again := sync.OnceFunc(func() { close(second) })
	stop, err := trust.ServeAuth(conn, "1.0.0", func() *token.KeySet { return nil },
		func(context.Context, trust.ServiceRequest) (string, error) {
			if !first {
				again() // the first question has been dealt with: they are, one after the other
				return "", bus.ErrUnavailable
			}
			first = false
			lost, made := conn.NATS().StatusChanged(nats.RECONNECTING), conn.NATS().StatusChanged(nats.CONNECTED)
			if err := conn.NATS().ForceReconnect(); err != nil {
				t.Error(err)
			}
			<-lost
			<-made
			return "a token", nil
		}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stop() //nolint:errcheck // with the connection
	key, err := bus.LoadOrCreateServiceKey(filepath.Join(t.TempDir(), "usersvc.nk"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := token.NewVerifier(token.Config{Keys: tokentest.New(t).Keys(), Type: token.ServiceType})
	if err != nil {
		t.Fatal(err)
	}
	identity, err := trust.NewIdentity(e.ConnectAs(t, access.Usersvc),
		trust.IdentityConfig{Service: "usersvc", Key: key, Verifier: v})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- identity.Run(ctx) }()
	<-second
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := conn.NATS().Flush(); err != nil {
		t.Fatal(err)
	}
	if err := conn.NATS().LastError(); errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("the server has refused the answer: %v", err)
	}
}
