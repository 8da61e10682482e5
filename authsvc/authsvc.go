// Package authsvc is the service for accounts and tokens: it registers accounts, checks
// passwords, issues tokens, and publishes the keys that verify them.
//
// Make a [Service] with [New] and serve [Service.Routes]. Accounts are in an [AccountStore], such
// as [Accounts] in a JetStream bucket. Passwords go through a [Hasher], which bounds how many are
// hashed at a time. The signing keys are in package keys, and the limits on tries in package
// throttle.
//
// A login begins a session, which is a record in a [session.Store]. It continues with POST
// /refresh, one refresh token at a time. It ends by expiry, by a logout, or when a refresh token
// is used twice. docs/accounts.md explains the flows.
//
// The service keeps nothing between requests, so several instances can share the stores and keys.
//
// Neither /login nor /password reveals whether an account exists: both answer an unknown account
// with the same bytes, after the same work, as a wrong password. /register does reveal it,
// because it says which (email, role) pairs are taken.
package authsvc

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/example/pillion/authsvc/keys"
	"github.com/example/pillion/authsvc/session"
	"github.com/example/pillion/authsvc/throttle"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/tracing"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
)

// An Issuer issues tokens. *token.Issuer has one key, and [keys.Signer] signs with the active one.
type Issuer interface {
	// Issue signs a token and returns it with the claims that its verification will give.
	Issue(g token.Grant) (signed string, c token.Claims, err error)
}

var (
	_ Issuer = (*token.Issuer)(nil)
	_ Issuer = (*keys.Signer)(nil)
)

// Config holds the settings of a Service. Accounts, Sessions, Revoke, Verifier, Issuer, Keys and
// Hasher are required.
type Config struct {
	Accounts AccountStore
	Sessions session.Bucket
	Rules    session.Rules // of how long a session lasts
	// Revoke revokes tokens at every service. It may be repeated, and fails with kind
	// fault.Unavailable.
	Revoke   func(context.Context, token.Revocation) error
	Verifier web.TokenVerifier // of the access tokens that callers of this service send
	Issuer   Issuer
	Keys     func() *token.KeySet // the published keys; nil while there are none
	Hasher   *Hasher
	// CancelBookings cancels the open bookings of an account that is about to be deleted. It
	// fails with kind fault.Conflict, and a sentence that says what to do, while the account has
	// a ride. EndRides ends the rides of a deleted account. Both may be repeated. nil: accounts
	// have no rides.
	CancelBookings, EndRides func(ctx context.Context, account string, role token.Role) error
	// Clock returns why Now cannot be trusted, or nil while it can. Its error answers every
	// request that depends on the time. nil: Now can always be trusted.
	Clock         func() error
	Throttle      *throttle.LoginThrottle // nil: no limits
	ApproveRiders bool                    // new accounts of riders need an operator's approval
	Demo          bool                    // the accounts made by SeedDemo may log in

	Audit      func(context.Context, Entry) // receives every attempt; must not block; optional
	Log        *slog.Logger                 // default: discard
	Registerer prometheus.Registerer        // default: the metrics are not exported
	Tracer     *tracing.Tracer              // default: no spans are made
	Now        func() time.Time             // default: time.Now

	TrustedProxies []netip.Prefix // whose X-Forwarded-For and Forwarded headers are believed
	// Rate limits the requests of one network to this instance; zero: no limit.
	Rate    web.Rate
	Origins []string // whose pages may read answers

	// CookiePath is how the paths of /refresh and /logout begin for browsers: /auth, for example,
	// behind a proxy that serves this service there. Default: /.
	CookiePath string

	// NewID makes the ids of accounts and sessions; default: 26 random characters of lower-case
	// base32.
	NewID func() string
}

// A Service answers the HTTP requests about accounts and keys. It is safe for concurrent use, and
// needs no closing.
type Service struct {
	c        Config
	sessions *session.Store
	revoker  revoker
	clock    func() error
	cookies  cookies
	metrics  metrics
	tried    prometheus.Counter
	router   web.RouterConfig
}

// New returns a Service, or an error that names every missing or wrong setting. It registers the
// metrics.
func New(c Config) (*Service, error) {
	c.setDefaults()
	v := revoker{c.Revoke, c.Now}
	sessions, err := session.New(session.Config{Bucket: c.Sessions, Revoke: v.revokeSession, Rules: c.Rules,
		Now: c.Now})
	need := func(name string, given bool) error { return fault.Required("authsvc: "+name, given) }
	err = errors.Join(need("Accounts", c.Accounts != nil), need("Sessions", c.Sessions != nil),
		need("Revoke", c.Revoke != nil), need("Verifier", c.Verifier != nil), need("Issuer", c.Issuer != nil),
		need("Keys", c.Keys != nil), need("Hasher", c.Hasher != nil), checkCookiePath(c.CookiePath), err)
	if err != nil {
		return nil, err
	}
	return &Service{
		c: c, sessions: sessions, revoker: v, clock: sessions.WatchClock(c.Clock), cookies: cookies{c.CookiePath},
		metrics: newMetrics(c.Registerer),
		tried: promauto.With(c.Registerer).NewCounter(prometheus.CounterOpts{
			Namespace: "pillion", Name: "login_refused_accounts_total",
			Help: "Accounts, existing or not, that were refused a login for the first time in an hour.",
		}),
		router: web.RouterConfig{
			Service: "authsvc", Log: c.Log, Registerer: c.Registerer, Tracer: c.Tracer, Now: c.Now,
			TrustedProxies: c.TrustedProxies, Rate: c.Rate, Origins: c.Origins,
		},
	}, nil
}

// setDefaults fills in the optional functions.
func (c *Config) setDefaults() {
	noRides := func(context.Context, string, token.Role) error { return nil }
	if c.CancelBookings == nil {
		c.CancelBookings = noRides
	}
	if c.EndRides == nil {
		c.EndRides = noRides
	}
	if c.Audit == nil {
		c.Audit = func(context.Context, Entry) {}
	}
	c.Log, c.CookiePath = cmp.Or(c.Log, slog.New(slog.DiscardHandler)), cmp.Or(c.CookiePath, "/")
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewID == nil {
		c.NewID = func() string { return strings.ToLower(rand.Text()) }
	}
}

// Routes returns the router of all HTTP calls. Call it once: it registers the router's metrics.
func (s *Service) Routes() chi.Router {
	r := web.NewRouter(s.router)
	timed := r.With(web.RejectIf(s.clock)) // waits and sessions end by the clock
	timed.Post("/login", s.audited(logins, http.StatusOK, s.login))
	own := timed.With(web.Query()) // the original API, /login and /public-key, ignores a query
	own.Post("/refresh", s.audited(refreshes, http.StatusOK, s.refresh))
	own.Post("/register", s.audited(registrations, http.StatusCreated, s.register))
	own.Post("/password", s.audited(passwordChanges, http.StatusOK, s.changePassword))
	own.Post("/logout", s.audited(logouts, http.StatusOK, s.logout))
	own.Post("/logout-all", s.audited(logoutsAll, http.StatusOK, s.logoutAll))
	caller := own.With(web.RequireAny(s.c.Verifier, onlyPeople, token.User, token.Rider))
	deleteAccount := s.audited(deletions, http.StatusOK, s.deleteAccount)
	caller.Delete("/account", deleteAccount)
	caller.Post("/account/delete", deleteAccount) // some proxies drop the body of a DELETE
	r.Get("/public-key", web.Handle(s.publicKey))
	r.With(web.Query()).Get("/.well-known/jwks.json", web.Handle(s.jwks))
	return r
}
