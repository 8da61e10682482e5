package setting

import (
	"math"
	"net/url"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

var (
	_ kong.MapperValue = (*WebURLs)(nil)
	_ kong.MapperValue = (*Real)(nil)
)

// WebURLs holds the URLs of a service's instances, separated by commas.
type WebURLs struct {
	Value []string
	problem
}

// Decode accepts http:// and https:// URLs without a path or a password. The message about a bad
// URL does not quote it, because it may contain a password.
func (u *WebURLs) Decode(ctx *kong.DecodeContext) error {
	wrong := false
	err := u.decode(ctx, func(raw string) string {
		u.Value = nil
		for one := range strings.SplitSeq(raw, ",") {
			one = strings.TrimSuffix(strings.TrimSpace(one), "/")
			p, err := url.Parse(one)
			wrong = wrong || err != nil || p.Hostname() == "" || p.User != nil || p.Path != "" || p.RawQuery != "" ||
				(p.Scheme != "http" && p.Scheme != "https")
			u.Value = append(u.Value, one)
		}
		return ""
	})
	if wrong {
		u.Value, u.problem = nil, "must look like http://host:3000 (several are separated by commas)"
	}
	return err
}

// Real is a number within the bounds of the tags min and max.
type Real struct {
	Value float64
	problem
}

// Decode accepts decimal numbers.
func (r *Real) Decode(ctx *kong.DecodeContext) error {
	return r.decode(ctx, func(raw string) string {
		low, lowErr := strconv.ParseFloat(ctx.Value.Tag.Get("min"), 64)
		high, highErr := strconv.ParseFloat(ctx.Value.Tag.Get("max"), 64)
		v, err := strconv.ParseFloat(raw, 64)
		if err != nil || lowErr != nil || highErr != nil || math.IsNaN(v) || v < low || v > high {
			return "a number from " + ctx.Value.Tag.Get("min") + " to " + ctx.Value.Tag.Get("max")
		}
		r.Value = v
		return ""
	})
}
