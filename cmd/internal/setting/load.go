package setting

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

var (
	_ kong.MapperValue = (*WebURLs)(nil)
	_ kong.MapperValue = (*Real)(nil)
)

// WebURLs holds URLs of servers, separated by commas. It may be empty if its default is.
type WebURLs struct {
	Value []string
	problem
}

// Decode accepts http:// and https:// URLs without a path, a password or a wildcard. The message
// about a bad URL does not quote it, because it may contain a password.
func (u *WebURLs) Decode(ctx *kong.DecodeContext) error {
	return u.decode(ctx, func(raw string) problem {
		u.Value = nil
		if raw == "" && ctx.Value.Default == "" {
			return ""
		}
		for one := range strings.SplitSeq(raw, ",") {
			one = strings.TrimSuffix(strings.TrimSpace(one), "/")
			p, err := url.Parse(one)
			if err != nil || p.Hostname() == "" || p.User != nil || p.Path != "" || p.RawQuery != "" ||
				strings.Contains(one, "*") || (p.Scheme != "http" && p.Scheme != "https") {
				u.Value = nil
				return "must look like http://host:3000 (several are separated by commas)"
			}
			u.Value = append(u.Value, one)
		}
		return ""
	})
}

// Real is a number within the bounds of the tags min and max.
type Real struct {
	Value float64
	problem
}

// Decode accepts decimal numbers.
func (r *Real) Decode(ctx *kong.DecodeContext) error {
	return r.decode(ctx, func(raw string) problem {
		least, most := ctx.Value.Tag.Get("min"), ctx.Value.Tag.Get("max")
		parse := func(s string) (float64, error) { return strconv.ParseFloat(s, 64) }
		return between(&r.Value, raw, least, most, parse, "a number from "+least+" to "+most)
	})
}
