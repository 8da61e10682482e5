package token_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// An event token proves who caused an event, and opens nothing. An access token opens doors, and
// proves no event.
func TestEventTokens(t *testing.T) {
	a := tokentest.New(t)
	for _, role := range []token.Role{token.User, token.Rider, token.Service} {
		outer := a.Token(role, tokentest.Ulla, "ulla@example.com")
		event := tokentest.EventToken(t, outer)
		own := verifier(t, token.Config{Keys: a.Keys(), Type: token.ServiceType})
		for name, v := range map[string]*token.Verifier{"requests": a.Verifier(), "services": own} {
			for range 2 { // remembered or not
				c, err := v.VerifyAt(t.Context(), event, time.Now())
				wantRefused(t, fmt.Sprint(role, "'s event, by the verifier of ", name), "", c, err)
				if c.Subject != tokentest.Ulla || c.Role != role || c.Email != "" || c.Event != "" ||
					c.Audience != "pillion-ledger" {
					t.Errorf("%s's event token says %+v", role, c)
				}
				c, err = v.Verify(t.Context(), event)
				wantRefused(t, fmt.Sprint(role, "'s event token in a request, by the verifier of ", name), "type", c, err)
				c, err = v.VerifyAccessAt(t.Context(), event, time.Now(), 1)
				wantRefused(t, fmt.Sprint(role, "'s event token in an old event"), "type", c, err)
				c, err = v.VerifyAt(t.Context(), outer, time.Now())
				wantRefused(t, fmt.Sprint(role, "'s own token in an event"), "type", c, err)
			}
		}
	}
}

// What is wrong with an event token as of the time at which its event was stored.
func TestEventTokenAtItsTime(t *testing.T) {
	a := tokentest.New(t)
	v := a.Verifier()
	ledgers := a.EventClaims("user", tokentest.Ulla, start, start.Add(time.Minute))
	claims := strings.Replace(ledgers, "pillion-ledger", "pillion", 1)
	event := func(claims string) string { return a.Raw(a.Private, a.EventHeader(), claims) }
	for _, tt := range []struct {
		name, raw string
		stored    time.Duration
		reason    string
	}{
		{"good", event(ledgers), 0, ""},
		{"stored as late as an append may take", event(ledgers), 75*second - 1, ""},
		{"stored too late", event(ledgers), 75 * second, "expired"},
		{"stored before it was issued", event(ledgers), -16 * second, "not_yet_valid"},
		{"for requests", event(claims), 0, "audience"},
		{"for another ledger", event(strings.Replace(ledgers, "pillion-ledger", "other-ledger", 1)), 0, "audience"},
		{"with an email", event(strings.Replace(ledgers, "{", `{"email":"ulla@example.com",`, 1)), 0, "malformed"},
		{"with an event token", event(strings.Replace(ledgers, "{", `{"evt":"x",`, 1)), 0, "malformed"},
		{"without a role", event(strings.Replace(ledgers, `"role":"user"`, `"x":1`, 1)), 0, "role"},
		{"of a key that nobody trusts", a.Raw(a.Other, a.EventHeader(), ledgers), 0, "signature"},
	} {
		for range 2 {
			c, err := v.VerifyAt(t.Context(), tt.raw, start.Add(tt.stored))
			wantRefused(t, tt.name, tt.reason, c, err)
		}
	}
}

// A token of an older build has no event token. It is good for reading; whoever writes with it has
// to log in again.
func TestProof(t *testing.T) {
	a := tokentest.New(t)
	v := a.Verifier()
	now := time.Now()
	raw := a.Raw(a.Private, a.Header(), a.Claims("user", tokentest.Ulla, "ulla@example.com", now, now.Add(time.Hour)))
	c, err := v.Verify(t.Context(), raw)
	wantRefused(t, "an old token", "", c, err)
	if proof, err := c.Proof(); !errors.Is(err, token.ErrExpired) || proof != "" {
		t.Errorf("an old token proves an event with %q, %v", proof, err)
	}
	raw = a.Token(token.User, tokentest.Ulla, "ulla@example.com")
	if c, err = v.Verify(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	proof, err := c.Proof()
	if err != nil || string(proof) != tokentest.EventToken(t, raw) {
		t.Errorf("a token proves an event with an event token of %d bytes, %v", len(proof), err)
	}
	for _, printed := range []string{fmt.Sprint(proof), fmt.Sprintf("%+v %#v %q", c, c, c)} {
		if strings.Contains(printed, "eyJ") {
			t.Errorf("an event token is printed: %s", printed)
		}
	}
}

// The largest token that an account can get: the longest key, and an email of which JSON makes the
// most.
func TestLargestToken(t *testing.T) {
	key := newKey(t, 4096)
	i, err := token.NewIssuer(token.IssuerConfig{Key: key, Life: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	grant := token.Grant{Subject: tokentest.Ulla, Session: tokentest.Rita, Role: token.Rider,
		Email: strings.Repeat("&", 64) + "@" + strings.Repeat("e", 189)}
	raw, _, err := i.Issue(grant)
	if err != nil {
		t.Fatal(err)
	}
	// NATS reads control lines of 4,096 bytes, of which the rest of CONNECT takes some 350.
	if len(raw) > 3700 {
		t.Errorf("it has %d bytes", len(raw))
	}
	v := verifier(t, token.Config{Keys: token.StaticKeys(keySet(t, i.Key()))})
	c, err := v.Verify(t.Context(), raw)
	wantRefused(t, "the largest token", "", c, err)

	grant.Email = strings.Repeat("&", 254) // which no account has
	if raw, _, err := i.Issue(grant); !errors.Is(err, token.ErrGrant) {
		t.Errorf("a token of %d bytes, which no verifier reads: %v", len(raw), err)
	}
}
