// Package callout authenticates NATS clients that present an access token, and closes their
// connections when the token is revoked. Create a [Callout] with [New] in each instance of authsvc,
// and call [Callout.Run]; a server sends each request to one of the instances.
//
// The permissions come from package access, and end with the token. A Callout keeps no list of
// connections. It asks the servers for theirs after each revocation, so an instance that has just
// started also closes connections that another one accepted.
package callout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/ration"
	"github.com/example/pillion/token"
)

// A Verifier verifies the token of a request.
type Verifier interface {
	Verify(ctx context.Context, raw string) (token.Claims, error)
}

// A Watch reports revocations.
type Watch interface {
	// Next returns a channel that is closed at the next revocation.
	Next() <-chan struct{}
}

// Keys are the keys that verify tokens. Changed returns a channel that is closed at their next
// change.
type Keys interface {
	token.Keys
	Changed() <-chan struct{}
}

// Config is the configuration of a Callout. What follows Watch is optional.
type Config struct {
	Conn        *bus.Conn // authenticated as access.Callout
	Secret      access.CalloutSecret
	Verifier    Verifier
	Keys        Keys
	Revocations token.Revocations
	Watch       Watch
	Log         *slog.Logger
	Registerer  prometheus.Registerer
	// PerAccount and PerNetwork bound the connections of clients with a token: of one account, 20
	// by default, and of one network, without a limit by default.
	PerAccount, PerNetwork int
	// TrustedProxies are networks whose connections are not limited by network: proxies of NATS.
	TrustedProxies []netip.Prefix
	// Page is the number of connections to request from a server at a time; 4,096 by default. A
	// server scans all of its connections for each page.
	Page int
}

// A Callout authenticates clients for NATS servers. Call Run.
type Callout struct {
	Config
	logins  *prometheus.CounterVec
	census  census
	refused ration.Lines // about refused clients
}

const (
	concurrency = 64 // of requests

	// The limits of a client that may only subscribe.
	maxSubscriptions = 20
	maxConnections   = 20 // of one account
	maxPayload       = 1 << 10

	headerXKey = "Nats-Server-Xkey"
	queue      = "authsvc"

	// answerPatience is how long an answer may take: a server does not wait any longer.
	answerPatience = time.Second
	// drainPatience is how long requests from before the end may still be in flight.
	drainPatience = time.Second / 2
)

// errNoPermissions rejects a client whose role has no permissions on NATS.
var errNoPermissions = fault.New(fault.Forbidden, "nats_role", "Only users and riders may connect.")

// New returns a Callout. It returns an error when a required part of the configuration is missing.
func New(c Config) (*Callout, error) {
	if c.Conn == nil || c.Secret.Issuer == nil || c.Secret.XKey == nil || c.Verifier == nil || c.Keys == nil ||
		c.Revocations == nil || c.Watch == nil {
		return nil, errors.New("create the callout: a required part of its configuration is missing")
	}
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if c.Page <= 0 {
		c.Page = 4096
	}
	c.PerAccount = cmp.Or(c.PerAccount, maxConnections)
	return &Callout{Config: c, census: census{
		perAccount: c.PerAccount, perNetwork: c.PerNetwork, proxies: c.TrustedProxies,
	}, logins: bus.Counters(c.Registerer, "nats_logins_total",
		"NATS authentication requests for clients without a known key, by result.",
		"result", "accepted", "refused", "limited", "unavailable")}, nil
}

// Run answers requests and closes connections until ctx ends. It then answers the requests that it
// has received, and returns nil. It returns an error when it cannot subscribe.
func (c *Callout) Run(ctx context.Context) error {
	sub, err := c.Conn.NATS().QueueSubscribeSync(access.CalloutSubject, queue)
	if err != nil {
		return fmt.Errorf("answer authentication requests: %w", err)
	}
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { c.runSweeper(ctx) })

	var answers errgroup.Group
	answers.SetLimit(concurrency)
	defer answers.Wait() //nolint:errcheck // there are none
	// Requests that have arrived are answered even when ctx ends.
	answering := context.WithoutCancel(ctx)
	answer := func(m *nats.Msg) {
		held := c.Conn.SameConnection()
		answers.Go(func() error {
			c.answer(answering, m, held)
			return nil
		})
	}
	for ctx.Err() == nil {
		m, err := sub.NextMsgWithContext(ctx)
		switch {
		case err == nil:
			answer(m)
		case errors.Is(err, nats.ErrSlowConsumer):
			c.Log.Warn("too many clients connect to NATS at once; some have to try again", "error", err)
		case ctx.Err() == nil:
			return fmt.Errorf("answer authentication requests: %w", err)
		}
	}
	if sub.Drain() != nil { // the connection is lost
		return nil
	}
	draining, cancel := context.WithTimeout(answering, drainPatience)
	defer cancel()
	for {
		m, err := sub.NextMsgWithContext(draining)
		if err != nil { // no requests are in flight any more
			return nil
		}
		answer(m)
	}
}

// answer answers one request, unless the connection on which it arrived is lost. A message that is
// not a server's request gets no answer.
func (c *Callout) answer(ctx context.Context, m *nats.Msg, held func() bool) {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	server := m.Header.Get(headerXKey)
	data, err := c.Secret.XKey.Open(m.Data, server)
	if err != nil {
		c.Log.Warn("cannot decrypt a NATS authentication request; all servers need the same configuration", "error",
			err)
		return
	}
	q, err := jwt.DecodeAuthorizationRequestClaims(string(data))
	if err != nil {
		c.Log.Warn("cannot parse a NATS authentication request", "error", err)
		return
	}
	a := jwt.NewAuthorizationResponseClaims(q.UserNkey)
	a.Audience = q.Server.ID
	if a.Jwt, err = c.user(ctx, q); err != nil {
		result, sentence := "refused", "the token is not valid"
		switch {
		case errors.Is(err, errTooMany):
			result, sentence = "limited", err.Error()
		case fault.KindOf(err) == fault.Unavailable:
			result, sentence = "unavailable", "the token cannot be verified at the moment"
		}
		c.logins.WithLabelValues(result).Inc()
		if missed, ok := c.refused.Next(time.Now()); ok {
			c.Log.Debug("rejected a NATS client", "from", q.ClientInformation.Host, "error", err, "unlogged", missed)
		}
		a.Error = sentence // for the server's log; the client does not see it
	} else {
		c.logins.WithLabelValues("accepted").Inc()
	}
	answer, err := a.Encode(c.Secret.Issuer)
	if err == nil {
		var sealed []byte
		if sealed, err = c.Secret.XKey.Seal([]byte(answer), server); err == nil && held() {
			err = m.Respond(sealed)
		}
	}
	if err != nil {
		c.Log.Warn("cannot answer a NATS authentication request", "error", err)
	}
}

// user returns the signed description of a client with a token: its name, permissions and expiry.
func (c *Callout) user(ctx context.Context, q *jwt.AuthorizationRequestClaims) (string, error) {
	claims, err := c.Verifier.Verify(ctx, q.ConnectOptions.Token)
	if err != nil {
		return "", err
	}
	// The id becomes part of subjects, so its form matters. The verifier checks it too.
	if !booking.ValidID(claims.Subject) {
		return "", errNoPermissions
	}
	grant, ok := access.Of(booking.Role(claims.Role), claims.Subject)
	if !ok {
		return "", errNoPermissions
	}
	if err := c.census.admit(claims, q.ClientInformation.Host); err != nil {
		return "", err
	}
	u := jwt.NewUserClaims(q.UserNkey)
	u.Name = connectionNameOf(claims).String()
	u.Audience = grant.Account
	u.Expires = claims.ExpiresAt.Unix()
	u.Permissions.Sub.Allow.Add(grant.Subscribe...)
	u.Permissions.Pub.Allow.Add(grant.Publish...)
	if len(grant.Publish) == 0 {
		u.Permissions.Pub.Deny.Add(">") // NATS takes an empty list for no limit
	}
	u.Limits.Subs, u.Limits.Payload = maxSubscriptions, maxPayload
	signed, err := u.Encode(c.Secret.Issuer)
	if err != nil {
		return "", fmt.Errorf("sign the permissions of a NATS client: %w", err)
	}
	return signed, nil
}
