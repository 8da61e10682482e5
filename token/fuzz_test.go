package token_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// FuzzVerify: whatever comes in, nothing panics, what is refused has no claims and a known reason,
// and what is accepted was signed by the key.
func FuzzVerify(f *testing.F) {
	a := atStart(f)
	v := a.Verifier()
	f.Add(a.Token(token.User, tokentest.Ulla, "ulla@example.com"))
	f.Add(string(read(f, "golden.jwt")))
	for i, forged := range a.Forgeries() {
		// a fifth of them: each costs the fuzzer a baseline run
		if len(forged.Token) < 8<<10 && i%5 == 0 {
			f.Add(forged.Token)
		}
	}
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := v.Verify(t.Context(), raw)
		checkVerdict(t, raw, c, err)
		c, err = v.VerifyAccessAt(t.Context(), raw, start, 1)
		checkVerdict(t, raw, c, err)
	})
}

// FuzzGrammar reaches behind the signature, with any header and any claims: what the grammar takes,
// encoding/json reads alike.
func FuzzGrammar(f *testing.F) {
	a := atStart(f)
	header := fmt.Sprintf(`{"alg":"RS256","typ":"JWT","kid":"%043d"}`, 7)
	claims := a.Claims("user", tokentest.Ulla, "ulla@example.com", start, start.Add(time.Minute))
	f.Add(header, claims)
	f.Add(header,
		strings.TrimSuffix(claims,
			"}")+`,"x":[{"a":1.5e-3,"b":[true,false,null]}],"\u0065\n":"\ud83d\uDEF5","nbf":0,"sid":"`+tokentest.Rita+`"}`)
	f.Add(" "+strings.ReplaceAll(header, ":", " :\n"), strings.ReplaceAll(claims, ",", "\t,\r"))
	f.Add(header, strings.Replace(claims, `"email":`, `"\u0065mail":`, 1))
	f.Add(header, strings.Replace(claims, `"role":"user"`, `"role":"user","ROLE":"raider"`, 1))
	f.Add(header, strings.Replace(claims, `"iss"`, "\"i\u017fs\"", 1))
	f.Add(header, strings.Replace(claims, `"exp":`, `"exp":1,"exp":`, 1))
	f.Add(header, strings.Replace(claims, `ulla@`, "\xffulla@", 1))
	f.Add(header, strings.Replace(claims, `ulla@`, `\ud800ulla@`, 1))
	f.Add(header, claims+"{}")
	f.Add(strings.TrimSuffix(header, "}")+`,"crit":["b64"],"b64":false}`, claims)
	f.Fuzz(func(t *testing.T, header, claims string) {
		raw := encode(header) + "." + encode(claims) + ".AA"
		c, err := token.Parse(raw)
		if err != nil {
			checkRefusal(t, c, err)
			return
		}
		checkClaims(t, raw, c)
	})
}

// atStart returns an authority whose clock stands at start.
func atStart(t testing.TB) *tokentest.Authority {
	a := tokentest.New(t)
	a.Now = func() time.Time { return start }
	return a
}

// checkVerdict holds a verdict against what crypto/rsa and encoding/json make of the token.
func checkVerdict(t *testing.T, raw string, c token.Claims, err error) {
	t.Helper()
	if err != nil {
		checkRefusal(t, c, err)
		return
	}
	dot := strings.LastIndexByte(raw, '.')
	sum := sha256.Sum256([]byte(raw[:dot]))
	if err := rsa.VerifyPKCS1v15(&atStart(t).Private.PublicKey, crypto.SHA256, sum[:],
		decode(t, raw[dot+1:])); err != nil {
		t.Fatalf("it was not signed: %v", err)
	}
	if c.Issuer != "pillion" || c.Audience != "pillion" || c.IssuedAt.After(start.Add(token.EventLeeway)) ||
		!start.Before(c.ExpiresAt.Add(token.EventLeeway)) {
		t.Errorf("it is accepted with %+v", c)
	}
	checkClaims(t, raw, c)
}

// checkRefusal demands a known reason and no claims.
func checkRefusal(t *testing.T, c token.Claims, err error) {
	t.Helper()
	if c != (token.Claims{}) || !errors.Is(err, token.ErrInvalid) || !slices.Contains(reasons(), token.Reason(err)) {
		t.Fatalf("refused with %v", err)
	}
}

// checkClaims holds the claims that were read from a token against what encoding/json reads in it.
func checkClaims(t *testing.T, raw string, c token.Claims) {
	t.Helper()
	part := strings.Split(raw, ".")
	if len(part) != 3 {
		t.Fatalf("it has %d parts", len(part))
	}
	header, claims := object(t, decode(t, part[0])), object(t, decode(t, part[1]))
	if len(header) != 3 || header["alg"] != "RS256" || header["typ"] != "JWT" || header["kid"] != c.KeyID ||
		len(c.KeyID) != 43 {
		t.Errorf("its header is %v", header)
	}
	want := map[string]any{
		"iss": nil, "aud": nil, "sub": c.Subject, "role": string(c.Role), "jti": c.ID,
		"iat": json.Number(fmt.Sprint(c.IssuedAt.Unix())), "exp": json.Number(fmt.Sprint(c.ExpiresAt.Unix())),
		"email": nil, "sid": nil, "nbf": nil, "evt": nil,
	}
	for name, value := range map[string]string{"iss": c.Issuer, "aud": c.Audience, "email": c.Email, "sid": c.Session,
		"evt": string(c.Event)} {
		if _, there := claims[name]; there || value != "" {
			want[name] = value
		}
	}
	if !c.NotBefore.IsZero() {
		want["nbf"] = json.Number(fmt.Sprint(c.NotBefore.Unix()))
	}
	for name, value := range want {
		if claims[name] != value {
			t.Errorf("%s is %v in the token and %v in the claims", name, claims[name], value)
		}
	}
	for name := range claims {
		for known := range want {
			if name != known && strings.EqualFold(name, known) {
				t.Errorf("it has %q beside %q", name, known)
			}
		}
	}
	// Encoded again from what was read, it says the same.
	for name, value := range want {
		if value == nil {
			delete(want, name)
		}
	}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	again, err := token.Parse(part[0] + "." + encode(string(text)) + ".AA")
	if err != nil || again != c {
		t.Errorf("encoded again it is %+v, %v, and was %+v", again, err, c)
	}
}

// object reads one JSON object with encoding/json, and demands no name twice, valid UTF-8 and
// nothing behind it.
func object(t *testing.T, data []byte) map[string]any {
	t.Helper()
	if !json.Valid(data) || !utf8.Valid(data) {
		t.Fatal("it is no JSON in UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil || m == nil {
		t.Fatalf("it is no object: %v", err)
	}
	if n := members(t, data); n != len(m) {
		t.Fatalf("it has %d members with %d names", n, len(m))
	}
	return m
}

// members counts the members of an object, those that stand there twice twice.
func members(t *testing.T, data []byte) int {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; d.More(); n++ {
		if _, err := d.Token(); err != nil {
			t.Fatal(err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func decode(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		t.Fatalf("it is no base64url: %v", err)
	}
	return b
}

// reasons are those of an ErrInvalid.
func reasons() []string {
	return []string{"malformed", "type", "algorithm", "unknown_key", "signature", "expired", "not_yet_valid",
		"lifetime", "issuer", "audience",
		"role", "retired_key"}
}
