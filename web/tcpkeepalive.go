package web

import (
	"context"
	"net"
	"time"
)

// A peer that disappears without closing its connection holds its resources, such as a stream,
// until TCP reports the connection dead. An idle connection is probed. A connection with data in
// flight, as every stream has after a heartbeat, times out without an acknowledgement. Either takes
// less than 30 seconds.
const (
	ackTimeout        = 12 * time.Second // longer than StreamLimits.Write
	keepAliveIdle     = 10 * time.Second
	keepAliveInterval = 4 * time.Second
	keepAliveCount    = 3
)

// detectDeadPeer is an http.Server's ConnContext that sets TCP's timeouts. A failure to set them is
// ignored: the connection works without them.
func detectDeadPeer(ctx context.Context, c net.Conn) context.Context {
	for { // inside TLS, and inside a ConnLimiter's connection
		wrapped, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = wrapped.NetConn()
	}
	if c, ok := c.(*net.TCPConn); ok {
		_ = c.SetKeepAliveConfig(net.KeepAliveConfig{
			Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount,
		})
		setUserTimeout(c, ackTimeout)
	}
	return ctx
}
