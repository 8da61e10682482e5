package bus

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Settings of the shared consumers. Their readers depend on them too.
const (
	// TaskWait is how long NATS waits for an instance that is silent about a message, before it
	// redelivers the message to another one.
	TaskWait = 10 * time.Second
	// tasksAtOnce limits the messages that all instances work on at a time.
	tasksAtOnce = 256
	// taskHeartbeat is how often NATS says that there is nothing to do.
	taskHeartbeat = time.Second
)

// timersConsumer returns a consumer of timers that have fired, which all instances of a service
// share. Provision creates it; the service only uses it.
func timersConsumer(name string) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: name, Description: "timers that have gone off", FilterSubject: TimerDuePrefix + "*",
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: TaskWait, MaxAckPending: tasksAtOnce,
		DeliverPolicy: jetstream.DeliverAllPolicy,
	}
}
