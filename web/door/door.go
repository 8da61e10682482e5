// Package door serves the three services on one address, with the page for people, one OpenAPI
// document of all calls and a page to read it.
//
// Make the handler with [New]. It passes each request to the handler that also serves the port of
// its service, so limits, metrics and the log count it once, and under the same route. Where a
// gateway does that for services in processes of their own, [Beside] makes the rest.
//
// The document, openapi.json, consists of the documents of the services. Run go generate after you
// have changed one of them.
package door

import (
	_ "embed"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/example/pillion/web"
	"github.com/example/pillion/web/page"
)

//go:generate go test -run ^TestDocument$ -count=1 . -update

// Services are the handlers of the three services, and of the board, which may be nil.
type Services struct{ Auth, User, Rider, Board http.Handler }

// New returns a handler that serves each service below a prefix, as in /auth/login, and itself the
// page, /openapi.json and /docs. It registers the metrics of these, once. demo says whether the
// demo accounts may sign in.
func New(s Services, demo bool, c web.RouterConfig) http.Handler {
	own := routes(c)
	page.Mount(own, page.Setup{Demo: demo, Board: s.Board != nil})
	mounts := []mount{newMount("/auth", s.Auth), newMount("/user", s.User), newMount("/rider", s.Rider)}
	if s.Board != nil {
		mounts = append(mounts, newMount("/board", s.Board))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.EscapedPath()
		for _, m := range mounts {
			if strings.HasPrefix(path, m.prefix) {
				m.ServeHTTP(w, r)
				return
			}
		}
		own.ServeHTTP(w, r)
	})
}

// Beside returns a handler that serves the page, /openapi.json and /docs itself, and leaves all
// other paths to a service. It registers the metrics of these, once. The page works only at an
// address that has the three services below their prefixes. demo says whether the demo accounts may
// sign in.
func Beside(s http.Handler, demo bool, c web.RouterConfig) http.Handler {
	own := routes(c)
	page.Mount(own, page.Setup{Demo: demo})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if own.Match(chi.NewRouteContext(), http.MethodGet, r.URL.EscapedPath()) {
			own.ServeHTTP(w, r)
			return
		}
		s.ServeHTTP(w, r)
	})
}

// A mount is the handler of what is below a prefix, which ends in a slash.
type mount struct {
	prefix string
	http.Handler
}

func newMount(path string, h http.Handler) mount { return mount{path + "/", http.StripPrefix(path, h)} }

// document is the OpenAPI document of all calls.
//
//go:embed openapi.json
var document []byte

// routes returns the router of the door's own calls.
func routes(c web.RouterConfig) chi.Router {
	r := web.NewRouter(c)
	own := r.With(web.Query())
	own.Get("/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(document)
	})
	own.Get("/docs", web.Handle(servePage))
	return r
}
