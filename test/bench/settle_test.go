package bench

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/retry"
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
	var last answer
	wait.Until(b, s.name+" takes bookings", func() bool {
		var err error
		last, err = c.book()
		return err == nil
	})
	marker := last.field("booking_id")
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
	for over := time.Now().Add(wait.Patience); ; {
		left := errors.Join(s.left(b), s.timerOf(b, last))
		if left == nil {
			return
		}
		if time.Now().After(over) || !retry.Sleep(b.Context(), 5*time.Millisecond) {
			b.Fatalf("%s does not catch up: %v", s.name, left)
		}
	}
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
			unread := c.NumWaiting == 0 && c.Delivered.Consumer == 0 // an older version's
			if c.Config.Durable == "" || unread {
				continue
			}
			if n := int(c.NumPending) + c.NumAckPending; n > 0 {
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

// timerOf returns nil if there is a timer for a booking's deadline. It goes off soon afterwards.
func (s *system) timerOf(b *testing.B, booked answer) error {
	b.Helper()
	deadline, err := time.Parse(time.RFC3339Nano, booked.field("deadline"))
	if err != nil {
		return err
	}
	timers, err := s.operator.JetStream().Stream(b.Context(), bus.TimersStream)
	if err != nil {
		return err
	}
	for after := range 4 {
		second := strconv.FormatInt(deadline.Unix()+int64(after), 10)
		if _, err = timers.GetLastMsgForSubject(b.Context(), bus.TimerSetPrefix+second); err == nil {
			return nil
		}
	}
	return fmt.Errorf("the timer of %s is not set: %w", booked.field("booking_id"), err)
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
