package web

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// ClientAddress returns the client's address: that of the peer, or, if the peer is one of
// [RouterConfig].TrustedProxies, the last address of X-Forwarded-For, or else of Forwarded (RFC
// 7239), that is not a trusted proxy's. It is invalid if a trusted proxy sends no address or an
// unreadable one. A client cannot choose it.
func ClientAddress(ctx context.Context) netip.Addr {
	if rec := recordOf(ctx); rec != nil {
		return rec.client
	}
	return netip.Addr{}
}

// ClientNetwork returns the network by which limits count a client: its IPv4 address, or the /64 of
// its IPv6 address, which is what one customer gets (RFC 6177). It is empty if the address is
// unknown. Apply no limit then: it would be shared by all clients of a proxy, and any of them could
// use it up.
func ClientNetwork(ctx context.Context) string {
	return networkOf(ClientAddress(ctx))
}

func networkOf(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return ""
	case a.Is6():
		p, err := a.Prefix(64)
		if err != nil { // impossible: 64 is a valid length
			return ""
		}
		return p.String()
	}
	return a.String()
}

// An addressResolver finds the addresses of clients. It warns once of each problem.
type addressResolver struct {
	proxies []netip.Prefix
	log     *slog.Logger
	warned  sync.Map // the warnings that have been logged
}

func newAddressResolver(proxies []netip.Prefix, log *slog.Logger) *addressResolver {
	o := &addressResolver{log: log}
	for _, p := range proxies {
		o.proxies = append(o.proxies, p.Masked())
	}
	return o
}

const (
	headerForwardedFor = "X-Forwarded-For"
	headerForwarded    = "Forwarded"
)

// The problems that disable limits by network, and what to do about each.
const (
	warnUnnamed = "forwarded request from a proxy that --trusted-proxies does not name: " +
		"all its clients count as one. Name the proxy, if it is yours"
	warnSilent = "trusted proxy sent no client address: its clients are not limited by network. " +
		"Make it send X-Forwarded-For or Forwarded, unless this was its health check"
	warnUnread = "trusted proxy sent an unreadable client address: such clients are not limited by network. " +
		"Make it send an IP address"
	warnTrusted = "request came through trusted proxies only: it is not limited by network. " +
		"Name proxies in --trusted-proxies, not networks of clients"
	warnDisagree = "X-Forwarded-For and Forwarded of a trusted proxy differ: X-Forwarded-For counts. " +
		"Make the proxy remove the header that it does not write from what clients send"
)

// warn logs each message once, about the request that shows it first.
func (o *addressResolver) warn(r *http.Request, what string, attrs ...any) {
	if _, before := o.warned.LoadOrStore(what, true); !before && o.log != nil {
		o.log.WarnContext(r.Context(), what, append([]any{"peer", r.RemoteAddr}, attrs...)...)
	}
}

// of returns the address of a request's client, or an invalid one.
func (o *addressResolver) of(r *http.Request) netip.Addr {
	peer := peerOf(r)
	plain, standard := r.Header[headerForwardedFor], r.Header[headerForwarded]
	if !o.trusts(peer) {
		if len(plain) > 0 || len(standard) > 0 {
			o.warn(r, warnUnnamed)
		}
		return peer
	}
	if len(plain) == 0 && len(standard) == 0 {
		o.warn(r, warnSilent)
		return netip.Addr{}
	}
	if len(plain) == 0 {
		return o.walk(r, standard, forOf)
	}
	client := o.walk(r, plain, nodeOf)
	if len(standard) > 0 && o.walk(r, standard, forOf) != client {
		o.warn(r, warnDisagree)
	}
	return client
}

// peerOf returns the address of the connection's peer.
func peerOf(r *http.Request) netip.Addr {
	if p, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return p.Addr().Unmap()
	}
	a, err := netip.ParseAddr(r.RemoteAddr)
	if err != nil { // for example a Unix socket
		return netip.Addr{}
	}
	return a.Unmap()
}

func (o *addressResolver) trusts(a netip.Addr) bool {
	a = a.WithZone("")
	return slices.ContainsFunc(o.proxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// walk returns the last address of a header that is not a trusted proxy's. Each proxy appends the
// address of its peer, so a client can only choose what precedes its own address.
func (o *addressResolver) walk(r *http.Request, lines []string, read func(string) (netip.Addr, bool)) netip.Addr {
	what := warnSilent
	for _, line := range slices.Backward(lines) {
		for line != "" {
			var element string
			line, element = cutLast(line)
			if element == "" {
				continue
			}
			a, ok := read(element)
			if !ok {
				o.warn(r, warnUnread, "value", element[:min(len(element), 64)])
				return netip.Addr{}
			}
			if !o.trusts(a) {
				return a
			}
			what = warnTrusted
		}
	}
	o.warn(r, what)
	return netip.Addr{}
}

// cutLast cuts the last element off a comma-separated list. It scans from the end, so that an
// unclosed quote of a client does not affect the elements that proxies have appended.
func cutLast(list string) (rest, last string) {
	quoted := false
	for i := len(list) - 1; i >= 0; i-- {
		switch list[i] {
		case '"':
			quoted = !quoted
		case ',':
			if !quoted {
				return list[:i], strings.Trim(list[i+1:], " \t")
			}
		}
	}
	return "", strings.Trim(list, " \t")
}

// forOf reads the parameter for of an element of Forwarded, such as
// for="[2001:db8::1]:4711";proto=https.
func forOf(element string) (netip.Addr, bool) {
	var node string
	found := 0
	// what stands in quotes may have one too, and then it is no address
	for pair := range strings.SplitSeq(element, ";") {
		name, value, _ := strings.Cut(pair, "=")
		if strings.EqualFold(strings.Trim(name, " \t"), "for") {
			node = value
			found++
		}
	}
	if found != 1 {
		return netip.Addr{}, false
	}
	return nodeOf(node)
}

// nodeOf reads the address of a proxy's peer, as RFC 7239 section 6 defines it and as proxies write
// it: with or without a port and quotes, and with or without brackets for IPv6. ok is false for
// "unknown", obfuscated names, and anything else that is not a client's address.
func nodeOf(s string) (a netip.Addr, ok bool) {
	s = strings.Trim(s, " \t")
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	host, port := s, ""
	if inside, found := strings.CutPrefix(s, "["); found {
		if host, port, found = strings.Cut(inside, "]"); !found || !strings.Contains(host, ":") {
			return netip.Addr{}, false
		}
	} else if i := strings.IndexByte(s, ':'); i >= 0 && i == strings.LastIndexByte(s, ':') {
		host, port = s[:i], s[i:]
	}
	if port != "" && !isPort(port) {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(host)
	if err != nil || a.IsUnspecified() {
		return netip.Addr{}, false
	}
	return a.Unmap().WithZone(""), true
}

// isPort reports whether s is a colon and a port, which may be an obfuscated one.
func isPort(s string) bool {
	s = s[1:]
	if obfuscated, ok := strings.CutPrefix(s, "_"); ok {
		return obfuscated != "" && strings.Trim(obfuscated,
			"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
	}
	return s != "" && len(s) <= 5 && strings.Trim(s, "0123456789") == ""
}
