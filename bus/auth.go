package bus

import (
	"fmt"

	"github.com/nats-io/nats.go/micro"

	"pillion/token"
)

// ServeAuth answers auth.public-key (one PEM: the active key) and auth.jwks (RFC 7517) as the NATS micro service "auth". Several
// instances share the requests in a queue group. keys returns the present set, or nil while there is none. stop ends it.
func ServeAuth(c *Conn, version string, keys func() *token.KeySet) (stop func() error, err error) {
	svc, err := micro.AddService(c.nc, micro.Config{
		Name:        "auth",
		Version:     version,
		Description: "the public keys that verify Pillion's tokens",
		ErrorHandler: func(_ micro.Service, e *micro.NATSError) {
			c.log.Warn("auth service", "subject", e.Subject, "error", e.Description)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("serve auth: %w", err)
	}
	answer := func(contentType string, of func(*token.KeySet) []byte) micro.HandlerFunc {
		return func(r micro.Request) {
			set := keys()
			if set == nil {
				c.logAnswer(r, r.Error("503", "There is no key yet. Please try again in a moment.", nil))
				return
			}
			c.logAnswer(r, r.Respond(of(set), micro.WithHeaders(micro.Headers{headerContentType: {contentType}})))
		}
	}
	for _, e := range []struct {
		name, subject string
		handler       micro.Handler
	}{
		{"public-key", subjectPublicKey, answer("application/x-pem-file", func(s *token.KeySet) []byte {
			active, _ := s.Active()
			return token.PublicPEM(active.Public)
		})},
		{"jwks", subjectJWKS, answer("application/jwk-set+json", (*token.KeySet).JWKS)},
	} {
		if err := svc.AddEndpoint(e.name, e.handler, micro.WithEndpointSubject(e.subject)); err != nil {
			_ = svc.Stop()
			return nil, fmt.Errorf("serve %s: %w", e.subject, err)
		}
	}
	return svc.Stop, nil
}

func (c *Conn) logAnswer(r micro.Request, err error) {
	if err != nil {
		c.log.Warn("auth service could not answer", "subject", r.Subject(), "error", err)
	}
}
