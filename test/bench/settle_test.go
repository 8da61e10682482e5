package bench

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/wait"
)

// settle waits until the system has done all that follows from what it has acknowledged: the feed
// has told of it, the boards show it, the timers are set, and no consumer has anything left. It
// books once for that: the feed tells of events in order, so whoever has been told of this booking
// has been told of everything before it.
func (s *system) settle(b *testing.B) {
	b.Helper()
	if s.operator == nil {
		return
	}
	c := s.clients(1)[0]
	defer c.close()
	var sub *nats.Subscription
	wait.Until(b, s.name+" is watched", func() (watched bool) {
		var err error
		if sub, err = s.operator.NATS().SubscribeSync(bus.FeedBookingPrefix + ">"); err != nil {
			return false
		}
		if watched = s.operator.NATS().FlushTimeout(time.Second) == nil; !watched {
			_ = sub.Unsubscribe() // the next one is another one
		}
		return watched
	})
	defer func() { _ = sub.Unsubscribe() }() // nothing is lost with it
	marker := ""
	wait.Until(b, s.name+" takes bookings", func() bool {
		a, err := c.book()
		marker = a.field("booking_id")
		return err == nil
	})
	for over := time.Now().Add(10 * time.Minute); ; {
		m, err := sub.NextMsg(time.Until(over))
		if err != nil && !errors.Is(err, nats.ErrSlowConsumer) {
			b.Fatalf("the feed of %s does not catch up: %v", s.name, err)
		}
		if err == nil && strings.HasPrefix(m.Subject, bus.FeedBookingPrefix+marker+".") {
			break
		}
	}
	for _, at := range s.userAt {
		wait.Until(b, "the board of "+s.name+" is complete", func() bool {
			a, err := c.call(at, "GET", "/bookings?limit=1", c.user.token, "")
			return err == nil && strings.Contains(string(a), marker)
		})
	}
	wait.Until(b, s.name+" has nothing left to do", func() bool { return s.left(b) == nil })
}

// left returns an error that says what the system has yet to do, or nil.
func (s *system) left(b *testing.B) error {
	b.Helper()
	for _, stream := range []string{bus.LedgerStream, bus.TimersStream} {
		known, err := s.operator.JetStream().Stream(b.Context(), stream)
		if err != nil {
			return err
		}
		consumers := known.ListConsumers(b.Context())
		for c := range consumers.Info() {
			if n := int(c.NumPending) + c.NumAckPending; n > 0 && c.Config.Durable != "" {
				return fmt.Errorf("consumer %s has %d messages left", c.Name, n)
			}
		}
		if err := consumers.Err(); err != nil {
			return err
		}
	}
	for _, p := range s.processes {
		if p.at["ops"] == "" {
			continue // a NATS server
		}
		for name, value := range p.metrics(b) {
			if strings.HasPrefix(name, "pillion_") && strings.HasSuffix(name, "_lag") && value > 0 {
				return fmt.Errorf("%s of %s is %v", name, p.name, value)
			}
		}
	}
	return nil
}

// lastSequence returns the last sequence of the ledger.
func (s *system) lastSequence(b *testing.B) uint64 {
	b.Helper()
	stream, err := s.operator.JetStream().Stream(b.Context(), bus.LedgerStream)
	if err != nil {
		b.Fatal(err)
	}
	return stream.CachedInfo().State.LastSeq
}
