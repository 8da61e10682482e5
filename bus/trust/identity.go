package trust

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// An Identity is what a service acts with when the system does something by itself: a short token
// with role service, which authsvc issues over NATS and the Identity renews at half of its life.
// The service proves itself with a key pair of its own, and keeps the token that it has while
// authsvc is away. Call Run.
//
// authsvc encrypts a token for the service that has asked. Operators may read what goes over NATS,
// and so may others where the connection is not encrypted.
type Identity struct {
	conn     *bus.Conn
	service  string
	key      nkeys.KeyPair
	verifier *token.Verifier
	renewals *prometheus.CounterVec

	mu    sync.Mutex
	held  heldToken
	why   error         // why the last renewal failed; nil: it did not
	renew chan struct{} // asks Run to renew at once
}

// A heldToken is a token with the times to renew it and to stop using it, both by this machine's
// clock.
type heldToken struct {
	raw          string
	proof        string // the event token in it
	renew, until time.Time
}

// IdentityConfig is the settings of an Identity. All but Registerer are required.
type IdentityConfig struct {
	Service    string          // its name, such as "usersvc"
	Key        nkeys.KeyPair   // proves the name
	Verifier   *token.Verifier // of token.ServiceType
	Registerer prometheus.Registerer
}

const (
	// identityMargin is how long before its end a token is no longer used: what is decided with it
	// must be stored by then.
	identityMargin  = token.EventLeeway
	identityRetry   = 200 * time.Millisecond // after the first failure, then longer
	identityRefused = 10 * time.Second       // after a refusal, which an operator has to resolve

	headerSignature = "Pillion-Signature"
	maxService      = 4 << 10 // bytes of a request
)

// ErrNoIdentity says that the service has no token of its own.
var ErrNoIdentity = fault.New(fault.Unavailable, "no_identity",
	"The system cannot act by itself at the moment. Please try again in a moment.").After(time.Second)

// NewIdentity returns the identity of a service. It has no token before Run gets one.
func NewIdentity(c *bus.Conn, config IdentityConfig) (*Identity, error) {
	if config.Service == "" || config.Key == nil || config.Verifier == nil {
		return nil, errors.New("identity: Service, Key and Verifier are required")
	}
	i := &Identity{
		conn: c, service: config.Service, key: config.Key, verifier: config.Verifier,
		renew: make(chan struct{}, 1),
		renewals: bus.MustRegister(config.Registerer, prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "pillion", Name: "service_token_renewals_total",
			Help: "Tries to renew the service's own token, by service and result.",
		}, []string{"service", "result"})),
	}
	promauto.With(config.Registerer).NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "pillion", Name: "service_token_seconds",
		Help:        "How long the service's own token can still be used; 0 without one.",
		ConstLabels: prometheus.Labels{"service": i.service},
	}, i.left)
	for _, result := range []string{"renewed", "refused", "unavailable"} {
		i.renewals.WithLabelValues(i.service, result)
	}
	return i, nil
}

// Act returns the service as an actor, with the event token that proves it. It returns
// ErrNoIdentity while there is no valid token.
func (i *Identity) Act(ctx context.Context) (booking.Actor, string, error) {
	i.mu.Lock()
	held, why := i.held, i.why
	i.mu.Unlock()
	if held.raw == "" || !time.Now().Before(held.until) {
		return booking.Actor{}, "", ErrNoIdentity.Because(why)
	}
	// Its key may have been retired.
	if _, err := i.verifier.Verify(ctx, held.raw); err != nil {
		if !errors.Is(err, token.ErrClock) { // another token would not help
			i.urge()
		}
		return booking.Actor{}, "", ErrNoIdentity.Because(err)
	}
	return booking.Actor{ID: token.ServiceID(i.service), Role: booking.Service}, held.proof, nil
}

// Ready returns nil where the service can act, and ErrNoIdentity otherwise.
func (i *Identity) Ready(ctx context.Context) error {
	_, _, err := i.Act(ctx)
	return err
}

// Run gets a token, and renews it in time, until ctx ends. It returns nil.
func (i *Identity) Run(ctx context.Context) error {
	policy := bus.Retries(0)
	policy.First = identityRetry
	pauses := policy.Pauses()
	for {
		err := i.get(ctx)
		i.mu.Lock()
		i.why = err
		i.mu.Unlock()
		var wait time.Duration
		switch {
		case ctx.Err() != nil:
		case err == nil:
			i.renewals.WithLabelValues(i.service, "renewed").Inc()
			pauses.Reset()
			i.mu.Lock()
			wait = time.Until(i.held.renew)
			i.mu.Unlock()
		case fault.KindOf(err) == fault.Unavailable:
			i.renewals.WithLabelValues(i.service, "unavailable").Inc()
			wait = pauses.NextBackOff()
			i.conn.Log().Debug("the service has no token of its own yet", "service", i.service, "error", err,
				"retry_in", wait)
		default:
			i.renewals.WithLabelValues(i.service, "refused").Inc()
			wait = identityRefused
			i.conn.Log().Error("authsvc refuses this service a token", "service", i.service, "error", err, "retry_in",
				wait)
		}
		select {
		case <-time.After(wait):
		case <-i.renew:
		case <-ctx.Done():
			return nil
		}
	}
}

// urge lets Run renew the token at once.
func (i *Identity) urge() {
	select {
	case i.renew <- struct{}{}:
	default: // a renewal is pending
	}
}

func (i *Identity) left() float64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.held.raw == "" {
		return 0
	}
	return max(0, time.Until(i.held.until).Seconds())
}

// A serviceQuestion is the body of a request to auth.service-token. A header carries the signature
// of its bytes.
type serviceQuestion struct {
	Version int       `json:"v"`
	Service string    `json:"service"`
	At      time.Time `json:"at"`
	Nonce   string    `json:"nonce"`
	Seal    string    `json:"seal"` // a public X25519 key of this request
}

// A serviceAnswer is an encrypted token.
type serviceAnswer struct {
	Version int    `json:"v"`
	From    string `json:"from"` // the public X25519 key of this answer
	Sealed  []byte `json:"sealed"`
}

const serviceVersion = 1

// get asks for a token and keeps it. Errors are of kind fault.Unavailable, or authsvc's refusal.
func (i *Identity) get(ctx context.Context) error {
	if err := i.conn.EverConnected(); err != nil {
		return err
	}
	seal, err := nkeys.CreateCurveKeys()
	if err != nil {
		return fmt.Errorf("make an encryption key: %w", err)
	}
	defer seal.Wipe()
	to, err := seal.PublicKey()
	if err != nil {
		return fmt.Errorf("make an encryption key: %w", err)
	}
	body, err := json.Marshal(serviceQuestion{serviceVersion, i.service, time.Now().UTC(), rand.Text(), to})
	if err != nil {
		return fmt.Errorf("ask for a token: %w", err)
	}
	signature, err := i.key.Sign(body)
	if err != nil {
		return fmt.Errorf("sign the request for a token: %w", err)
	}
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, bus.AttemptPatience)
	defer cancel()
	m, err := i.conn.Request(ctx, &nats.Msg{
		Subject: bus.ServiceTokenSubject, Data: body,
		Header: nats.Header{headerSignature: {base64.RawURLEncoding.EncodeToString(signature)}},
	})
	if err != nil {
		return bus.Unavailable("ask authsvc for a token", err)
	}
	if err := refusalIn(m); err != nil {
		return err
	}
	var answer serviceAnswer
	if err := json.Unmarshal(m.Data, &answer); err != nil || answer.Version != serviceVersion {
		return bus.Unavailable("read the answer with the token",
			fmt.Errorf("it has version %d: %w", answer.Version, err))
	}
	raw, err := seal.Open(answer.Sealed, answer.From)
	if err != nil { // anyone might have answered, so it is no refusal
		return bus.Unavailable("decrypt the token", err)
	}
	claims, err := i.verifier.Verify(ctx, string(raw))
	if err != nil {
		return bus.Unavailable("check the token", err)
	}
	if claims.Subject != token.ServiceID(i.service) {
		return bus.Unavailable("check the token", errors.New("it belongs to another service"))
	}
	proof, err := claims.Proof()
	if err != nil {
		return bus.Unavailable("check the token", fmt.Errorf("authsvc is of an older version: %w", err))
	}
	life := claims.ExpiresAt.Sub(claims.IssuedAt)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.held = heldToken{string(raw), string(proof), asked.Add(life / 2), asked.Add(life - identityMargin)}
	return nil
}

// A ServiceRequest is a service's request for a token. Do not trust it before SignedBy is true for
// a key of that service.
type ServiceRequest struct {
	Service string
	At      time.Time // by the service's clock
	Nonce   string

	seal      string
	body      []byte
	signature []byte
}

// SignedBy reports whether the holder of a public nkey has signed the request.
func (r ServiceRequest) SignedBy(publicKey string) bool {
	key, err := nkeys.FromPublicKey(publicKey)
	return err == nil && key.Verify(r.body, r.signature) == nil
}

var errServiceRequest = fault.New(fault.Invalid, "service_request", "This is not a request for a service's token.")

// serviceRequest reads a request.
func serviceRequest(data []byte, signature string) (ServiceRequest, error) {
	if len(data) > maxService {
		return ServiceRequest{}, errServiceRequest.Because(errors.New("it is too long"))
	}
	var q serviceQuestion
	if err := json.Unmarshal(data, &q); err != nil || q.Version != serviceVersion {
		return ServiceRequest{}, errServiceRequest.Because(fmt.Errorf("version %d: %w", q.Version, err))
	}
	signed, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil {
		return ServiceRequest{}, errServiceRequest.Because(err)
	}
	if !nkeys.IsValidPublicCurveKey(q.Seal) || len(q.Nonce) > 64 {
		return ServiceRequest{}, errServiceRequest.Because(errors.New("it has no encryption key, or a long nonce"))
	}
	return ServiceRequest{Service: q.Service, At: q.At, Nonce: q.Nonce, seal: q.Seal, body: data, signature: signed},
		nil
}

// sealed returns the answer to the request: the token, encrypted for the sender of the request.
func (r ServiceRequest) sealed(raw string) ([]byte, error) {
	own, err := nkeys.CreateCurveKeys()
	if err != nil {
		return nil, fmt.Errorf("seal a token: %w", err)
	}
	defer own.Wipe()
	from, err := own.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("seal a token: %w", err)
	}
	sealed, err := own.Seal([]byte(raw), r.seal)
	if err != nil {
		return nil, fmt.Errorf("seal a token: %w", err)
	}
	return json.Marshal(serviceAnswer{serviceVersion, from, sealed})
}
