package bus

import (
	"time"

	"github.com/example/pillion/booking"
	"github.com/nats-io/nats.go/jetstream"
)

// Settings of the consumers that all instances share. Those who read them depend on them too.
const (
	TaskWait  = 10 * time.Second // for an instance that is silent about a message, before another one gets it
	TaskBatch = 64               // messages that one instance takes at a time: it does them in a fraction of that

	FeedGroup = "feed"
	FeedBatch = 64              // messages under way
	FeedWait  = 5 * time.Second // until a message of which nothing is heard is given again
	FeedPin   = 7 * time.Second // until another instance takes the place of one that asks for nothing
)

// A durable is a consumer that all instances of the services share. They only use it: it comes with the streams.
type durable struct {
	stream string
	config jetstream.ConsumerConfig
}

func durables() []durable {
	return []durable{
		{TimersStream, jetstream.ConsumerConfig{
			Durable: TimersConsumer, Description: "timers that have gone off", FilterSubject: TimerDuePrefix + "*",
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: TaskWait, MaxAckPending: 4 * TaskBatch, DeliverPolicy: jetstream.DeliverAllPolicy,
		}},
		{LedgerStream, jetstream.ConsumerConfig{
			Durable: DeadlinesConsumer, Description: "what has a deadline, or calls for something", FilterSubjects: []string{
				EventPattern(booking.Requested), EventPattern(booking.Accepted), EventPattern(booking.Released), EventPattern(booking.StartRefused),
			},
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: TaskWait, MaxAckPending: 4 * TaskBatch, DeliverPolicy: jetstream.DeliverAllPolicy,
		}},
		// One instance gets all messages, so that the feed has the ledger's order however many instances there are.
		{LedgerStream, jetstream.ConsumerConfig{
			Durable: FeedConsumer, Description: "what watchers are told", FilterSubject: republishFrom,
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: FeedWait, MaxAckPending: FeedBatch, DeliverPolicy: jetstream.DeliverNewPolicy,
			PriorityPolicy: jetstream.PriorityPolicyPinned, PriorityGroups: []string{FeedGroup}, PinnedTTL: FeedPin,
		}},
	}
}
