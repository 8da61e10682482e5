package setting

import (
	"strings"

	"github.com/alecthomas/kong"

	"github.com/example/pillion/booking"
)

// Accounts are the ids of some accounts, separated by commas.
type Accounts struct {
	Value []string
	problem
}

// Decode accepts ids of 26 characters. An email would not do: anyone can register one in the other
// role.
func (a *Accounts) Decode(ctx *kong.DecodeContext) error {
	return a.decode(ctx, func(raw string) problem {
		a.Value = nil
		if raw == "" {
			return ""
		}
		for one := range strings.SplitSeq(raw, ",") {
			one = strings.TrimSpace(one)
			if !booking.ValidID(one) {
				a.Value = nil
				return mustBe("ids of accounts, separated by commas; authsvc accounts show tells them", raw)
			}
			a.Value = append(a.Value, one)
		}
		return ""
	})
}
