package token_test

import (
	"errors"
	"testing"
	"time"

	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// A service's token stands in events and lets no request in; nobody else's token says that it is a
// service's, and no service's says that it is anybody else's.
func TestServiceTokens(t *testing.T) {
	a := tokentest.New(t)
	good := a.Token(token.Service, tokentest.Rita, "")
	for _, v := range []*token.Verifier{a.Verifier(), a.Verifier()} {
		for range 2 { // remembered or not
			c, err := v.VerifyAccessAt(t.Context(), good, time.Now(), 1)
			wantRefused(t, "an event", "", c, err)
			c, err = v.Verify(t.Context(), good)
			wantRefused(t, "a request", "type", c, err)
		}
	}
	own := verifier(t, token.Config{Keys: a.Keys(), Type: token.ServiceType})
	c, err := own.Verify(t.Context(), good)
	wantRefused(t, "a verifier of service tokens", "", c, err)
	c, err = own.Verify(t.Context(), a.Token(token.User, tokentest.Ulla, "ulla@example.com"))
	wantRefused(t, "a user where a service is wanted", "type", c, err)

	now := time.Now()
	for _, tt := range []struct{ name, typ, role string }{
		{"a user who says that it is a service", "JWT", "service"},
		{"a service that says that it is a user", "service+jwt", "user"},
		{"a service that says that it is a rider", "service+jwt", "raider"},
	} {
		header := `{"alg":"RS256","typ":"` + tt.typ + `","kid":"` + token.Thumbprint(&a.Private.PublicKey) + `"}`
		raw := a.Raw(a.Private, header, a.Claims(tt.role, tokentest.Ulla, "ulla@example.com", now,
			now.Add(time.Minute)))
		c, err := a.Verifier().VerifyAccessAt(t.Context(), raw, now, 1)
		wantRefused(t, tt.name, "role", c, err)
	}
	for _, tt := range []struct {
		typ  string
		role token.Role
	}{{"", token.Service}, {token.ServiceType, token.User}} {
		i, err := token.NewIssuer(token.IssuerConfig{Key: a.Private, Life: time.Minute, Type: tt.typ})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := i.Issue(token.Grant{Subject: tokentest.Ulla, Email: "ulla@example.com",
			Role: tt.role}); !errors.Is(err, token.ErrGrant) {
			t.Errorf("typ %q, role %s: %v, want ErrGrant", tt.typ, tt.role, err)
		}
	}
}
