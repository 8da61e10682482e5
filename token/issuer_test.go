package token_test

import (
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// What is issued verifies, with the very claims that Issue returned.
func TestIssue(t *testing.T) {
	a := tokentest.New(t)
	clock := newClock(start.Add(300 * time.Millisecond))
	a.Now = clock.Now
	for _, tt := range []struct {
		name  string
		grant token.Grant
		life  time.Duration
	}{
		{"user", token.Grant{Subject: tokentest.Ulla, Email: "ulla@example.com", Session: tokentest.Rita, Role: token.User}, 15 * time.Minute},
		{"rider", token.Grant{Subject: tokentest.Rita, Email: "rita@example.com", Role: token.Rider}, 24 * time.Hour},
		{"a second", token.Grant{Subject: tokentest.Rita, Email: "rita@example.com", Role: token.Rider}, time.Second},
		{"an email that JSON escapes", token.Grant{Subject: tokentest.Ulla, Email: "\"<ü\u2028&🛵>\"@example.com", Role: token.User}, time.Minute},
		{"a life with a fraction", token.Grant{Subject: tokentest.Rita, Email: "rita@example.com", Role: token.Rider}, 1999 * time.Millisecond},
	} {
		signed, c, err := a.Issuer(tt.life).Issue(tt.grant)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		want := token.Claims{
			ID: c.ID, Subject: tt.grant.Subject, Email: tt.grant.Email, Session: tt.grant.Session, Role: tt.grant.Role,
			Issuer:   "pillion",
			Audience: "pillion", IssuedAt: start, ExpiresAt: start.Add(tt.life.Truncate(time.Second)),
			KeyID: token.Thumbprint(&a.Private.PublicKey), Event: token.EventToken(tokentest.EventToken(t, signed)),
		}
		if c != want {
			t.Errorf("%s: claims %+v", tt.name, c)
		}
		v := a.Verifier()
		for _, how := range []string{"uncached", "cached"} {
			if got, err := v.Verify(t.Context(), signed); err != nil || got != want {
				t.Errorf("%s, %s: verified as %+v, %v", tt.name, how, got, err)
			}
		}
	}
}

// The token on the wire, byte for byte but for its signature, which the golden token answers for.
func TestIssueOnTheWire(t *testing.T) {
	a := tokentest.New(t)
	i, err := token.NewIssuer(token.IssuerConfig{
		Key: a.Private, Life: time.Minute, Now: newClock(start).Now,
		NewID: func() string { return "abcdefghijklmnopqrstuvwxyz" },
	})
	if err != nil {
		t.Fatal(err)
	}
	signed, _, err := i.Issue(token.Grant{Subject: tokentest.Ulla, Email: "ulla@example.com", Session: tokentest.Rita,
		Role: token.User})
	if err != nil {
		t.Fatal(err)
	}
	header := fmt.Sprintf(`{"alg":"RS256","typ":"JWT","kid":"%s"}`, i.Key().ID)
	event := a.Raw(a.Private, strings.Replace(header, "JWT", "event+jwt", 1),
		`{"iss":"pillion","aud":"pillion-ledger","sub":"ullaullaullaullaullaullaul","role":"user",`+
			`"sid":"ritaritaritaritaritaritari","jti":"abcdefghijklmnopqrstuvwxyz","iat":1764000000,"exp":1764000060}`)
	claims := `{"iss":"pillion","aud":"pillion","sub":"ullaullaullaullaullaullaul","role":"user","email":"ulla@example.com",` +
		`"sid":"ritaritaritaritaritaritari","jti":"abcdefghijklmnopqrstuvwxyz","iat":1764000000,"exp":1764000060,` +
		`"evt":"` + event + `"}`
	if want := a.Raw(a.Private, header, claims); signed != want {
		text, _ := base64.RawURLEncoding.DecodeString(strings.Split(signed, ".")[1])
		t.Errorf("claims are %s", text)
	}
}

func TestIdentifiersDiffer(t *testing.T) {
	a := tokentest.New(t)
	form := regexp.MustCompile(`^[a-z2-7]{26}$`)
	seen := make(map[string]bool)
	i := a.Issuer(time.Minute)
	for range 200 {
		_, c, err := i.Issue(token.Grant{Subject: tokentest.Rita, Email: "rita@example.com", Role: token.Rider})
		if err != nil || !form.MatchString(c.ID) || seen[c.ID] {
			t.Fatalf("id %q, %v", c.ID, err)
		}
		seen[c.ID] = true
	}
}

// No token is signed that no verifier would take.
func TestIssueRefuses(t *testing.T) {
	a := tokentest.New(t)
	good := token.Grant{Subject: tokentest.Ulla, Email: "ulla@example.com", Role: token.User}
	for _, tt := range []struct {
		name, says string
		change     func(*token.Grant)
	}{
		{"no subject", "sub", func(g *token.Grant) { g.Subject = "" }},
		{"an upper-case subject", "sub", func(g *token.Grant) { g.Subject = strings.ToUpper(tokentest.Ulla) }},
		{"a short session", "sid", func(g *token.Grant) { g.Session = "abc" }},
		{"no role", "role", func(g *token.Grant) { g.Role = "" }},
		{"another role", "role", func(g *token.Grant) { g.Role = "rider" }},
		{"no email", "email", func(g *token.Grant) { g.Email = "" }},
		{"a rider without email", "email", func(g *token.Grant) { g.Email, g.Role = "", token.Rider }},
		{"an email of 255 bytes", "email", func(g *token.Grant) { g.Email = strings.Repeat("u", 243) + "@example.com" }},
		{"an email with a line feed", "email", func(g *token.Grant) { g.Email = "ulla@example.com\n" }},
		{"an email that is not UTF-8", "UTF-8", func(g *token.Grant) { g.Email = "\xff@example.com" }},
	} {
		g := good
		tt.change(&g)
		signed, c, err := a.Issuer(time.Minute).Issue(g)
		if signed != "" || c != (token.Claims{}) || !errors.Is(err, token.ErrGrant) ||
			!strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want ErrGrant that says %q", tt.name, err, tt.says)
		}
		if errors.Is(err, token.ErrInvalid) {
			t.Errorf("%s: it looks like an invalid token", tt.name)
		}
	}
	i, err := token.NewIssuer(token.IssuerConfig{Key: a.Private, Life: time.Minute,
		NewID: func() string { return "1" }})
	if err != nil {
		t.Fatal(err)
	}
	if signed, _, err := i.Issue(good); signed != "" || !errors.Is(err, token.ErrGrant) {
		t.Errorf("a jti that is none: %v", err)
	}
}

func TestNewIssuerRefuses(t *testing.T) {
	a := tokentest.New(t)
	small := newKey(t, 1024)
	odd := *a.Private
	odd.E = 3
	torn := &rsa.PrivateKey{PublicKey: a.Private.PublicKey, D: a.Other.D, Primes: a.Other.Primes}
	for _, tt := range []struct {
		name string
		key  *rsa.PrivateKey
		life time.Duration
		want []error
	}{
		{"no key", nil, time.Minute, []error{token.ErrKey}},
		{"1024 bits", small, time.Minute, []error{token.ErrKey}},
		{"exponent 3", &odd, time.Minute, []error{token.ErrKey}},
		{"halves of two keys", torn, time.Minute, []error{token.ErrKey}},
		{"no life", a.Private, 0, []error{token.ErrSettings}},
		{"a negative life", a.Private, -time.Minute, []error{token.ErrSettings}},
		{"less than a second", a.Private, time.Second - 1, []error{token.ErrSettings}},
		{"more than 24 hours", a.Private, 24*time.Hour + 1, []error{token.ErrSettings}},
		{"both wrong", small, 25 * time.Hour, []error{token.ErrKey, token.ErrSettings}},
	} {
		i, err := token.NewIssuer(token.IssuerConfig{Key: tt.key, Life: tt.life})
		for _, want := range tt.want {
			if i != nil || !errors.Is(err, want) {
				t.Errorf("%s: got %v, want %v", tt.name, err, want)
			}
		}
	}
}

func TestIssuerKey(t *testing.T) {
	a := tokentest.New(t)
	set := keySet(t, a.Issuer(time.Minute).Key())
	if active, ok := set.Active(time.Now()); !ok || !active.Public.Equal(&a.Private.PublicKey) {
		t.Error("its key is not that of its private key")
	}
}
