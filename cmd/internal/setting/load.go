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

// WebURLs are where instances of a service are, separated by commas.
type WebURLs struct {
	Value []string
	verdict
}

// Decode takes http:// and https:// URLs without a path or a password. What is wrong with one is told without showing it, because it may hold one.
func (u *WebURLs) Decode(ctx *kong.DecodeContext) error {
	wrong := false
	err := u.judge(ctx, func(raw string) string {
		u.Value = nil
		for one := range strings.SplitSeq(raw, ",") {
			one = strings.TrimSuffix(strings.TrimSpace(one), "/")
			p, err := url.Parse(one)
			wrong = wrong || err != nil || p.Hostname() == "" || p.User != nil || p.Path != "" || p.RawQuery != "" || (p.Scheme != "http" && p.Scheme != "https")
			u.Value = append(u.Value, one)
		}
		return ""
	})
	if wrong {
		u.Value, u.verdict = nil, "must look like http://host:3000 (several are separated by commas)"
	}
	return err
}

// Real is a number within the bounds of the tags min and max.
type Real struct {
	Value float64
	verdict
}

// Decode takes decimal numbers.
func (r *Real) Decode(ctx *kong.DecodeContext) error {
	return r.judge(ctx, func(raw string) string {
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
