package program

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/example/pillion/internal/fault"
)

// ErrUnhealthy says that a process does not answer on its ops address.
var ErrUnhealthy = fault.New(fault.Unavailable, "unhealthy", "It does not answer.")

const healthPatience = 2 * time.Second

// Health asks the process that has ops as its ops address whether it serves, for a container's health check: an image made from
// scratch has no other program to ask with.
func Health(ctx context.Context, ops string) error {
	host, port, err := net.SplitHostPort(ops)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	if ip, err := netip.ParseAddr(host); host == "" || (err == nil && ip.IsUnspecified()) {
		host = "127.0.0.1" // it listens everywhere, so also here
	}
	ctx, cancel := context.WithTimeout(ctx, healthPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy, whatever the environment says
	resp, err := client.Do(req)
	if err != nil {
		return ErrUnhealthy.Because(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return ErrUnhealthy.Because(fmt.Errorf("%s answers %s", req.URL, resp.Status))
	}
	return nil
}
