package wiring

import (
	"net/http"

	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/door"
)

// Door returns the handler of all services on one address.
func (b *Base) Door(h setting.HTTP, auth, user, rider Component) http.Handler {
	services := door.Services{Auth: auth.Handler, User: user.Handler, Rider: rider.Handler}
	return door.New(services, web.RouterConfig{
		Service: "door", Log: b.Log.With("service", "door"), Registerer: b.Registry, Tracer: b.Conn.Tracer(),
		TrustedProxies: h.TrustedProxies.Value, Rate: web.Rate{PerMinute: h.RequestLimit.Value},
		Origins: h.Origins.Value,
	})
}
