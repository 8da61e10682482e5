package setting

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

var (
	_ kong.MapperValue = (*Text)(nil)
	_ kong.MapperValue = (*Addr)(nil)
	_ kong.MapperValue = (*Duration)(nil)
	_ kong.MapperValue = (*Size)(nil)
	_ kong.MapperValue = (*Number)(nil)
	_ kong.MapperValue = (*Choice)(nil)
	_ kong.MapperValue = (*Sync)(nil)
	_ kong.MapperValue = (*NATSURL)(nil)
	_ kong.MapperValue = (*CookiePath)(nil)
	_ kong.MapperValue = (*Switch)(nil)
	_ kong.MapperValue = (*Count)(nil)
	_ kong.MapperValue = (*AccountsAt)(nil)
	_ kong.MapperValue = (*Networks)(nil)
)

// Text is a string, such as the name of a file.
type Text struct {
	Value string
	problem
}

// Decode accepts any text.
func (t *Text) Decode(ctx *kong.DecodeContext) error {
	return t.decode(ctx, func(raw string) problem {
		t.Value = raw
		return ""
	})
}

// Addr is a listening address: a host and a port. Port 0 selects a free port. The word off is
// accepted as well if the tag off says what that means; Value is empty then.
type Addr struct {
	Value    string
	loopback bool
	problem
}

// Decode accepts host:port, and off.
func (a *Addr) Decode(ctx *kong.DecodeContext) error {
	return a.decode(ctx, func(raw string) problem {
		what := "an address to listen on such as 127.0.0.1:3000, with a port from 0 to 65535"
		if off := ctx.Value.Tag.Get("off"); off != "" {
			if raw == "off" {
				a.Value = ""
				return ""
			}
			what += ", or off (" + off + ")"
		}
		host, port, err := net.SplitHostPort(raw)
		if _, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil {
			return mustBe(what, raw)
		}
		a.Value, a.loopback = raw, loopback(host)
		return ""
	})
}

// Loopback reports whether the address can be reached from this machine only.
func (a Addr) Loopback() bool { return a.loopback }

// loopback reports whether host is a loopback address.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// Duration is a duration within the bounds of the tags min and max. Zero is accepted as well if the
// tag off says what that means.
type Duration struct {
	Value time.Duration
	problem
}

// Decode accepts the format of time.ParseDuration.
func (d *Duration) Decode(ctx *kong.DecodeContext) error {
	return d.decode(ctx, func(raw string) problem {
		least, most, off := ctx.Value.Tag.Get("min"), ctx.Value.Tag.Get("max"), ctx.Value.Tag.Get("off")
		what := fmt.Sprintf(aDuration, least, most)
		if off != "" {
			what = "0 (" + off + "), or " + what
		}
		if v, err := time.ParseDuration(raw); off == "" || err != nil || v != 0 {
			return between(&d.Value, raw, least, most, time.ParseDuration, what)
		}
		d.Value = 0
		return ""
	})
}

const aDuration = "a duration from %s to %s, such as 90s or 15m"

// between parses a value, which must be from least to most.
func between[T cmp.Ordered](value *T, raw, least, most string, parse func(string) (T, error), what string) problem {
	v, err := parse(raw)
	low, lowErr := parse(least)
	high, highErr := parse(most)
	if err != nil || lowErr != nil || highErr != nil || !(v >= low && v <= high) { // NaN is neither
		return mustBe(what, raw)
	}
	*value = v
	return ""
}

// Sync is when the embedded NATS server syncs to disk: before each acknowledgement, or at an
// interval.
type Sync struct {
	Always   bool
	Interval time.Duration // zero when Always
	problem
}

// Decode accepts the word always, or a duration.
func (s *Sync) Decode(ctx *kong.DecodeContext) error {
	return s.decode(ctx, func(raw string) problem {
		const least, most = "10ms", "1h"
		if s.Always = raw == "always"; s.Always {
			return ""
		}
		what := "always, or " + fmt.Sprintf(aDuration, least, most)
		return between(&s.Interval, raw, least, most, time.ParseDuration, what)
	})
}

// Size is a number of bytes, at least the value of the tag min.
type Size struct {
	Value int64
	problem
}

// Decode accepts a whole number followed by KiB, MiB, GiB or TiB.
func (s *Size) Decode(ctx *kong.DecodeContext) error {
	return s.decode(ctx, func(raw string) problem {
		v, ok := bytes(raw)
		least := ctx.Value.Tag.Get("min")
		if low, _ := bytes(least); !ok || v < low {
			return mustBe("a size of at least "+least+", such as 512MiB or 4GiB", raw)
		}
		s.Value = v
		return ""
	})
}

// bytes parses a whole number of binary units. Libraries for this also accept KB, which is 1000 for
// some and 1024 for others.
func bytes(raw string) (int64, bool) {
	for shift, unit := range map[int]string{10: "KiB", 20: "MiB", 30: "GiB", 40: "TiB"} {
		if digits, ok := strings.CutSuffix(raw, unit); ok {
			v, err := strconv.ParseUint(digits, 10, 63-shift)
			return int64(v) << shift, err == nil
		}
	}
	return 0, false
}

// Number is one of the whole numbers in the tag oneof, separated by spaces.
type Number struct {
	Value int
	problem
}

// Decode accepts one of the listed numbers.
func (n *Number) Decode(ctx *kong.DecodeContext) error {
	return n.decode(ctx, func(raw string) problem {
		v, err := strconv.Atoi(raw)
		if all := strings.Fields(ctx.Value.Tag.Get("oneof")); err != nil || !slices.Contains(all, raw) {
			return mustBe(either(all), raw)
		}
		n.Value = v
		return ""
	})
}

// Choice is one of the words in the tag oneof, separated by spaces, or the default.
type Choice struct {
	Value string
	problem
}

// Decode accepts one of the listed words.
func (c *Choice) Decode(ctx *kong.DecodeContext) error {
	return c.decode(ctx, func(raw string) problem {
		if all := strings.Fields(ctx.Value.Tag.Get("oneof")); raw != ctx.Value.Default && !slices.Contains(all, raw) {
			return mustBe(either(all), raw)
		}
		c.Value = raw
		return ""
	})
}

// either joins words with commas and a final "or".
func either(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// NATSURL holds the URLs of NATS servers, separated by commas. It may be empty if its default is.
type NATSURL struct {
	Value string
	problem
}

// Decode accepts nats:// and tls:// URLs. The message about a bad URL does not quote it, because it
// may contain a password.
func (u *NATSURL) Decode(ctx *kong.DecodeContext) error {
	return u.decode(ctx, func(raw string) problem {
		u.Value = raw
		if raw == "" && ctx.Value.Default == "" {
			return ""
		}
		for one := range strings.SplitSeq(raw, ",") {
			p, err := url.Parse(strings.TrimSpace(one))
			if err != nil || p.Hostname() == "" || (p.Scheme != "nats" && p.Scheme != "tls") {
				u.Value = ""
				return "must look like nats://host:4222 (several are separated by commas)"
			}
		}
		return ""
	})
}

// CookiePath is the path of a cookie.
type CookiePath struct {
	Value string
	problem
}

// cookiePath matches paths that are written alike in a cookie and in a URL.
var cookiePath = regexp.MustCompile(`^(/|(/[A-Za-z0-9._~-]+)+/?)$`)

// Decode accepts / and paths like /auth.
func (p *CookiePath) Decode(ctx *kong.DecodeContext) error {
	return p.decode(ctx, func(raw string) problem {
		if p.Value = raw; cookiePath.MatchString(raw) {
			return ""
		}
		return mustBe("/ or a path such as /auth", raw)
	})
}

// Switch is on or off. A flag without a value is on.
type Switch struct {
	On bool
	problem
}

// IsBool means to kong that the flag needs no value.
func (Switch) IsBool() bool { return true }

// Decode accepts the values of strconv.ParseBool. For a flag no value means on.
func (s *Switch) Decode(ctx *kong.DecodeContext) error {
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		s.On, s.problem = true, ""
		return nil
	}
	return s.decode(ctx, func(raw string) problem {
		on, err := strconv.ParseBool(raw)
		if raw != "" && err != nil {
			return mustBe("true or false", raw)
		}
		s.On = on
		return ""
	})
}

// Count is a whole number within the bounds of the tags min and max.
type Count struct {
	Value int
	problem
}

// Decode accepts decimal digits.
func (c *Count) Decode(ctx *kong.DecodeContext) error {
	return c.decode(ctx, func(raw string) problem {
		least, most := ctx.Value.Tag.Get("min"), ctx.Value.Tag.Get("max")
		return between(&c.Value, raw, least, most, strconv.Atoi, "a whole number from "+least+" to "+most)
	})
}

// Networks holds networks in CIDR notation, or single addresses, separated by commas. It may be
// empty.
type Networks struct {
	Value []netip.Prefix
	problem
}

// Decode accepts the formats of netip.ParsePrefix and netip.ParseAddr. It refuses a network with
// bits beyond its prefix, which is probably a mistake, and the whole internet: these networks are
// trusted to name the client of a request.
func (n *Networks) Decode(ctx *kong.DecodeContext) error {
	return n.decode(ctx, func(raw string) problem {
		n.Value = nil
		if raw == "" {
			return ""
		}
		for one := range strings.SplitSeq(raw, ",") {
			one = strings.TrimSpace(one)
			p, err := netip.ParsePrefix(one)
			if a, addrErr := netip.ParseAddr(one); addrErr == nil {
				p, err = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
			}
			if err != nil || p != p.Masked() || p.Bits() == 0 {
				n.Value = nil
				return mustBe("networks such as 10.0.0.0/8 or addresses, separated by commas, and not the whole "+
					"internet", raw)
			}
			n.Value = append(n.Value, p)
		}
		return ""
	})
}

// AccountsAt is the store of accounts: PostgreSQL at a URL, or NATS if that is empty.
type AccountsAt struct {
	PostgreSQL string
	problem
}

// Decode accepts the word nats, and postgres:// URLs. The message about a bad URL does not quote
// it, because it may contain a password.
func (a *AccountsAt) Decode(ctx *kong.DecodeContext) error {
	return a.decode(ctx, func(raw string) problem {
		if a.PostgreSQL = ""; raw == "nats" {
			return ""
		}
		p, err := url.Parse(raw)
		if err != nil || p.Host == "" || (p.Scheme != "postgres" && p.Scheme != "postgresql") {
			return "must be nats, or look like postgres://user:password@host:5432/database"
		}
		a.PostgreSQL = raw
		return ""
	})
}
