package web

import (
	"net"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// ConnLimits bound the open connections of a process. 0 is no limit.
type ConnLimits struct {
	PerNetwork int // of one client's network, as [ClientNetwork] names it
	Total      int
	// TrustedProxies count in the total only: the clients of a proxy share its address.
	TrustedProxies []netip.Prefix
	Registerer     prometheus.Registerer // of the metrics, once a process; nil: not registered
}

// A ConnLimiter counts the open connections of listeners, and closes at once those that are too
// many. A client holds a connection without sending anything, so limits on requests do not bound
// them, and a process that has no file left can serve and store nothing.
type ConnLimiter struct {
	limits  ConnLimits
	proxies addressResolver
	refused *prometheus.CounterVec

	mu    sync.Mutex
	total int
	of    map[string]int // by network
}

// NewConnLimiter returns a ConnLimiter. It panics, as MustRegister does, if a process makes two
// with one Registerer.
func NewConnLimiter(l ConnLimits) *ConnLimiter {
	f := promauto.With(l.Registerer)
	c := &ConnLimiter{
		limits: l, proxies: addressResolver{proxies: l.TrustedProxies}, of: make(map[string]int),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "http_connections_refused_total",
			Help: "HTTP connections closed at once, by the limit that they exceeded.",
		}, []string{"limit"}),
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "pillion", Name: "http_connections_open", Help: "Open HTTP connections.",
	}, func() float64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return float64(c.total)
	})
	for _, limit := range []string{limitNetwork, limitTotal} {
		c.refused.WithLabelValues(limit)
	}
	return c
}

// The values of the metric's label.
const (
	limitNetwork = "network"
	limitTotal   = "total"
)

// Limit returns a listener that accepts the connections of ln within the limits. Those of all
// listeners count together. A listener that is not TCP's is not limited.
func (c *ConnLimiter) Limit(ln net.Listener) net.Listener {
	if tcp, ok := ln.(*net.TCPListener); ok {
		return limitedListener{tcp, c}
	}
	return ln
}

type limitedListener struct {
	*net.TCPListener
	limiter *ConnLimiter
}

// Accept returns the next connection that is within the limits.
func (l limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		if leave, ok := l.limiter.enter(conn.RemoteAddr().String()); ok {
			return &limitedConn{conn, leave}, nil
		}
		_ = conn.Close()
	}
}

// enter counts a connection, unless it is one too many. leave uncounts it, once.
func (c *ConnLimiter) enter(peer string) (leave func(), ok bool) {
	network := ""
	if p, err := netip.ParseAddrPort(peer); err == nil && !c.proxies.trusts(p.Addr().Unmap()) {
		network = networkOf(p.Addr().Unmap())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.limits.Total > 0 && c.total >= c.limits.Total:
		c.refused.WithLabelValues(limitTotal).Inc()
		return nil, false
	case c.limits.PerNetwork > 0 && network != "" && c.of[network] >= c.limits.PerNetwork:
		c.refused.WithLabelValues(limitNetwork).Inc()
		return nil, false
	}
	c.total++
	c.of[network]++
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.total--
		if c.of[network]--; c.of[network] == 0 {
			delete(c.of, network)
		}
	}), true
}

// A limitedConn is a connection that is counted until it is closed.
type limitedConn struct {
	*net.TCPConn
	leave func()
}

// Close closes the connection.
func (c *limitedConn) Close() error {
	defer c.leave()
	return c.TCPConn.Close()
}

// NetConn returns the connection itself, to set its options.
func (c *limitedConn) NetConn() net.Conn { return c.TCPConn }
