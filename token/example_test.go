package token_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"time"

	"github.com/example/pillion/token"
)

// One house signs, the others verify with the public half of its key. An event keeps its token, and
// is verified as of the time at which it was stored.
func Example() {
	ctx := context.Background()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Date(2025, 11, 24, 16, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }

	issuer, err := token.NewIssuer(token.IssuerConfig{Key: private, Life: 15 * time.Minute, Now: clock})
	if err != nil {
		fmt.Println(err)
		return
	}
	signed, _, err := issuer.Issue(token.Grant{Subject: "ullaullaullaullaullaullaul", Email: "ulla@example.com",
		Role: token.User})
	if err != nil {
		fmt.Println(err)
		return
	}

	published, err := token.NewKeySet(issuer.Key())
	if err != nil {
		fmt.Println(err)
		return
	}
	keys, err := token.ParseJWKS(published.JWKS()) // as it arrives elsewhere
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier, err := token.NewVerifier(token.Config{Keys: token.StaticKeys(keys), Now: clock})
	if err != nil {
		fmt.Println(err)
		return
	}

	claims, err := verifier.Verify(ctx, signed)
	fmt.Println(claims.Role, claims.Email, "until", claims.ExpiresAt.Format(time.TimeOnly), err)

	stored := now.Add(time.Minute)
	now = now.Add(time.Hour)
	_, err = verifier.Verify(ctx, signed)
	fmt.Println("an hour later:", errors.Is(err, token.ErrInvalid), token.Reason(err))
	claims, err = verifier.VerifyAccessAt(ctx, signed, stored, 1)
	fmt.Println("as the token of an event then:", claims.Subject, err)

	// Output:
	// user ulla@example.com until 16:15:00 <nil>
	// an hour later: true expired
	// as the token of an event then: ullaullaullaullaullaullaul <nil>
}
