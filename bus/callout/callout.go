// Package callout answers when a NATS server asks who somebody is: whoever brings the token of a login may see what package access says, until
// the token runs out, and is sent away when it is taken back. Make one with [New] in each instance of authsvc, and call Run; a server asks one of them.
//
// Nothing is remembered here of who is connected. The servers know that, and are asked when something was revoked, so that an instance that
// has just started sends away whomever another one let in.
package callout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	"github.com/example/pillion/token"
)

// A Verifier verifies the token of a request.
type Verifier interface {
	Verify(ctx context.Context, raw string) (token.Claims, error)
}

// A Watch says when tokens may have become bad.
type Watch interface {
	// Next returns a channel that is closed when the next token is taken back.
	Next() <-chan struct{}
}

// Keys are what tokens are verified by; see [token.RemoteKeys].
type Keys interface {
	token.Keys
	Changed() <-chan struct{}
}

// Config is what a Callout is made of. All of it but Log, Registerer and Page is required.
type Config struct {
	Conn        *bus.Conn // as access.Callout
	Secret      access.Secret
	Verifier    Verifier
	Keys        Keys
	Revocations token.Revocations
	Watch       Watch
	Log         *slog.Logger
	Registerer  prometheus.Registerer
	// Page is how many connections a server is asked for at a time; 4,096 by default. A server looks at all that it has for each page.
	Page int
}

// A Callout answers servers. Call Run.
type Callout struct {
	Config
	logins *prometheus.CounterVec
}

const (
	atOnce = 64 // questions that are looked at at the same time

	// What somebody may do who only watches.
	maxSubscriptions = 20
	maxPayload       = 1 << 10

	headerXKey = "Nats-Server-Xkey"
	queue      = "authsvc"
)

// New returns a callout.
func New(c Config) (*Callout, error) {
	if c.Conn == nil || c.Secret.Issuer == nil || c.Secret.XKey == nil || c.Verifier == nil || c.Keys == nil || c.Revocations == nil || c.Watch == nil {
		return nil, errors.New("make the callout: something that is required is missing")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Page <= 0 {
		c.Page = 4096
	}
	logins := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "pillion", Name: "nats_logins_total",
		Help: "Connections to NATS that came with a token, or with nothing that is known, by result: accepted, refused, unavailable.",
	}, []string{"result"})
	if c.Registerer != nil {
		if err := c.Registerer.Register(logins); err != nil {
			return nil, fmt.Errorf("make the callout: %w", err)
		}
	}
	return &Callout{c, logins}, nil
}

// Run answers until ctx ends, and then returns nil, when what has been asked is answered.
func (c *Callout) Run(ctx context.Context) error {
	sub, err := c.Conn.NATS().QueueSubscribeSync(access.CalloutSubject, queue)
	if err != nil {
		return fmt.Errorf("answer the callout: %w", err)
	}
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { c.patrol(ctx) })

	var answers errgroup.Group
	answers.SetLimit(atOnce)
	defer answers.Wait()                //nolint:errcheck // there are none
	asked := context.WithoutCancel(ctx) // whoever has asked is answered
	answer := func(m *nats.Msg) {
		held := c.Conn.SameConnection()
		answers.Go(func() error {
			c.answer(asked, m, held)
			return nil
		})
	}
	for ctx.Err() == nil {
		m, err := sub.NextMsgWithContext(ctx)
		switch {
		case err == nil:
			answer(m)
		case errors.Is(err, nats.ErrSlowConsumer):
			c.Log.Warn("more connect to NATS than can be answered; some have to try again", "error", err)
		case ctx.Err() == nil:
			return fmt.Errorf("answer the callout: %w", err)
		}
	}
	if sub.Drain() != nil { // the connection is gone
		return nil
	}
	ctx, cancel := context.WithTimeout(asked, drainPatience)
	defer cancel()
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil { // nothing is on its way any more, and the subscription has ended
			return nil
		}
		answer(m)
	}
}

// answer answers one question, unless the connection is lost that it came by. A question that is none of a server's gets no answer.
func (c *Callout) answer(ctx context.Context, m *nats.Msg, held func() bool) {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	server := m.Header.Get(headerXKey)
	data, err := c.Secret.XKey.Open(m.Data, server)
	if err != nil {
		c.Log.Warn("a question of NATS is not sealed for us; give every server the same configuration", "error", err)
		return
	}
	q, err := jwt.DecodeAuthorizationRequestClaims(string(data))
	if err != nil {
		c.Log.Warn("a question of NATS cannot be read", "error", err)
		return
	}
	a := jwt.NewAuthorizationResponseClaims(q.UserNkey)
	a.Audience = q.Server.ID
	if a.Jwt, err = c.user(ctx, q); err != nil {
		result, sentence := "refused", "the token is not good"
		if f := fault.From(err); f.Kind == fault.Unavailable {
			result, sentence = "unavailable", "it cannot be said at the moment whether the token is good"
		}
		c.logins.WithLabelValues(result).Inc()
		c.Log.Debug("not let in to NATS", "from", q.ClientInformation.Host, "error", err)
		a.Error = sentence // the server writes it into its log; who asked learns nothing
	} else {
		c.logins.WithLabelValues("accepted").Inc()
	}
	said, err := a.Encode(c.Secret.Issuer)
	if err == nil {
		var sealed []byte
		if sealed, err = c.Secret.XKey.Seal([]byte(said), server); err == nil && held() {
			err = m.Respond(sealed)
		}
	}
	if err != nil {
		c.Log.Warn("a question of NATS could not be answered", "error", err)
	}
}

const (
	// answerPatience is what one answer may take: a server does not wait for longer.
	answerPatience = time.Second
	// drainPatience is how long what was asked before the end may still be on its way.
	drainPatience = time.Second / 2
)

// errNobody refuses whoever may do nothing on NATS.
var errNobody = fault.New(fault.Forbidden, "nats_role", "Only users and riders may connect.")

// user returns what the server is to know of whoever brings a token: who it is, what that may do, and until when.
func (c *Callout) user(ctx context.Context, q *jwt.AuthorizationRequestClaims) (string, error) {
	claims, err := c.Verifier.Verify(ctx, q.ConnectOptions.Token)
	if err != nil {
		return "", err
	}
	// An id goes into subjects, so it must be nothing but an id. The verifier sees to that too.
	if !booking.ValidID(claims.Subject) {
		return "", errNobody
	}
	grant, ok := access.Of(booking.Role(claims.Role), claims.Subject)
	if !ok {
		return "", errNobody
	}
	u := jwt.NewUserClaims(q.UserNkey)
	u.Name = holderOf(claims).String()
	u.Audience = grant.Account
	u.Expires = claims.ExpiresAt.Unix()
	u.Permissions.Sub.Allow.Add(grant.Subscribe...)
	u.Permissions.Pub.Allow.Add(grant.Publish...)
	if len(grant.Publish) == 0 {
		u.Permissions.Pub.Deny.Add(">") // to NATS an empty list is no limit
	}
	u.Limits.Subs, u.Limits.Payload = maxSubscriptions, maxPayload
	said, err := u.Encode(c.Secret.Issuer)
	if err != nil {
		return "", fmt.Errorf("describe a user to NATS: %w", err)
	}
	return said, nil
}
