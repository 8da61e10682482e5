package wiring

import (
	"context"
	"net/http"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus/story"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/door"
	"github.com/example/pillion/web/live"
)

// Door returns the handler of all services on one address, with the page. demo says whether the
// demo accounts may sign in. The handler of board is nil if there is none.
func (b *Base) Door(h setting.HTTP, demo bool, auth, user, rider, board Component) http.Handler {
	services := door.Services{Auth: auth.Handler, User: user.Handler, Rider: rider.Handler, Board: board.Handler}
	return door.New(services, demo, b.router(h, "door"))
}

// Page returns the handler of authsvc with the page beside it, for a gateway that does the rest of
// a door.
func (b *Base) Page(h setting.HTTP, demo bool, auth Component) http.Handler {
	return door.Beside(auth.Handler, demo, b.router(h, "door"))
}

// router returns the configuration of a router that is no service's.
func (b *Base) router(h setting.HTTP, name string) web.RouterConfig {
	return web.RouterConfig{
		Service: name, Log: b.Log.With("service", name), Registerer: b.Registry, Tracer: b.Conn.Tracer(),
		TrustedProxies: h.TrustedProxies.Value, Rate: web.Rate{PerMinute: h.RequestLimit.Value},
		Origins: h.Origins.Value,
	}
}

// Board returns the board of the whole city, for the accounts that may see it. If may is nil,
// nobody may, and there is none. They can also start and stop a simulated city, unless it is nil.
func (r *Rides) Board(h setting.HTTP, w setting.Streams, may func(token.Claims) bool, city live.City) Component {
	if may == nil {
		return Component{}
	}
	service := live.New(live.Config{
		Board: r.board, Ready: r.follower.Ready, Follower: r.follower, Fleet: r.fleet, Story: r.story,
		Verifier: r.base.Verifier, May: may, City: city, Streams: streamLimits(w),
		Router: r.base.router(h, "board"),
	})
	return Component{Handler: service.Routes(), Tasks: []program.Task{service.Run}}
}

// story reads the story of a booking.
func (r *Rides) story(ctx context.Context, id booking.ID) (story.Story, error) {
	return story.Read(ctx, r.ledger, r.base.Verifier, id)
}
