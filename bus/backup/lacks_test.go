package backup_test

import (
	"testing"

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
		{"three replicas on one server", "max_mem: 64MB", 3, "no_peers"},
		{"an account with little room", "max_mem: 64MB, max_file: 8MB", 1, "no_storage"},
	} {
		err := b.Restore(bounded(t), bustest.Limited(t, c.limits), backup.RestoreOptions{Replicas: c.replicas})
		if f := fault.From(err); f == nil || f.Code != c.code {
			t.Errorf("%s: %v, want %s", c.what, err, c.code)
		}
	}
}
