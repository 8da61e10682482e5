package backup_test

import (
	"testing"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/backup"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/fault"
)

// A restore says what NATS lacks: servers for the replicas, or room for a stream.
func TestRestoreSaysWhatNATSLacks(t *testing.T) {
	t.Parallel()
	b := open(t, small(t).backUp(t, backup.Options{}))
	for _, c := range []struct {
		what, limits string
		replicas     int
		code         string
	}{
		{"three replicas on one server", "{ max_mem: 64MB }", 3, "no_peers"},
		{"an account with little room", "{ max_mem: 64MB, max_file: 8MB }", 1, "no_storage"},
	} {
		server := bustest.Away(t)
		server.Config.Access = `accounts { A { jetstream: ` + c.limits + `, users: [ { user: a, password: a } ] } }
			no_auth_user: a`
		server.Start(t)
		conn, err := bus.Connect(bus.Config{InProcess: server})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { bustest.CloseConn(t, conn) })
		err = b.Restore(bounded(t), conn, backup.RestoreOptions{Replicas: c.replicas})
		if f := fault.From(err); f == nil || f.Code != c.code {
			t.Errorf("%s: %v, want %s", c.what, err, c.code)
		}
	}
}
