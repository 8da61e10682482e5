package callout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/synadia-io/orbit.go/natsext"
	"golang.org/x/sync/errgroup"

	"github.com/example/pillion/bus/access"
)

const (
	// sweepAgain is when the second sweep after a revocation begins: a client may have been
	// connecting with a token that was still valid during the first.
	sweepAgain = 300 * time.Millisecond
	// sweepPace is the time between sweeps when nothing has changed. They find what an instance
	// missed.
	sweepPace = 5 * time.Second
	// sweepSilence is the longest time between the answers of two servers of a cluster.
	sweepSilence = 250 * time.Millisecond
	// sweepPatience is how long one server may take for one answer.
	sweepPatience = 2 * time.Second
	// sweepConcurrency is the number of connections of one server that are closed at the same time.
	sweepConcurrency = 16
)

// runSweeper closes connections with invalidated tokens until ctx ends: right after each revocation
// or change of keys, and periodically.
func (c *Callout) runSweeper(ctx context.Context) {
	s := &servers{known: map[string]bool{}}
	for ctx.Err() == nil {
		revoked, keys := c.Watch.Next(), c.Keys.Changed()
		c.sweep(ctx, s)
		again := time.NewTimer(sweepPace)
		select {
		case <-revoked:
			c.sweep(ctx, s)
			again.Reset(sweepAgain)
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

// A connectionPage is a server's answer to a request for its connections.
type connectionPage struct {
	Server struct {
		ID string `json:"id"`
	} `json:"server"`
	Data struct {
		Total       int `json:"total"`
		Connections []struct {
			CID  uint64 `json:"cid"`
			User string `json:"authorized_user"`
			IP   string `json:"ip"`
		} `json:"connections"`
	} `json:"data"`
}

// servers are what is known of the servers from one sweep to the next.
type servers struct {
	known  map[string]bool // their ids
	silent bool            // none has answered the last sweep
}

var errSilent = errors.New("none has answered")

// sweep asks all servers for their connections, and closes those with invalidated tokens. It asks a
// server again that was too slow to answer with the others.
func (c *Callout) sweep(ctx context.Context, s *servers) {
	var sweeping sync.WaitGroup
	defer sweeping.Wait()
	count, counted := c.census.begin()
	ask, cancel := context.WithTimeout(ctx, sweepPatience)
	defer cancel()
	answers, err := natsext.RequestMany(ask, c.Conn.NATS(), access.ConnectionsSubject(access.AllServers),
		c.pageRequest(0), natsext.RequestManyStall(sweepSilence))
	if err != nil {
		c.note(ctx, s, err)
		return
	}
	here, silence := map[string]bool{}, errSilent
	for m, err := range answers {
		if err != nil {
			silence = err
			break
		}
		first, err := parsePage(m)
		if err != nil {
			c.Log.Warn("cannot parse the list of connections of a NATS server", "error", err)
			continue
		}
		here[first.Server.ID], s.known[first.Server.ID] = true, true
		sweeping.Go(func() { c.sweepServer(ctx, first, count) })
	}
	for id := range s.known {
		if here[id] {
			continue
		}
		first, err := c.connections(ctx, id, 0)
		if err != nil {
			if ctx.Err() == nil && c.Conn.Ready(ctx) == nil {
				c.Log.Warn("a NATS server no longer lists its connections; unless it has stopped, revoked tokens "+
					"may still be in use there", "server", id, "error", err)
			}
			delete(s.known, id)
			continue
		}
		here[id] = true
		sweeping.Go(func() { c.sweepServer(ctx, first, count) })
	}
	if len(here) > 0 {
		silence = nil
		sweeping.Wait()
		counted()
	}
	c.note(ctx, s, silence)
}

// note logs once that no server lists its connections, and once that one does again. While there is
// no connection to NATS, the connection itself has logged the reason.
func (c *Callout) note(ctx context.Context, s *servers, silence error) {
	if ctx.Err() != nil || c.Conn.Ready(ctx) != nil || s.silent == (silence != nil) {
		return
	}
	s.silent = silence != nil
	if s.silent {
		c.Log.Warn("no NATS server lists its connections; revoked tokens may still be in use on them", "error", silence)
	} else {
		c.Log.Info("the NATS servers list their connections again")
	}
}

// sweepServer checks all connections of one server, beginning with the first page. It closes those
// with invalidated tokens after it has read all pages, because a closed connection shifts the
// pages. It passes all of them to count.
func (c *Callout) sweepServer(ctx context.Context, page connectionPage, count func(connectionName, string)) {
	server, checked := page.Server.ID, 0
	var closing errgroup.Group
	closing.SetLimit(sweepConcurrency)
	var invalid []func() error
	for {
		for _, conn := range page.Data.Connections {
			n, ok := parseConnectionName(conn.User)
			if !ok {
				continue
			}
			count(n, conn.IP)
			if c.invalidated(n) {
				invalid = append(invalid, func() error {
					c.close(ctx, server, conn.CID, n)
					return nil
				})
			}
		}
		checked += len(page.Data.Connections)
		if len(page.Data.Connections) == 0 || checked >= page.Data.Total {
			break
		}
		next, err := c.connections(ctx, server, checked)
		if err != nil {
			if ctx.Err() == nil {
				c.Log.Warn("cannot check all connections of a NATS server; revoked tokens may still be in use there",
					"server", server, "checked", checked, "of", page.Data.Total, "error", err)
			}
			break
		}
		page = next
	}
	for _, do := range invalid {
		closing.Go(do)
	}
	_ = closing.Wait() // close logs its failures
}

// connections requests one page of connections from one server.
func (c *Callout) connections(ctx context.Context, server string, offset int) (connectionPage, error) {
	ctx, cancel := context.WithTimeout(ctx, sweepPatience)
	defer cancel()
	m, err := c.Conn.NATS().RequestWithContext(ctx, access.ConnectionsSubject(server), c.pageRequest(offset))
	if err != nil {
		return connectionPage{}, err
	}
	return parsePage(m)
}

// pageRequest returns a request for a page of connections, oldest first.
func (c *Callout) pageRequest(offset int) []byte {
	return fmt.Appendf(nil, `{"auth":true,"acc":%q,"offset":%d,"limit":%d}`, access.PeopleAccount, offset, c.Page)
}

func parsePage(m *nats.Msg) (connectionPage, error) {
	var a connectionPage
	err := json.Unmarshal(m.Data, &a)
	return a, err
}

// close closes a connection. Its client reconnects with the same token, and is rejected.
func (c *Callout) close(ctx context.Context, server string, cid uint64, n connectionName) {
	request, err := json.Marshal(map[string]uint64{"cid": cid})
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sweepPatience)
	defer cancel()
	_, err = c.Conn.NATS().RequestWithContext(ctx, access.KickSubject(server), request)
	if err != nil && ctx.Err() == nil {
		c.Log.Warn("cannot close a connection whose token was revoked", "account", n.subject, "error", err)
		return
	}
	c.Log.Info("closed a connection whose token was revoked", "account", n.subject)
}
