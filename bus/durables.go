package bus

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
)

// Settings of the shared consumers. Their readers depend on them too.
const (
	// TaskWait is how long NATS waits for an instance that is silent about a message, before it
	// redelivers the message to another one.
	TaskWait  = 10 * time.Second
	TaskBatch = 64 // messages that one instance takes at a time, in a fraction of TaskWait
	// taskHeartbeat is how often NATS says that there is nothing to do.
	taskHeartbeat = time.Second

	FeedGroup = "feed"
	FeedBatch = 64 // messages that are not acknowledged yet
	// FeedWait is TaskWait of the feed. FeedPin is how long an instance may be silent before
	// another one takes its place.
	FeedWait = 5 * time.Second
	FeedPin  = 7 * time.Second
)

// A durable is a consumer that all instances share. Provision creates it; the services only use it.
type durable struct {
	stream string
	config jetstream.ConsumerConfig
}

func durables() []durable {
	tasks := func(name, description string) jetstream.ConsumerConfig {
		return jetstream.ConsumerConfig{
			Durable: name, Description: description,
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: TaskWait, MaxAckPending: 4 * TaskBatch,
			DeliverPolicy: jetstream.DeliverAllPolicy,
		}
	}
	timers := tasks(TimersConsumer, "timers that have gone off")
	timers.FilterSubject = TimerDuePrefix + "*"
	deadlines := tasks(DeadlinesConsumer, "what has a deadline, or calls for something")
	deadlines.FilterSubjects = []string{
		EventPattern(booking.Requested), EventPattern(booking.Accepted), EventPattern(booking.Released),
		EventPattern(booking.StartRefused),
	}
	return []durable{
		{TimersStream, timers},
		{LedgerStream, deadlines},
		// A pinned client: one instance gets all messages, so that the feed has the ledger's order.
		{LedgerStream, jetstream.ConsumerConfig{
			Durable: FeedConsumer, Description: "what watchers are told", FilterSubject: BookingPrefix + "*.*.*",
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: FeedWait, MaxAckPending: FeedBatch,
			DeliverPolicy:  jetstream.DeliverNewPolicy,
			PriorityPolicy: jetstream.PriorityPolicyPinned, PriorityGroups: []string{FeedGroup}, PinnedTTL: FeedPin,
		}},
	}
}
