package setting

import (
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

// Text is anything, such as the name of a file.
type Text struct {
	Value string
	verdict
}

// Decode takes any text.
func (t *Text) Decode(ctx *kong.DecodeContext) error {
	return t.judge(ctx, func(raw string) string {
		t.Value = raw
		return ""
	})
}

// Addr is where to listen: a host and a port. Port 0 takes a free one.
type Addr struct {
	Value    string
	loopback bool
	verdict
}

// Decode takes host:port.
func (a *Addr) Decode(ctx *kong.DecodeContext) error {
	return a.judge(ctx, func(raw string) string {
		host, port, err := net.SplitHostPort(raw)
		if _, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil {
			return "an address to listen on such as 127.0.0.1:3000, with a port from 0 to 65535"
		}
		a.Value, a.loopback = raw, loopback(host)
		return ""
	})
}

// Loopback reports whether it is on this machine, and reachable from nowhere else.
func (a Addr) Loopback() bool { return a.loopback }

// loopback reports whether host is this machine and reachable from nowhere else.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// Duration is a time span within the bounds of the tags min and max, or zero where the tag off says what that switches off.
type Duration struct {
	Value time.Duration
	verdict
}

// Decode takes what time.ParseDuration does.
func (d *Duration) Decode(ctx *kong.DecodeContext) error {
	return d.judge(ctx, func(raw string) (must string) {
		least, most, off := ctx.Value.Tag.Get("min"), ctx.Value.Tag.Get("max"), ctx.Value.Tag.Get("off")
		if d.Value, must = duration(raw, least, most); must == "" || off == "" {
			return must
		}
		if v, err := time.ParseDuration(raw); err == nil && v == 0 {
			return ""
		}
		return "0 (" + off + "), or " + must
	})
}

// duration reads a time span within bounds, or says what it must be.
func duration(raw, least, most string) (time.Duration, string) {
	v, err := time.ParseDuration(raw)
	low, lowErr := time.ParseDuration(least)
	high, highErr := time.ParseDuration(most)
	if err != nil || lowErr != nil || highErr != nil || v < low || v > high {
		return 0, fmt.Sprintf("a duration from %s to %s, such as 90s or 15m", least, most)
	}
	return v, ""
}

// Sync is how often the embedded server writes to disk: before each acknowledgement, or at an interval.
type Sync struct {
	Always   bool
	Interval time.Duration // zero when Always
	verdict
}

// Decode takes the word always, or a duration.
func (s *Sync) Decode(ctx *kong.DecodeContext) error {
	return s.judge(ctx, func(raw string) (must string) {
		if s.Always = raw == "always"; s.Always {
			return ""
		}
		if s.Interval, must = duration(raw, "10ms", "1h"); must != "" {
			return "always, or " + must
		}
		return ""
	})
}

// Size is a number of bytes, at least that of the tag min.
type Size struct {
	Value int64
	verdict
}

// Decode takes a number and KiB, MiB, GiB or TiB.
func (s *Size) Decode(ctx *kong.DecodeContext) error {
	return s.judge(ctx, func(raw string) string {
		v, ok := bytes(raw)
		low, _ := bytes(ctx.Value.Tag.Get("min"))
		if !ok || v < low {
			return "a size of at least " + ctx.Value.Tag.Get("min") + ", such as 512MiB or 4GiB"
		}
		s.Value = v
		return ""
	})
}

// bytes reads a whole number of binary units. kong knows no sizes, and the libraries that do also take KB for 1000 and for 1024.
func bytes(raw string) (int64, bool) {
	for shift, unit := range map[int]string{10: "KiB", 20: "MiB", 30: "GiB", 40: "TiB"} {
		if digits, ok := strings.CutSuffix(raw, unit); ok {
			v, err := strconv.ParseUint(digits, 10, 63-shift)
			return int64(v) << shift, err == nil
		}
	}
	return 0, false
}

// Number is one of the whole numbers that the tag oneof lists, separated by spaces.
type Number struct {
	Value int
	verdict
}

// Decode takes one of the listed numbers.
func (n *Number) Decode(ctx *kong.DecodeContext) error {
	return n.judge(ctx, func(raw string) string {
		v, err := strconv.Atoi(raw)
		if all := strings.Fields(ctx.Value.Tag.Get("oneof")); err != nil || !slices.Contains(all, raw) {
			return either(all)
		}
		n.Value = v
		return ""
	})
}

// Choice is one of the words that the tag oneof lists, separated by spaces, or its default.
type Choice struct {
	Value string
	verdict
}

// Decode takes one of the listed words.
func (c *Choice) Decode(ctx *kong.DecodeContext) error {
	return c.judge(ctx, func(raw string) string {
		if all := strings.Fields(ctx.Value.Tag.Get("oneof")); raw != ctx.Value.Default && !slices.Contains(all, raw) {
			return either(all)
		}
		c.Value = raw
		return ""
	})
}

// either lists words as English does.
func either(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// NATSURL is where a NATS server is, or several separated by commas, or empty where the default is.
type NATSURL struct {
	Value string
	verdict
}

// Decode takes nats:// and tls:// URLs. What is wrong with one is told without showing it, because it may hold a password.
func (u *NATSURL) Decode(ctx *kong.DecodeContext) error {
	must := ""
	err := u.judge(ctx, func(raw string) string {
		u.Value = raw
		if raw == "" && ctx.Value.Default == "" {
			return ""
		}
		for one := range strings.SplitSeq(raw, ",") {
			p, err := url.Parse(strings.TrimSpace(one))
			if err != nil || p.Hostname() == "" || (p.Scheme != "nats" && p.Scheme != "tls") {
				must = "look like nats://host:4222 (several are separated by commas)"
			}
		}
		return must
	})
	if must != "" {
		u.Value, u.verdict = "", verdict("must "+must)
	}
	return err
}

// CookiePath is how the paths begin that browsers give a cookie back to.
type CookiePath struct {
	Value string
	verdict
}

// cookiePath is what can stand in a cookie as it stands in a browser's address.
var cookiePath = regexp.MustCompile(`^(/|(/[A-Za-z0-9._~-]+)+/?)$`)

// Decode takes / and paths like /auth.
func (p *CookiePath) Decode(ctx *kong.DecodeContext) error {
	return p.judge(ctx, func(raw string) string {
		if p.Value = raw; cookiePath.MatchString(raw) {
			return ""
		}
		return "/ or a path such as /auth"
	})
}

// Switch is on or off. The flag alone is on.
type Switch struct {
	On bool
	verdict
}

// IsBool tells kong that the flag needs no value.
func (Switch) IsBool() bool { return true }

// Decode takes true, false and what else strconv.ParseBool does, or nothing at all, which is on for a flag.
func (s *Switch) Decode(ctx *kong.DecodeContext) error {
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		s.On, s.verdict = true, ""
		return nil
	}
	return s.judge(ctx, func(raw string) string {
		on, err := strconv.ParseBool(raw)
		if raw != "" && err != nil {
			return "true or false"
		}
		s.On = on
		return ""
	})
}

// Count is a whole number within the bounds of the tags min and max.
type Count struct {
	Value int
	verdict
}

// Decode takes decimal digits.
func (c *Count) Decode(ctx *kong.DecodeContext) error {
	return c.judge(ctx, func(raw string) string {
		low, lowErr := strconv.Atoi(ctx.Value.Tag.Get("min"))
		high, highErr := strconv.Atoi(ctx.Value.Tag.Get("max"))
		v, err := strconv.Atoi(raw)
		if err != nil || lowErr != nil || highErr != nil || v < low || v > high {
			return "a whole number from " + ctx.Value.Tag.Get("min") + " to " + ctx.Value.Tag.Get("max")
		}
		c.Value = v
		return ""
	})
}

// Networks are networks in CIDR notation, or single addresses, separated by commas; or none.
type Networks struct {
	Value []netip.Prefix
	verdict
}

// Decode takes what netip.ParsePrefix and netip.ParseAddr do. A network that has bits set beyond its length is refused: one of the two is
// a mistake. So is all of the internet: whoever is trusted may say where a request comes from.
func (n *Networks) Decode(ctx *kong.DecodeContext) error {
	return n.judge(ctx, func(raw string) string {
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
				return "networks such as 10.0.0.0/8 or addresses, separated by commas, and not the whole internet"
			}
			n.Value = append(n.Value, p)
		}
		return ""
	})
}

// AccountsAt is where accounts are kept: PostgreSQL at a URL, or where that is empty, NATS.
type AccountsAt struct {
	PostgreSQL string
	verdict
}

// Decode takes the word nats, and postgres:// URLs. What is wrong with one is told without showing it, because it may hold a password.
func (a *AccountsAt) Decode(ctx *kong.DecodeContext) error {
	wrong := false
	err := a.judge(ctx, func(raw string) string {
		if a.PostgreSQL = ""; raw != "nats" {
			p, err := url.Parse(raw)
			if wrong = err != nil || p.Host == "" || (p.Scheme != "postgres" && p.Scheme != "postgresql"); !wrong {
				a.PostgreSQL = raw
			}
		}
		return ""
	})
	if wrong {
		a.verdict = "must be nats, or look like postgres://user:password@host:5432/database"
	}
	return err
}
