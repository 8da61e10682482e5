package wiring

import (
	"net"

	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/web"
)

// Each connection takes a file. These are kept for everything else: the files of NATS's streams,
// connections to NATS and the database, the ops address, and files that are opened for a moment.
const (
	leastReserve  = 128
	reservedShare = 4 // one in so many, if that is more
)

// MaxConnections returns how many connections each of the kinds of listeners of this process may
// have: by the setting, or else by the limit on open files. It is never more than that limit
// allows.
func MaxConnections(h setting.HTTP, kinds int) int {
	most := 0
	if files := program.FileLimit(); files > 0 {
		most = max(1, (files-max(leastReserve, files/reservedShare))/kinds)
	}
	if set := h.Connections.Value; set > 0 && (most == 0 || set < most) {
		return set
	}
	return most
}

// Limit returns the listeners with limits on their connections, of which total is that on all. A
// quarter of them is the most for one network.
func (b *Base) Limit(h setting.HTTP, total int, listeners []net.Listener) []net.Listener {
	limiter := web.NewConnLimiter(web.ConnLimits{
		PerNetwork: perNetwork(h, total), Total: total, TrustedProxies: h.TrustedProxies.Value, Registerer: b.Registry,
	})
	limited := make([]net.Listener, len(listeners))
	for i, ln := range listeners {
		limited[i] = limiter.Limit(ln)
	}
	return limited
}

// perNetwork returns the limit on the connections of one network, or 0 for none.
func perNetwork(h setting.HTTP, total int) int {
	most := h.PerNetwork.Value
	if most > 0 && total > 0 {
		most = min(most, max(1, total/4))
	}
	return most
}
