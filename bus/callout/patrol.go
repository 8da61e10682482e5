package callout

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/synadia-io/orbit.go/natsext"
	"golang.org/x/sync/errgroup"

	"github.com/example/pillion/bus/access"
)

const (
	// patrolAgain is when the servers are asked once more after a change: somebody may have been on the way in with what was good a moment before.
	patrolAgain = 300 * time.Millisecond
	// patrolPace is between two rounds without a change: what an instance has missed, it finds then.
	patrolPace = 5 * time.Second
	// patrolSilence is how long the servers of a cluster may take to answer, one after the other.
	patrolSilence = 250 * time.Millisecond
	// patrolPatience is how long one server may take for one answer.
	patrolPatience = 2 * time.Second
	// patrolKicks is how many connections of one server are ended at the same time.
	patrolKicks = 16
)

// patrol sends away whoever holds a token that is good no longer, until ctx ends: at once when one is taken back, and now and then.
func (c *Callout) patrol(ctx context.Context) {
	known := map[string]bool{}
	for ctx.Err() == nil {
		revoked, keys := c.Watch.Next(), c.Keys.Changed()
		c.round(ctx, known)
		again := time.NewTimer(patrolPace)
		select {
		case <-revoked:
			c.round(ctx, known)
			again.Reset(patrolAgain)
			select {
			case <-again.C:
			case <-ctx.Done():
			}
		case <-keys:
		case <-again.C:
		case <-ctx.Done():
		}
		again.Stop()
	}
}

// connections is what a server answers to the question who is connected.
type connections struct {
	Server struct {
		ID string `json:"id"`
	} `json:"server"`
	Data struct {
		Total       int `json:"total"`
		Connections []struct {
			CID  uint64 `json:"cid"`
			User string `json:"authorized_user"`
		} `json:"connections"`
	} `json:"data"`
}

// round asks all servers who is connected, and sends away those who hold a bad token. known are the servers that are there, which
// it keeps up to date: one that is slow to answer is asked by itself.
func (c *Callout) round(ctx context.Context, known map[string]bool) {
	var servers sync.WaitGroup
	defer servers.Wait()
	ask, cancel := context.WithTimeout(ctx, patrolPatience)
	defer cancel()
	failed := func(err error) { c.Log.Debug("nobody says who is connected to NATS", "error", err) }
	answers, err := natsext.RequestMany(ask, c.Conn.NATS(), access.ConnectionsSubject(access.AllServers), c.question(0), natsext.RequestManyStall(patrolSilence))
	if err != nil {
		failed(err)
		return
	}
	here := map[string]bool{}
	for m, err := range answers {
		if err != nil {
			failed(err)
			break
		}
		first, err := connectionsIn(m)
		if err != nil {
			c.Log.Warn("it cannot be read who is connected to NATS", "error", err)
			continue
		}
		here[first.Server.ID], known[first.Server.ID] = true, true
		servers.Go(func() { c.look(ctx, first) })
	}
	for id := range known {
		if here[id] {
			continue
		}
		first, err := c.connections(ctx, id, 0)
		if err != nil { // it is gone
			c.Log.Debug("a NATS server does not say who is connected to it", "server", id, "error", err)
			delete(known, id)
			continue
		}
		servers.Go(func() { c.look(ctx, first) })
	}
}

// look goes through all connections of one server, of which it is given the first page, and ends those with a bad token. It ends
// them last: a connection that ends moves the pages.
func (c *Callout) look(ctx context.Context, page connections) {
	server, looked := page.Server.ID, 0
	var ends errgroup.Group
	ends.SetLimit(patrolKicks)
	var kicks []func() error
	for {
		for _, conn := range page.Data.Connections {
			if h, ok := parseHolder(conn.User); ok && c.bad(h) {
				kicks = append(kicks, func() error {
					c.kick(ctx, server, conn.CID, h)
					return nil
				})
			}
		}
		looked += len(page.Data.Connections)
		if len(page.Data.Connections) == 0 || looked >= page.Data.Total {
			break
		}
		next, err := c.connections(ctx, server, looked)
		if err != nil {
			if ctx.Err() == nil {
				c.Log.Warn("some connections to NATS could not be looked at; tokens that were taken back may still be in use there",
					"server", server, "looked_at", looked, "of", page.Data.Total, "error", err)
			}
			break
		}
		page = next
	}
	for _, kick := range kicks {
		ends.Go(kick)
	}
	_ = ends.Wait() // each has said what is wrong
}

// connections asks one server for a page of its connections.
func (c *Callout) connections(ctx context.Context, server string, offset int) (connections, error) {
	ctx, cancel := context.WithTimeout(ctx, patrolPatience)
	defer cancel()
	m, err := c.Conn.NATS().RequestWithContext(ctx, access.ConnectionsSubject(server), c.question(offset))
	if err != nil {
		return connections{}, err
	}
	return connectionsIn(m)
}

// question asks for a page of connections, by their age.
func (c *Callout) question(offset int) []byte {
	return fmt.Appendf(nil, `{"auth":true,"acc":%q,"offset":%d,"limit":%d}`, access.Account, offset, c.Page)
}

func connectionsIn(m *nats.Msg) (connections, error) {
	var a connections
	err := json.Unmarshal(m.Data, &a)
	return a, err
}

// kick ends a connection. Its client comes back with the same token, and is refused.
func (c *Callout) kick(ctx context.Context, server string, cid uint64, h holder) {
	order, err := json.Marshal(map[string]uint64{"cid": cid})
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patrolPatience)
	defer cancel()
	if _, err := c.Conn.NATS().RequestWithContext(ctx, access.KickSubject(server), order); err != nil && ctx.Err() == nil {
		c.Log.Warn("a connection whose token was taken back could not be ended", "account", h.subject, "error", err)
		return
	}
	c.Log.Info("a connection whose token was taken back was ended", "account", h.subject)
}
