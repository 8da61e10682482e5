package bustest

import (
	"sync"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/token/trustkey"
)

// trustKey makes the trust key of all tests in this process.
var trustKey = sync.OnceValue(func() *trustkey.Key {
	k, err := trustkey.New()
	if err != nil {
		panic(err)
	}
	return k
})

// Anchor returns an anchor that trusts what an [Authority] signs.
func Anchor() *trustkey.Anchor { return trustKey().Anchor() }

// Authority returns an authority, such as authsvc's.
func Authority(c *bus.Conn) *trust.Authority { return trust.NewAuthority(c, trustKey(), "") }
