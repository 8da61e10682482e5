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

type addressKey struct{}

// ClientAddress returns where the request that ctx belongs to came from: the peer's address, or behind a proxy that
// [RouterConfig].TrustedProxies names, the last address of X-Forwarded-For, or else of Forwarded (RFC 7239), that is none of those
// proxies. It is invalid where a trusted proxy does not say it, or not in a form that can be read. A client cannot choose it.
func ClientAddress(ctx context.Context) netip.Addr {
	a, _ := ctx.Value(addressKey{}).(netip.Addr)
	return a
}

// ClientNetwork returns what a limit counts a client by: its address, and of IPv6 the /64 that a single customer is given (RFC
// 6177). It is empty where the address is not known, and then no limit by network may be applied: it would be one for all clients
// of a proxy together, and any of them could use it up.
func ClientNetwork(ctx context.Context) string {
	a := ClientAddress(ctx)
	switch {
	case !a.IsValid():
		return ""
	case a.Is6():
		p, err := a.Prefix(64)
		if err != nil { // 64 is less than 128
			return ""
		}
		return p.String()
	}
	return a.String()
}

// An origin finds out where requests come from, and warns once of each thing that keeps it from that.
type origin struct {
	proxies []netip.Prefix
	log     *slog.Logger
	warned  sync.Map // what has been warned of
}

// clientAddress returns the middleware that finds out where a request came from.
func clientAddress(proxies []netip.Prefix, log *slog.Logger) func(http.Handler) http.Handler {
	o := &origin{log: log}
	for _, p := range proxies {
		o.proxies = append(o.proxies, p.Masked())
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if a := o.of(r); a.IsValid() {
				r = r.WithContext(context.WithValue(r.Context(), addressKey{}, a))
			}
			next.ServeHTTP(w, r)
		})
	}
}

const (
	headerForwardedFor = "X-Forwarded-For"
	headerForwarded    = "Forwarded"
)

// What keeps limits by network from working, each with what to do about it.
const (
	warnUnnamed  = "a request says that it was forwarded, by a proxy that --trusted-proxies does not name: all clients behind it count as one. Name it, if it is yours"
	warnSilent   = "a trusted proxy does not say where a request comes from, so nobody behind it is limited by network. Let it send X-Forwarded-For or Forwarded, unless this was its health check"
	warnUnread   = "a trusted proxy says where a request comes from in a form that cannot be read, so such clients are not limited by network. Let it send an address"
	warnTrusted  = "a request comes from trusted proxies only, so it is not limited by network. Name proxies in --trusted-proxies, and no networks of clients"
	warnDisagree = "X-Forwarded-For and Forwarded of a trusted proxy differ, and X-Forwarded-For counts. Let the proxy remove the one that it does not write from what clients send"
)

// warn logs what was not logged before.
func (o *origin) warn(what, peer string, attrs ...any) {
	if _, before := o.warned.LoadOrStore(what, true); !before && o.log != nil {
		o.log.Warn(what, append([]any{"peer", peer}, attrs...)...)
	}
}

// of returns where a request came from, or an invalid address.
func (o *origin) of(r *http.Request) netip.Addr {
	peer := peerOf(r)
	plain, standard := r.Header[headerForwardedFor], r.Header[headerForwarded]
	if !o.trusts(peer) {
		if len(plain) > 0 || len(standard) > 0 {
			o.warn(warnUnnamed, r.RemoteAddr)
		}
		return peer
	}
	if len(plain) == 0 && len(standard) == 0 {
		o.warn(warnSilent, r.RemoteAddr)
		return netip.Addr{}
	}
	if len(plain) == 0 {
		return o.walk(r, standard, forOf)
	}
	client := o.walk(r, plain, nodeOf)
	if len(standard) > 0 && o.walk(r, standard, forOf) != client {
		o.warn(warnDisagree, r.RemoteAddr)
	}
	return client
}

// peerOf returns the address at the other end of the connection.
func peerOf(r *http.Request) netip.Addr {
	if p, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return p.Addr().Unmap()
	}
	a, err := netip.ParseAddr(r.RemoteAddr)
	if err != nil { // a Unix socket, say
		return netip.Addr{}
	}
	return a.Unmap()
}

func (o *origin) trusts(a netip.Addr) bool {
	a = a.WithZone("")
	return slices.ContainsFunc(o.proxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// walk returns the last address of a header that is no trusted proxy's. Each proxy adds the address that it was asked from at the
// end, so a client can only choose what stands before its own.
func (o *origin) walk(r *http.Request, lines []string, read func(string) (netip.Addr, bool)) netip.Addr {
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
				o.warn(warnUnread, r.RemoteAddr, "says", element[:min(len(element), 64)])
				return netip.Addr{}
			}
			if !o.trusts(a) {
				return a
			}
			what = warnTrusted
		}
	}
	o.warn(what, r.RemoteAddr)
	return netip.Addr{}
}

// cutLast cuts the last element off a list that is separated by commas. It goes from the end, so that a quote which a client has
// not closed does not reach into what a proxy has added.
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

// forOf reads the "for" of an element of Forwarded, such as for="[2001:db8::1]:4711";proto=https.
func forOf(element string) (netip.Addr, bool) {
	var node string
	found := 0
	for pair := range strings.SplitSeq(element, ";") { // what stands in quotes may have one too, and then it is no address
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

// nodeOf reads who a proxy was asked by: an address as RFC 7239 section 6 has it, and as proxies write it, with a port or without,
// in quotes, and of IPv6 in brackets or not. It is not ok for "unknown", obfuscated names, and whatever else is no address of a
// client.
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

// isPort reports whether s is a colon and a port, which may be obfuscated.
func isPort(s string) bool {
	s = s[1:]
	if obfuscated, ok := strings.CutPrefix(s, "_"); ok {
		return obfuscated != "" && strings.Trim(obfuscated, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
	}
	return s != "" && len(s) <= 5 && strings.Trim(s, "0123456789") == ""
}
