package web

import (
	"context"
	"net"
	"time"
)

// A peer that has vanished without a word holds its place, a stream's among them, until the connection is known to be dead. Where
// nothing is under way the system asks the peer now and then; where something was sent, which streams see to at every heartbeat,
// it waits for an acknowledgement. Both together take less than 30 s.
const (
	vanishedAfter = 12 * time.Second // without an acknowledgement; more than a stream's reader has for what is written at once
	aliveIdle     = 10 * time.Second // of silence, after which the peer is asked
	aliveInterval = 4 * time.Second
	aliveCount    = 3
)

// noticeVanished is an http.Server's ConnContext. What the system does not let us set stays as it is: the connection works.
func noticeVanished(ctx context.Context, c net.Conn) context.Context {
	if wrapped, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = wrapped.NetConn()
	}
	if c, ok := c.(*net.TCPConn); ok {
		_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: aliveIdle, Interval: aliveInterval, Count: aliveCount})
		setUserTimeout(c, vanishedAfter)
	}
	return ctx
}
