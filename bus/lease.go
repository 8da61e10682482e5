package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/singleflight"
)

// A leader that is cut off from the others goes on answering as the leader for ten seconds and
// more, while the others have elected a new one and store messages that it knows nothing of. So its
// word counts only as long as nobody else can lead: a replica that has heard from its leader runs
// for election four seconds later at the earliest (minElectionTimeout of nats-server). See ADR 18.
const (
	// heardLately is how long ago the leader may have heard from a replica. Idle replicas send a
	// heartbeat every two seconds.
	heardLately = 2500 * time.Millisecond
	// leaseLife is how long after the question a leader's answer about its replicas is good.
	leaseLife = 4*time.Second - heardLately
	// leaseFresh is how old that answer may be when a read relies on it.
	leaseFresh = 400 * time.Millisecond
)

// errNoQuorum says that a leader may have been replaced without knowing it.
var errNoQuorum = errors.New("the leader has not heard from a majority lately, and may be none any more")

// hasQuorum returns errNoQuorum unless a stream's leader has answered, and is in touch with most of
// the replicas, itself included.
func hasQuorum(info *jetstream.StreamInfo) error {
	if info.Cluster == nil {
		return nil
	}
	if info.Cluster.Leader == "" { // any replica answers while there is none
		return fmt.Errorf("stream %s has no leader: %w", info.Config.Name, errNoQuorum)
	}
	if len(info.Cluster.Replicas) == 0 {
		return nil
	}
	near := 1
	for _, r := range info.Cluster.Replicas {
		if r.Active > 0 && r.Active < heardLately { // 0: a new leader has not heard from it yet
			near++
		}
	}
	if near <= (len(info.Cluster.Replicas)+1)/2 {
		return fmt.Errorf("stream %s: %w", info.Config.Name, errNoQuorum)
	}
	return nil
}

// leases says until when the leaders of streams are believed.
type leases struct {
	asking singleflight.Group
	asked  sync.Map // by stream: when its leader last answered as such
}

// lease returns a recent time at which the leader of a stream was asked whether it leads, and did.
func (c *Conn) lease(ctx context.Context, stream string) (time.Time, error) {
	if at, ok := c.leases.asked.Load(stream); ok && time.Since(at.(time.Time)) < leaseFresh {
		return at.(time.Time), nil
	}
	answer := c.leases.asking.DoChan(stream, func() (any, error) {
		at := time.Now()
		// Other callers share the answer, so it does not depend on ctx.
		if _, err := c.Stream(context.WithoutCancel(ctx), stream); err != nil {
			return time.Time{}, err
		}
		c.leases.asked.Store(stream, at)
		return at, nil
	})
	select {
	case a := <-answer:
		return a.Val.(time.Time), a.Err
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	}
}
