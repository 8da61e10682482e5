package program

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/internal/fault"
)

// ErrUnhealthy means that the process did not answer its health check with status 200.
var ErrUnhealthy = fault.New(fault.Unavailable, "unhealthy", "The process does not answer its health check.")

const healthPatience = 2 * time.Second

// A HealthCheck is the command that performs the health check of the process at an ops address. A
// container image made from scratch has no other program for it.
type HealthCheck struct{ setting.Ops }

// Run performs the check. Errors: ErrUnhealthy.
func (h HealthCheck) Run(ctx context.Context, _ Env) error {
	host, port, err := net.SplitHostPort(h.OpsAddr.Value)
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
