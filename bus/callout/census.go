package callout

import (
	"errors"
	"maps"
	"net/netip"
	"sync"

	"github.com/example/pillion/token"
)

// errTooMany refuses a client whose account or network has as many connections as it may have.
var errTooMany = errors.New("its account or its network has too many connections")

// A census counts the connections of clients with a token, by account and by network: those that
// the last sweep of all servers has found, and those that this instance has accepted since that
// began. So each instance may accept as many as are allowed before it learns of those of the
// others. A session would be the wrong thing to count by: an account may have any number of them.
type census struct {
	perAccount, perNetwork int // 0: no limit
	proxies                []netip.Prefix

	mu          sync.Mutex
	found       map[string]int
	since, next map[string]int // accepted since the last sweep began, and since the present one did
}

// admit counts a new connection from a host, unless it is one too many.
func (c *census) admit(claims token.Claims, host string) error {
	account, network := "account "+claims.Subject, c.network(host)
	c.mu.Lock()
	defer c.mu.Unlock()
	has := func(key string) int { return c.found[key] + c.since[key] }
	if c.perAccount > 0 && has(account) >= c.perAccount ||
		c.perNetwork > 0 && network != "" && has(network) >= c.perNetwork {
		return errTooMany
	}
	for _, m := range []*map[string]int{&c.since, &c.next} {
		if *m == nil {
			*m = make(map[string]int)
		}
		(*m)[account]++
		(*m)[network]++
	}
	return nil
}

// network returns the network of a client's host, as package web counts by it, or "" if it is a
// proxy's or none.
func (c *census) network(host string) string {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	a = a.Unmap().WithZone("")
	for _, p := range c.proxies {
		if p.Contains(a) {
			return ""
		}
	}
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil { // impossible: both are valid lengths
		return ""
	}
	return p.String()
}

// begin begins a sweep. The returned function adds a connection that the sweep has found, and done
// ends the sweep.
func (c *census) begin() (add func(n connectionName, host string), done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = nil
	var mu sync.Mutex // servers are swept at the same time
	found := make(map[string]int)
	add = func(n connectionName, host string) {
		mu.Lock()
		defer mu.Unlock()
		found["account "+n.subject]++
		found[c.network(host)]++
	}
	return add, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.found, c.since = found, maps.Clone(c.next)
	}
}
