package e2e

import (
	"context"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/example/pillion/internal/wait"
)

// TestManyAreStoredTogether books until many bookings are in one batch. By default each write is
// synced to disk, and `pillion` groups them.
func TestManyAreStoredTogether(t *testing.T) {
	t.Parallel()
	const clients, many = 128, 16
	p, data := newPorts(t), t.TempDir()
	pillion(t, p, data)
	bearer := "Bearer " + login(t, p, "john@example.com", "user")
	key, err := nats.NkeyOptionFromSeed(filepath.Join(data, "services", "operator.nk"))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect("nats://"+p.nats, key, nats.CustomInboxPrefix("_INBOX_operator"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	together := make(chan struct{})
	done := sync.OnceFunc(func() { close(together) })
	if _, err := nc.Subscribe("booking.*.*.requested", func(m *nats.Msg) {
		if n, err := strconv.Atoi(m.Header.Get(jetstreamext.BatchSeqHeader)); err == nil && n >= many {
			done()
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				a, err := call(ctx, "POST", "http://"+p.user+"/book", "{}", "Authorization", bearer)
				if ctx.Err() == nil && (err != nil || a.status != http.StatusOK) {
					t.Errorf("book: %d %s %v", a.status, a.body, err)
					return
				}
			}
		})
	}
	wait.For(t, "many are stored in one batch", together)
	stop()
	wg.Wait()
}
