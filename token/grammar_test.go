package token_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// Every attack of SECURITY.md sections 1 and 2 on a token itself is refused for its own reason, now
// and as an event's, and says nothing to the client but "Invalid token".
func TestForgeriesAreRefused(t *testing.T) {
	a := tokentest.New(t)
	v := a.Verifier()
	seen := make(map[string]string)
	for _, f := range a.Forgeries() {
		if other, there := seen[f.Token]; there {
			t.Errorf("%q and %q are the same token", f.Name, other)
		}
		seen[f.Token] = f.Name
		c, err := v.Verify(t.Context(), f.Token)
		wantRefused(t, f.Name, f.Reason, c, err)
		if said := fault.From(err).Message; said != "Invalid token" {
			t.Errorf("%s: the client is told %q", f.Name, said)
		}
		c, err = v.VerifyAccessAt(t.Context(), f.Token, a.Now(), 1)
		wantRefused(t, f.Name+", as an event", f.Reason, c, err)
	}
	if len(seen) < 500 {
		t.Errorf("there are %d forgeries", len(seen))
	}
	if n := v.CacheLen(); n != 0 {
		t.Errorf("%d forgeries are cached", n)
	}
}

// What an error says is for logs, so it never holds anything of a token.
func TestErrorsDoNotQuoteTokens(t *testing.T) {
	a := tokentest.New(t)
	v := a.Verifier()
	for _, f := range a.Forgeries() {
		_, err := v.Verify(t.Context(), f.Token)
		text := err.Error()
		for _, part := range append(strings.Split(f.Token, "."), tokentest.Ulla, "ulla@example.com", "evil",
			token.Thumbprint(&a.Private.PublicKey)) {
			if len(part) > 7 && strings.Contains(text, part) {
				t.Errorf("%s: the error has %q of it: %s", f.Name, part, text)
			}
		}
	}
}

// Addresses in a token are never followed.
func TestNothingIsFetched(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hits := make(chan string, 1)
	go func() {
		defer close(hits)
		conn, err := listener.Accept()
		if err == nil {
			hits <- conn.RemoteAddr().String()
			conn.Close()
		}
	}()
	a := tokentest.New(t)
	v := a.Verifier()
	claims := a.Claims("user", tokentest.Ulla, "ulla@example.com", a.Now(), a.Now().Add(time.Minute))
	address := "http://" + listener.Addr().String() + "/"
	for _, extra := range []string{`"jku":"` + address + `"`, `"x5u":"` + address + `"`, `"kid":"` + address + `"`} {
		for _, header := range []string{strings.TrimSuffix(a.Header(), "}") + "," + extra + "}",
			`{"alg":"RS256","typ":"JWT",` + extra + `}`} {
			c, err := v.Verify(t.Context(), a.Raw(a.Private, header, claims))
			wantRefused(t, extra, "malformed", c, err)
		}
	}
	c, err := v.Verify(t.Context(), a.Raw(a.Private, a.Header(),
		strings.Replace(claims, `"pillion"`, `"`+address+`"`, 1)))
	wantRefused(t, "iss", "issuer", c, err)
	listener.Close()
	if from, hit := <-hits; hit {
		t.Errorf("somebody at %s asked for an address of a token", from)
	}
}

// A token that neither our signer nor our encoder made: by Python's json and cryptography, with a
// claim of no meaning here.
func TestGoldenToken(t *testing.T) {
	set, err := token.ParseJWKS(read(t, "golden.jwks.json"))
	if err != nil {
		t.Fatal(err)
	}
	clock := newClock(start.Add(time.Minute))
	v := verifier(t, token.Config{Keys: token.StaticKeys(set), Now: clock.Now})
	want := token.Claims{
		ID: "abcdefghijklmnopqrstuvwxyz", Subject: "ullaullaullaullaullaullaul", Email: "ulla@example.com",
		Session: "sidsidsidsidsidsidsidsidsi", Role: token.User, Issuer: "pillion", Audience: "pillion",
		IssuedAt: start, NotBefore: start, ExpiresAt: start.Add(15 * time.Minute),
		KeyID: "UnQkwCvvvGvQLTzCtXqkhsWMR3DLqYdDmTNnSY8GUfI",
	}
	for _, how := range []string{"uncached", "cached"} {
		got, err := v.Verify(t.Context(), string(read(t, "golden.jwt")))
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v", how, got, err)
		}
	}
}

// The grammar is strict, not narrow: what JSON leaves open stays open.
func TestGoodTokens(t *testing.T) {
	a := tokentest.New(t)
	v := a.Verifier()
	iat, exp := a.Now().Unix()-60, a.Now().Unix()+600
	id := func(s string) string { return `"` + s + `"` }
	good := tokentest.Members{
		{Name: "iss", Value: `"pillion"`}, {Name: "aud", Value: `"pillion"`}, {Name: "sub", Value: id(tokentest.Ulla)},
		{Name: "role", Value: `"user"`}, {Name: "email", Value: `"ulla@example.com"`}, {Name: "jti", Value: id(tokentest.Rita)},
		{Name: "iat", Value: fmt.Sprint(iat)}, {Name: "exp", Value: fmt.Sprint(exp)},
	}
	for _, tt := range []struct {
		name   string
		claims string
		want   func(*token.Claims)
	}{
		{"as it is", good.String(), nil},
		{"a rider", good.With("role", `"raider"`).String(), func(c *token.Claims) { c.Role = token.Rider }},
		{"sid", good.Plus("sid", id(tokentest.Rita)).String(), func(c *token.Claims) { c.Session = tokentest.Rita }},
		{"nbf", good.Plus("nbf", fmt.Sprint(iat)).String(), func(c *token.Claims) { c.NotBefore = time.Unix(iat, 0).UTC() }},
		{"nbf of 0", good.Plus("nbf", "0").String(), func(c *token.Claims) { c.NotBefore = time.Unix(0, 0).UTC() }},
		{"an email of 254 bytes", good.With("email", id(strings.Repeat("u", 242)+"@example.com")).String(),
			func(c *token.Claims) { c.Email = strings.Repeat("u", 242) + "@example.com" }},
		{"escapes", good.With("email", `"\u0075l\u006Ca\u0040ex\u0061mple.com"`).String(), nil},
		{"every escape", good.Plus("x", `"\"\\\/\b\f\n\r\t\u00e9\uD83D\uDEF5"`).String(), nil},
		{"an escaped name", strings.Replace(good.String(), `"email"`, `"\u0065mail"`, 1), nil},
		{"white space", " \t\r\n" + strings.NewReplacer(":", " : ", ",", "\n,\t").Replace(good.String()) + " \t\r\n", nil},
		{"another order", "{" + strings.TrimSuffix(strings.SplitN(good.String(), ",", 2)[1], "}") + `,"iss":"pillion"}`, nil},
		{"unknown claims", good.Plus("x", `{"a":[1,-2.5e+3,0,-0,1E-2,true,false,null,{},[],""],"b":{"a":"é"}}`).Plus("name", `"Ulla"`).String(), nil},
		{"an unknown claim that only begins like one", good.Plus("roles", `["raider"]`).Plus("ro", "1").Plus("expiry", "1").String(), nil},
		{"40 unknown claims", func() string {
			many := good
			for i := range 40 {
				many = many.Plus(fmt.Sprint("x", i), "1")
			}
			return many.String()
		}(), nil},
		{"a life of 24 hours", good.With("exp", fmt.Sprint(iat+86400)).String(),
			func(c *token.Claims) { c.ExpiresAt = time.Unix(iat+86400, 0).UTC() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := token.Claims{
				ID: tokentest.Rita, Subject: tokentest.Ulla, Email: "ulla@example.com", Role: token.User,
				Issuer: "pillion", Audience: "pillion",
				IssuedAt: time.Unix(iat, 0).UTC(), ExpiresAt: time.Unix(exp, 0).UTC(),
				KeyID: token.Thumbprint(&a.Private.PublicKey),
			}
			if tt.want != nil {
				tt.want(&want)
			}
			got, err := v.Verify(t.Context(), a.Raw(a.Private, a.Header(), tt.claims))
			if err != nil || got != want {
				t.Errorf("got %+v, %v\nwant %+v", got, err, want)
			}
			if !json.Valid([]byte(tt.claims)) {
				t.Error("the test's claims are no JSON")
			}
		})
	}
	header := strings.NewReplacer(":", " : ", ",", " ,\n", "RS256", `\u0052S256`).Replace(a.Header())
	c, err := v.Verify(t.Context(), a.Raw(a.Private, header, good.String()))
	wantRefused(t, "white space and an escape in the header", "", c, err)
}

// The greatest token that is taken has 4096 bytes, the least that is not 4097; with 4095 it is over
// 1 KiB, where it is hashed without a buffer.
func TestSize(t *testing.T) {
	a := tokentest.New(t)
	v := a.Verifier()
	claims := a.Claims("user", tokentest.Ulla, "ulla@example.com", a.Now(), a.Now().Add(time.Minute))
	sizes := make(map[int]bool)
	for n := 2300; n < 2900; n++ {
		fill := strings.TrimSuffix(claims, "}") + `,"x":"` + strings.Repeat("x", n) + `"}`
		// 342 characters of signature and two dots; signing each size would take a second.
		size := (len(a.Header())*4+2)/3 + (len(fill)*4+2)/3 + 344
		if size < 4093 || size > 4100 {
			continue
		}
		raw := a.Raw(a.Private, a.Header(), fill)
		sizes[len(raw)] = true
		reason := ""
		if len(raw) > token.MaxSize {
			reason = "malformed"
		}
		for _, how := range []string{"uncached", "cached"} {
			c, err := v.Verify(t.Context(), raw)
			wantRefused(t, fmt.Sprint(len(raw), " bytes, ", how), reason, c, err)
		}
	}
	if !sizes[4096] || !sizes[4097] && !sizes[4098] {
		t.Errorf("the sizes tried are %v", sizes)
	}
}

// A verifier of another type, issuer or audience takes its own tokens and nobody else's.
func TestConfiguredNames(t *testing.T) {
	a := tokentest.New(t)
	for _, tt := range []struct {
		name                  string
		typ, issuer, audience string
		reason                string // of the default verifier
	}{
		{"type", "service+jwt", "", "", "type"},
		{"issuer", "", "https://auth.example.com", "", "issuer"},
		{"audience", "", "", "rides", "audience"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i, err := token.NewIssuer(token.IssuerConfig{Key: a.Private, Life: time.Minute, Type: tt.typ,
				Issuer: tt.issuer, Audience: tt.audience})
			if err != nil {
				t.Fatal(err)
			}
			grant := token.Grant{Subject: tokentest.Rita, Email: "rita@example.com", Role: token.Rider}
			if tt.typ == token.ServiceType {
				grant.Role = token.Service
			}
			signed, _, err := i.Issue(grant)
			if err != nil {
				t.Fatal(err)
			}
			own := verifier(t, token.Config{Keys: a.Keys(), Type: tt.typ, Issuer: tt.issuer, Audience: tt.audience})
			c, err := own.Verify(t.Context(), signed)
			wantRefused(t, "its own", "", c, err)
			c, err = a.Verifier().Verify(t.Context(), signed)
			wantRefused(t, "by the default verifier", tt.reason, c, err)
			c, err = own.Verify(t.Context(), a.Token(token.User, tokentest.Ulla, "ulla@example.com"))
			wantRefused(t, "a default token", tt.reason, c, err)
		})
	}
}

func TestParseRole(t *testing.T) {
	for s, want := range map[string]token.Role{
		"user": token.User, "raider": token.Rider, "service": token.Service,
		"rider": "", "User": "", "RAIDER": "", "": "", "user ": "", "u\u017fer": "", "admin": "",
	} {
		if got, ok := token.ParseRole(s); got != want || ok != (want != "") {
			t.Errorf("ParseRole(%q) = %q, %v", s, got, ok)
		}
	}
}

func TestReason(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{nil, ""}, {token.ErrNoKeys, "no_keys"}, {token.ErrUndecided, "undecided"}, {token.ErrInvalid, "malformed"},
		{fmt.Errorf("book: %w", token.ErrNoKeys.Because(errors.New("down"))), "no_keys"}, {errors.New("other"), "undecided"},
		{token.ErrNoRevocations, "no_revocations"}, {token.ErrClock.Because(errors.New("an hour")), "clock"},
	} {
		if got := token.Reason(tt.err); got != tt.want {
			t.Errorf("Reason(%v) = %q, want %q", tt.err, got, tt.want)
		}
	}
}
