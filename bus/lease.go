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

// A leader that is cut off from the others goes on answering as the leader for ten seconds and more, while they have long chosen another one and store
// what it knows nothing of. So its word counts only as long as nobody else can lead: a replica that has heard from it tries to lead four seconds later
// at the earliest (minElectionTimeout of nats-server). See ADR 18.
const (
	// heardLately is how long ago the leader may have heard from a replica. Where there is nothing to say they speak every two seconds.
	heardLately = 2500 * time.Millisecond
	// leaseLife is how long after it was asked for a leader's word on the others is good.
	leaseLife = 4*time.Second - heardLately
	// leaseFresh is how old it may be when something is asked on the strength of it.
	leaseFresh = 400 * time.Millisecond
)

// errAlone is that a leader may have been replaced without knowing it.
var errNoQuorum = errors.New("the leader has not heard from a majority lately, and may be none any more")

// led returns errAlone unless it is a leader that speaks, and most of a stream's replicas, the leader that says so among them, are in touch.
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

// leases are until when the leaders of streams are believed.
type leases struct {
	asking singleflight.Group
	asked  sync.Map // of a stream: when its leader was asked last, with success
}

// lease returns when the leader of a stream was asked whether it is one, a moment ago at most.
func (c *Conn) lease(ctx context.Context, stream string) (time.Time, error) {
	if at, ok := c.leases.asked.Load(stream); ok && time.Since(at.(time.Time)) < leaseFresh {
		return at.(time.Time), nil
	}
	answer := c.leases.asking.DoChan(stream, func() (any, error) {
		at := time.Now()
		if _, err := c.Stream(context.WithoutCancel(ctx), stream); /* others wait for it too */ err != nil {
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
