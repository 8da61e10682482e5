// Package authsvc is the service that knows who somebody is: it registers accounts, checks passwords, issues tokens and publishes
// the keys that verify them.
//
// Make one with [New] and serve [Service.Routes]. Accounts are in an [AccountStore] ([Accounts] keeps them in a JetStream bucket),
// passwords go through [Passwords], which bounds how many are hashed at a time, and the signing key comes from [LoadOrCreateKey].
// A login begins a session, which is a record in a [SessionStore]: it goes on with POST /refresh, one refresh token at a time, and
// ends by itself, with a logout, or when a token is used twice. docs/auth.md has the flows, and what each of them is for.
// The service keeps nothing between requests, so any number of instances may run on the same stores and one key.
//
// Nobody learns from /login whether an account exists: the answer to an unknown account is, byte for byte and hash for hash, that
// to a wrong password; POST /password answers as it does. From /register one does, because it says which pairs are taken. A [Guard]
// limits how often somebody may try.
package authsvc

import (
	"context"
	"crypto/rand"
	_ "embed" // for openapi.yaml
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
)

// OpenAPI is the description of this service's HTTP API. A test holds it against [Service.Routes].
//
//go:embed openapi.yaml
var OpenAPI []byte

// Config is what a Service needs. Accounts, Sessions, Revoke, Verifier, Issuer, Keys and Passwords are required.
type Config struct {
	Accounts AccountStore
	Sessions SessionStore
	Rules    SessionRules
	// Revoke takes tokens back, everywhere. It bears repetition, and fails with kind fault.Unavailable while it cannot.
	Revoke    func(context.Context, token.Revocation) error
	Verifier  web.TokenVerifier // of the access tokens that callers of this service send
	Issuer    Issuer
	Keys      func() *token.KeySet // the keys that are published now; nil while there are none
	Passwords *Passwords
	// Withdraw calls off the open bookings of an account that is about to be deleted, or says with
	// kind fault.Conflict that it has a ride which is not over, and what to do. Bereave ends the
	// rides of one that is gone. Both bear repetition. nil: nobody has rides.
	Withdraw, Bereave func(ctx context.Context, account string, role token.Role) error
	// Clock returns why Now cannot be gone by, or nil where it can: who comes meanwhile is answered with that. nil: it always can.
	Clock func() error
	Guard *Guard // limits how often somebody may try; nil: nobody is limited
	// ApproveRiders makes new accounts of riders wait for an operator's approval.
	ApproveRiders bool
	Demo          bool // whether accounts made by SeedDemo exist and may log in

	Audit      func(context.Context, Entry) // takes every attempt, and must not wait; nil: nobody does
	Log        *slog.Logger                 // default: discard
	Registerer prometheus.Registerer        // default: metrics that nobody sees
	Now        func() time.Time             // default: time.Now

	TrustedProxies []netip.Prefix // whose X-Forwarded-For or Forwarded is believed
	Rate           web.Rate       // how often one network may call this instance at all; zero: as often as it likes

	// CookiePath is how the paths begin under which browsers know /refresh and /logout: /auth, say,
	// behind a proxy that serves this service there. Default: /.
	CookiePath string

	NewID func() string // of accounts and sessions; default: 26 random characters of lower-case base32
}

// A Service answers the HTTP calls about accounts and keys. It is safe for concurrent use and holds nothing that must be closed.
type Service struct {
	accounts  AccountStore
	sessions  sessions
	verifier  web.TokenVerifier
	issuer    Issuer
	keys      func() *token.KeySet
	passwords *Passwords
	guard     *Guard
	clock     func() error
	demo      bool
	cookies   cookies

	withdraw, bereave func(context.Context, string, token.Role) error

	approveRiders bool
	audit         func(context.Context, Entry)

	log     *slog.Logger
	now     func() time.Time
	newID   func() string
	metrics metrics
	router  web.RouterConfig
}

// New returns a Service, or an error that names every setting that is missing or cannot be. It registers the metrics.
func New(c Config) (*Service, error) {
	var missing []error
	require := func(name string, given bool) {
		if !given {
			missing = append(missing, errors.New("authsvc: "+name+" is required"))
		}
	}
	require("Accounts", c.Accounts != nil)
	require("Sessions", c.Sessions != nil)
	require("Revoke", c.Revoke != nil)
	require("Verifier", c.Verifier != nil)
	require("Issuer", c.Issuer != nil)
	require("Keys", c.Keys != nil)
	require("Passwords", c.Passwords != nil)
	rules, err := c.Rules.withDefaults()
	if err != nil {
		missing = append(missing, err)
	}
	cookies, err := newCookies(c.CookiePath)
	if err != nil {
		missing = append(missing, err)
	}
	if missing != nil {
		return nil, errors.Join(missing...)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Audit == nil {
		c.Audit = func(context.Context, Entry) {}
	}
	nobody := func(context.Context, string, token.Role) error { return nil }
	if c.Withdraw == nil {
		c.Withdraw = nobody
	}
	if c.Bereave == nil {
		c.Bereave = nobody
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewID == nil {
		c.NewID = func() string { return strings.ToLower(rand.Text()) }
	}
	s := sessions{store: c.Sessions, revoke: c.Revoke, rules: rules, now: c.Now, outage: started(c.Now())}
	return &Service{
		accounts: c.Accounts, sessions: s, verifier: c.Verifier, issuer: c.Issuer, keys: c.Keys, passwords: c.Passwords,
		guard: c.Guard, clock: s.outage.whileOff(c.Clock, c.Now), demo: c.Demo, approveRiders: c.ApproveRiders, audit: c.Audit,
		log: c.Log, now: c.Now, newID: c.NewID, metrics: newMetrics(c.Registerer),
		cookies: cookies, withdraw: c.Withdraw, bereave: c.Bereave,
		router: web.RouterConfig{
			Service: "authsvc", Log: c.Log, Registerer: c.Registerer, Now: c.Now, TrustedProxies: c.TrustedProxies, Rate: c.Rate,
		},
	}, nil
}

// Routes is the table of contents. Call it once: it registers the metrics of the router.
func (s *Service) Routes() chi.Router {
	r := web.NewRouter(s.router)
	// How long somebody has to wait after a wrong password, and until when a session goes on, is a matter of the clock.
	timed := r.With(web.RejectIf(s.clock))
	timed.Post("/login", web.Handle(s.login))
	timed.Post("/refresh", web.Handle(s.refresh))
	timed.Post("/register", web.Handle(s.register))
	timed.Post("/password", web.Handle(s.password))
	timed.Post("/logout", web.Handle(s.logout))
	timed.Post("/logout-all", web.Handle(s.logoutAll))
	caller := timed.With(web.RequireAny(s.verifier, onlyPeople, token.User, token.Rider))
	caller.Delete("/account", web.Handle(s.deleteAccount))
	caller.Post("/account/delete", web.Handle(s.deleteAccount)) // proxies drop the bodies of DELETE
	r.Get("/public-key", web.Handle(s.publicKey))
	r.Get("/.well-known/jwks.json", web.Handle(s.jwks))
	return r
}
