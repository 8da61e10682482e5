package callout

import (
	"context"
	"encoding/json"
	"time"

	"github.com/synadia-io/orbit.go/natsext"

	"pillion/bus/access"
)

const (
	// patrolAgain is when the servers are asked once more after a change: somebody may have been on the way in with what was good a moment before.
	patrolAgain = 300 * time.Millisecond
	// patrolPace is between two rounds without a change: what an instance has missed, it finds then.
	patrolPace = 5 * time.Second
	// patrolSilence is how long the servers of a cluster may take to answer, one after the other.
	patrolSilence = 250 * time.Millisecond
	patrolTries   = 2 * time.Second
	patrolPage    = 1024 // connections in one answer
)

// patrol sends away whoever holds a token that is good no longer, until ctx ends: at once when one is taken back, and now and then.
func (c *Callout) patrol(ctx context.Context) {
	for ctx.Err() == nil {
		revoked, keys := c.Watch.Next(), c.Keys.Changed()
		c.round(ctx)
		again := time.NewTimer(patrolPace)
		select {
		case <-revoked:
			c.round(ctx)
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

// round asks all servers who is connected, and sends away those who hold a bad token.
func (c *Callout) round(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patrolTries)
	defer cancel()
	for page, more := 0, true; more && ctx.Err() == nil; page++ {
		more = false
		question, err := json.Marshal(map[string]any{
			"auth": true, "acc": access.Account, "offset": page * patrolPage, "limit": patrolPage,
		})
		if err != nil {
			return
		}
		answers, err := natsext.RequestMany(ctx, c.Conn.NATS(), access.ConnectionsSubject, question, natsext.RequestManyStall(patrolSilence))
		if err != nil {
			c.Log.Debug("nobody says who is connected to NATS", "error", err)
			return
		}
		for m, err := range answers {
			if err != nil {
				c.Log.Debug("nobody says who is connected to NATS", "error", err)
				break
			}
			var a connections
			if err := json.Unmarshal(m.Data, &a); err != nil {
				c.Log.Warn("it cannot be read who is connected to NATS", "error", err)
				continue
			}
			more = more || a.Data.Total > (page+1)*patrolPage
			for _, conn := range a.Data.Connections {
				if h, ok := parseHolder(conn.User); ok && c.bad(h) {
					c.kick(ctx, a.Server.ID, conn.CID, h)
				}
			}
		}
	}
}

// kick ends a connection. Its client comes back with the same token, and is refused.
func (c *Callout) kick(ctx context.Context, server string, cid uint64, h holder) {
	order, err := json.Marshal(map[string]uint64{"cid": cid})
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := c.Conn.NATS().RequestWithContext(ctx, access.KickSubject(server), order); err != nil && ctx.Err() == nil {
		c.Log.Warn("a connection whose token was taken back could not be ended", "account", h.subject, "error", err)
		return
	}
	c.Log.Info("a connection whose token was taken back was ended", "account", h.subject)
}
