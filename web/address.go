package web

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/go-chi/chi/v5/middleware"
)

// ClientAddress returns where the request that ctx belongs to came from: the peer's address, or behind a proxy that
// [RouterConfig].TrustedProxies names, the last address of X-Forwarded-For that is none of those proxies. It is invalid where a trusted
// proxy has sent nothing that can be read. A client cannot choose it.
func ClientAddress(ctx context.Context) netip.Addr { return middleware.GetClientIPAddr(ctx) }

// ClientNetwork returns what a limit counts a client by: its address, and of IPv6 the /64 that a single customer is given (RFC 6177).
// It is "unknown" for all whose address is.
func ClientNetwork(ctx context.Context) string {
	a := ClientAddress(ctx)
	switch {
	case !a.IsValid():
		return "unknown"
	case a.Is6():
		p, err := a.Prefix(64)
		if err != nil { // 64 is less than 128
			return "unknown"
		}
		return p.String()
	}
	return a.String()
}

// clientAddress returns the middleware that finds out where a request came from.
func clientAddress(proxies []netip.Prefix) func(http.Handler) http.Handler {
	if len(proxies) == 0 {
		return middleware.ClientIPFromRemoteAddr
	}
	trusted := make([]string, len(proxies))
	for i, p := range proxies {
		trusted[i] = p.Masked().String()
	}
	return middleware.ClientIPFromXFF(trusted...)
}
