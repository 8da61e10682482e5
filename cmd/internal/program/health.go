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

// ErrUnhealthy means that the process did not answer its health check with status 200.
var ErrUnhealthy = fault.New(fault.Unavailable, "unhealthy", "The process does not answer its health check.")

const healthPatience = 2 * time.Second

// Health performs the health check of the process whose ops address is ops. A container image made
// from scratch has no other program for it. Errors: ErrUnhealthy.
func Health(ctx context.Context, ops string) error {
	host, port, err := net.SplitHostPort(ops)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	if ip, err := netip.ParseAddr(host); host == "" || (err == nil && ip.IsUnspecified()) {
		host = "127.0.0.1" // a process that listens on all interfaces also listens on loopback
	}
	ctx, cancel := context.WithTimeout(ctx, healthPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	// This transport ignores the proxy settings of the environment.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
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
