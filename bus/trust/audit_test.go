package trust_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
)

// entries returns n stored entries of the trail, once they are there.
func entries(t *testing.T, c *bus.Conn, n uint64) (subjects, bodies []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	defer cancel()
	stream, err := c.JetStream().Stream(ctx, bus.AuditStream)
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for seq := uint64(1); seq <= n; {
		m, err := stream.GetMsg(ctx, seq)
		if err != nil { // not stored yet, or this replica has not heard of it
			select {
			case <-tick.C:
				continue
			case <-ctx.Done():
				t.Fatalf("after %d entries of %d: %v", len(subjects), n, err)
			}
		}
		seq++
		subjects, bodies = append(subjects, m.Subject), append(bodies, string(m.Data))
		if h := m.Header; h.Get("ce-type") != "pillion."+m.Subject || h.Get("ce-source") != "/test" ||
			h.Get("ce-id") == "" || h.Get("ce-id") != h.Get("Nats-Msg-Id") {
			t.Errorf("headers %v", h)
		}
	}
	if info, err := stream.Info(ctx); err != nil || info.State.Msgs != n {
		t.Errorf("%v entries are stored (%v), want %d", info, err, n)
	}
	return subjects, bodies
}

// Entries are stored in order and once, including those that are queued when the process is told to
// stop.
func TestAuditTrail(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		c := e.Connect(t)
		trail := trust.NewAuditTrail(c, "/test")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		const n = 100
		for i := range n / 2 {
			trail.Offer(ctx, "login", map[string]int{"n": i})
		}
		go func() { ended <- trail.Run(ctx) }()
		entries(t, c, n/2)
		const last = 3 // few, because a stopping process has little time
		for i := n / 2; i < n; i++ {
			if i == n-last {
				entries(t, c, n-last)
			}
			trail.Offer(ctx, "limit", map[string]int{"n": i})
		}
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if err := trail.Write(t.Context(), "operator", map[string]int{"n": n}); err != nil {
			t.Fatal(err)
		}
		subjects, bodies := entries(t, c, n+1)
		for i, body := range bodies {
			want := fmt.Sprintf(`{"n":%d}`, i)
			subject := map[bool]string{true: "audit.auth.login", false: "audit.auth.limit"}[i < n/2]
			if i == n {
				subject = "audit.auth.operator"
			}
			if body != want || subjects[i] != subject {
				t.Errorf("entry %d is %s %s, want %s %s", i, subjects[i], body, subject, want)
			}
		}
	})
}

// Offering an entry never waits.
func TestAuditTrailNeverWaits(t *testing.T) {
	c := bustest.Run(t).Connect(t)
	trail := trust.NewAuditTrail(c, "/test")
	for i := range 10_000 { // more than may wait, and nobody stores them
		trail.Offer(t.Context(), "login", json.RawMessage(fmt.Sprint(i)))
	}
	c.Close(t.Context())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := trail.Run(ended); err != nil {
		t.Errorf("Run without NATS: %v", err)
	}
	if err := trail.Write(t.Context(), "operator", "x"); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("Write without NATS: %v", err)
	}
}
