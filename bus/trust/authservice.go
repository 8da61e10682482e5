package trust

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// ServeAuth answers auth.public-key (the active key as PEM) and auth.jwks (RFC 7517) as the NATS
// micro service "auth". Instances share the requests. keys returns the published set, or nil
// without one. With tokens it also answers auth.service-token with the token that tokens returns,
// encrypted, and with orders auth.order, to which only the operator has access, with what orders
// returns. The requester learns their faults. Call stop to end it.
func ServeAuth(
	c *bus.Conn, version string, keys func() *token.KeySet,
	tokens func(context.Context, ServiceRequest) (string, error),
	orders func(context.Context, []byte) ([]byte, error),
) (stop func() error, err error) {
	svc, err := micro.AddService(c.NATS(), micro.Config{
		Name:        "auth",
		Version:     version,
		Description: "the public keys that verify Pillion's tokens",
		ErrorHandler: func(_ micro.Service, e *micro.NATSError) {
			c.Log().Warn("auth service", "subject", e.Subject, "error", e.Description)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("serve auth: %w", err)
	}
	answer := func(contentType string, of func(*token.KeySet) ([]byte, bool)) micro.HandlerFunc {
		return func(r micro.Request) {
			var data []byte
			set := keys()
			ok := set != nil
			if ok {
				data, ok = of(set)
			}
			if !ok {
				logAnswer(c, r, r.Error("503", "There is no key yet. Please try again in a moment.", nil))
				return
			}
			logAnswer(c, r, r.Respond(data, micro.WithHeaders(micro.Headers{bus.HeaderContentType: {contentType}})))
		}
	}
	type endpoint struct {
		name, subject string
		handler       micro.Handler
	}
	endpoints := []endpoint{
		{"public-key", bus.PublicKeySubject, answer("application/x-pem-file", func(s *token.KeySet) ([]byte, bool) {
			active, ok := s.Active(time.Now())
			if !ok {
				return nil, false
			}
			return token.PublicPEM(active.Public), true
		})},
		{"jwks", bus.JWKSSubject, answer("application/jwk-set+json",
			func(s *token.KeySet) ([]byte, bool) { return s.JWKS(), true })},
	}
	if tokens != nil {
		endpoints = append(endpoints, endpoint{"service-token", bus.ServiceTokenSubject, answerService(c, tokens)})
	}
	if orders != nil {
		endpoints = append(endpoints, endpoint{"order", bus.OrderSubject, answerOrder(c, orders)})
	}
	for _, e := range endpoints {
		if err := svc.AddEndpoint(e.name, e.handler, micro.WithEndpointSubject(e.subject)); err != nil {
			_ = svc.Stop()
			return nil, fmt.Errorf("serve %s: %w", e.subject, err)
		}
	}
	return svc.Stop, nil
}

// answerService answers a service's request for its token.
func answerService(c *bus.Conn, tokens func(context.Context, ServiceRequest) (string, error)) micro.HandlerFunc {
	return func(r micro.Request) {
		held := c.SameConnection()
		ctx, cancel := context.WithTimeout(context.Background(), bus.AttemptPatience)
		defer cancel()
		req, err := serviceRequest(r.Data(), r.Headers().Get(headerSignature))
		var raw string
		if err == nil {
			raw, err = tokens(ctx, req)
		}
		var answer []byte
		if err == nil {
			answer, err = req.sealed(raw)
		}
		if !held() {
			return // the service asks again
		}
		respond(c, r, answer, err)
	}
}

// orderPatience is how long an order may take.
const orderPatience = 25 * time.Second

// answerOrder answers an operator's order.
func answerOrder(c *bus.Conn, do func(context.Context, []byte) ([]byte, error)) micro.HandlerFunc {
	return func(r micro.Request) {
		ctx, cancel := context.WithTimeout(context.Background(), orderPatience)
		defer cancel()
		answer, err := do(ctx, r.Data())
		if err != nil {
			c.Log().Warn("an operator's order was not carried out", "error", err)
		}
		respond(c, r, answer, err)
	}
}

// respond answers with JSON, or with a fault.
func respond(c *bus.Conn, r micro.Request, answer []byte, err error) {
	if err != nil {
		code, sentence := "500", "Something went wrong. Please try again."
		if f := fault.From(err); f != nil && serviceCodes[f.Kind] != "" {
			code, sentence = serviceCodes[f.Kind], f.Message
		}
		logAnswer(c, r, r.Error(code, sentence, nil))
		return
	}
	logAnswer(c, r, r.Respond(answer, micro.WithHeaders(micro.Headers{bus.HeaderContentType: {"application/json"}})))
}

// serviceCodes maps faults to the codes of micro errors, which are those of HTTP.
var serviceCodes = map[fault.Kind]string{fault.Invalid: "400", fault.Forbidden: "403", fault.NotFound: "404",
	fault.Conflict: "409", fault.Unavailable: "503"}

// ErrNoAuth says that no authsvc carries out an order.
var ErrNoAuth = fault.New(fault.Unavailable, "no_authsvc",
	"authsvc does not answer. Start it, or give the command authsvc's trust key with --trust-key.")

// AskAuth has authsvc carry out an operator's order. Errors: ErrNoAuth, and authsvc's, of the kind
// and with the sentence that it gave.
func AskAuth(ctx context.Context, c *bus.Conn, order []byte) ([]byte, error) {
	m, err := c.Request(ctx, &nats.Msg{Subject: bus.OrderSubject, Data: order})
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, ErrNoAuth.Because(err)
	}
	if err != nil {
		return nil, bus.Unavailable("ask authsvc", err)
	}
	kind, sentence := faultIn(m)
	switch {
	case sentence == "":
		return m.Data, nil
	case kind == fault.Internal:
		return nil, fmt.Errorf("authsvc answers: %s", sentence)
	}
	return nil, fault.New(kind, "order_refused", sentence)
}

// refusalIn returns the fault with which a micro service has answered, or nil.
func refusalIn(m *nats.Msg) error {
	switch kind, sentence := faultIn(m); {
	case sentence == "":
		return nil
	case kind == fault.Internal, kind == fault.Unavailable:
		return bus.Unavailable("ask authsvc", errors.New(sentence))
	default:
		return fault.New(kind, "service_refused", sentence)
	}
}

// faultIn returns the kind and the sentence of the fault with which a micro service has answered.
// The sentence is empty for another answer.
func faultIn(m *nats.Msg) (kind fault.Kind, sentence string) {
	code := m.Header.Get(micro.ErrorCodeHeader)
	if code == "" {
		return fault.Internal, ""
	}
	sentence = cmp.Or(m.Header.Get(micro.ErrorHeader), "error "+code)
	for kind, c := range serviceCodes {
		if c == code {
			return kind, sentence
		}
	}
	return fault.Internal, sentence
}

func logAnswer(c *bus.Conn, r micro.Request, err error) {
	if err != nil {
		c.Log().Warn("auth service could not answer", "subject", r.Subject(), "error", err)
	}
}

// AuthAnswers reports whether any authsvc answers requests for the keys. Errors are of kind
// fault.Unavailable.
func AuthAnswers(ctx context.Context, c *bus.Conn) (bool, error) {
	if err := c.EverConnected(); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, bus.AttemptPatience)
	defer cancel()
	_, err := c.Request(ctx, &nats.Msg{Subject: bus.JWKSSubject})
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, nats.ErrNoResponders):
		return false, nil
	}
	return false, bus.Unavailable("ask for authsvc", err)
}
