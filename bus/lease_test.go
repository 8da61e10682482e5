package bus_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/bus/ledger/ledgertest"
	"github.com/example/pillion/internal/fault"
)

// A leader's word counts only while it can know that it leads. A leader that hears from nobody soon
// steps down by itself, so the test answers in the place of one.
func TestWordOfALeader(t *testing.T) {
	url := bustest.Bare(t)
	connect := func() *bus.Conn {
		c, err := bus.Connect(bus.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { bustest.CloseConn(t, c) })
		return c
	}
	says := connect().NATS()
	var heard atomic.Int64 // how long ago, from either of the two others
	for subject, answer := range map[string]func() string{
		"$JS.API.STREAM.INFO." + bus.LedgerStream: func() string {
			return fmt.Sprintf(`{"type":"io.nats.jetstream.api.v1.stream_info_response","config":{"name":"BOOKINGS"},"state":{"last_seq":7},
				"cluster":{"leader":"n1","replicas":[{"name":"n2","current":true,"active":%[1]d},{"name":"n3","current":true,"active":%[1]d}]}}`, heard.Load())
		},
		"$JS.API.STREAM.MSG.GET." + bus.LedgerStream: func() string {
			return `{"message":{"subject":"ledger.booking.x.1.requested","seq":7,"time":"2026-03-01T12:00:00Z"}}`
		},
	} {
		if _, err := says.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond([]byte(answer())) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := says.Flush(); err != nil {
		t.Fatal(err)
	}
	k := ledgertest.New(t, nil)
	for _, test := range []struct {
		heard time.Duration
		led   bool
	}{{time.Second, true}, {time.Hour, false}} {
		heard.Store(int64(test.heard))
		ledger := k.LedgerOn(t, connect()) // which has asked nobody yet
		ctx, cancel := context.WithTimeout(t.Context(), map[bool]time.Duration{true: time.Minute,
			false: 100 * time.Millisecond}[test.led])
		last, err := ledger.LastSequence(ctx)
		newest, failed := ledger.Conn().LastSequence(ctx, bus.LedgerStream, bus.EventPattern(booking.Requested))
		cancel()
		if test.led && (err != nil || failed != nil || last != 7 || newest != 7) ||
			!test.led && (fault.KindOf(err) != fault.Unavailable || failed == nil) {
			t.Errorf("heard of the others %v ago: the ledger ends at %d, %v; its newest request is %d, %v", test.heard,
				last, err, newest, failed)
		}
	}
}
