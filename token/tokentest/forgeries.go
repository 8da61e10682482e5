package tokentest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/example/pillion/token"
)

// A Forgery is a token that must be refused: by Verify now, and by VerifyAccessAt for an event that
// was stored now.
type Forgery struct {
	Name   string
	Reason string // what token.Reason says of its refusal
	Token  string
}

// Forgeries returns every attack on a token itself that we know of. Most have a good signature by
// the authority's own key, so that nothing but the rule they break refuses them. All are made from
// one good token of Ulla's.
func (a *Authority) Forgeries() []Forgery {
	a.t.Helper()
	f := &forger{Authority: a, now: a.Now(), jti: newID()}
	f.good = a.Raw(a.Private, a.Header(), f.claims().String())
	f.shapes()
	f.signatures()
	f.algorithms()
	f.headers()
	f.texts()
	f.times()
	f.names()
	f.events()
	return f.all
}

// A forger collects forgeries.
type forger struct {
	*Authority
	now  time.Time
	jti  string
	good string
	all  []Forgery
}

func (f *forger) add(reason, name, forged string) {
	f.all = append(f.all, Forgery{Name: name, Reason: reason, Token: forged})
}

// signed adds a token of any header and claims with a good signature.
func (f *forger) signed(reason, name, header, claims string) {
	f.t.Helper()
	f.add(reason, name, f.Raw(f.Private, header, claims))
}

// header adds a token with another header, good claims and a good signature.
func (f *forger) header(reason, name, header string) {
	f.t.Helper()
	f.signed(reason, name, header, f.claims().String())
}

// payload adds a token with other claims, a good header and a good signature.
func (f *forger) payload(reason, name, claims string) {
	f.t.Helper()
	f.signed(reason, name, f.Header(), claims)
}

// Members are the members of a JSON object in their order, so that a test can spoil one of them.
type Members []struct{ Name, Value string }

// String returns the object. Names and values stand there as they are.
func (m Members) String() string {
	var b strings.Builder
	for i, member := range m {
		b.WriteString([]string{"{", ","}[min(i, 1)])
		fmt.Fprintf(&b, `"%s":%s`, member.Name, member.Value)
	}
	return b.String() + "}"
}

// With returns the members with one replaced, or added at the end.
func (m Members) With(name, value string) Members {
	m = slices.Clone(m)
	for i := range m {
		if m[i].Name == name {
			m[i].Value = value
			return m
		}
	}
	return m.Plus(name, value)
}

// Plus returns the members with one more at the end, though its name be there already.
func (m Members) Plus(name, value string) Members {
	return append(slices.Clone(m), struct{ Name, Value string }{name, value})
}

// Without returns the members without one.
func (m Members) Without(name string) Members {
	return slices.DeleteFunc(slices.Clone(m), func(member struct {
		Name,
		Value string
	}) bool {
		return member.Name == name
	})
}

// claims are Ulla's, issued a minute ago for a quarter of an hour.
func (f *forger) claims() Members {
	return Members{
		{"iss", `"pillion"`}, {"aud", `"pillion"`}, {"sub", quote(Ulla)}, {"role", `"user"`},
		{"email", `"ulla@example.com"`},
		{"jti", quote(f.jti)}, {"sid", quote(Ulla)}, {"nbf", f.after(-time.Minute)}, {"iat", f.after(-time.Minute)},
		{"exp", f.after(14 * time.Minute)},
	}
}

// members are those of the good header.
func (f *forger) members() Members {
	return Members{{"alg", `"RS256"`}, {"typ", `"JWT"`}, {"kid", quote(f.kid())}}
}

// after returns a time as JSON.
func (f *forger) after(d time.Duration) string { return fmt.Sprint(f.now.Add(d).Unix()) }

func quote(s string) string { return `"` + s + `"` }

// shapes adds what is not three parts of strict base64url.
func (f *forger) shapes() {
	const malformed = "malformed"
	part := strings.Split(f.good, ".")
	header, claims, sig := part[0], part[1], part[2]
	f.add(malformed, "empty", "")
	f.add(malformed, "one dot", ".")
	f.add(malformed, "two dots", "..")
	f.add(malformed, "three dots", "...")
	f.add(malformed, "the original's example", "invalid.token.here")
	f.add(malformed, "header alone", header)
	f.add(malformed, "no signature and no dot for it", header+"."+claims)
	f.add(malformed, "empty signature", header+"."+claims+".")
	f.add(malformed, "empty header", "."+claims+"."+sig)
	f.add(malformed, "empty claims", header+".."+sig)
	f.add(malformed, "four parts", f.good+"."+sig)
	f.add(malformed, "five parts", f.good+"."+claims+"."+sig)
	f.add(malformed, "a dot behind", f.good+".")
	f.add(malformed, "a dot before", "."+f.good)
	f.add(malformed, "cut in the signature to a length that base64 does not have", f.good[:len(f.good)-1])
	f.add(malformed, "cut in the claims", f.good[:len(header)+40])
	f.add(malformed, "space before", " "+f.good)
	f.add(malformed, "space behind", f.good+" ")
	f.add(malformed, "line feed behind", f.good+"\n")
	f.add(malformed, "line feed in the header", header[:8]+"\n"+f.good[8:])
	f.add(malformed, "line break in the claims", header+"."+claims[:8]+"\r\n"+claims[8:]+"."+sig)
	f.add(malformed, "line feed in the claims, signed", Sign(f.t, f.Private, header+"."+claims[:8]+"\n"+claims[8:]))
	f.add(malformed, "carriage return in the signature", f.good[:len(f.good)-8]+"\r"+f.good[len(f.good)-8:])
	f.add(malformed, "tab in the signature", f.good[:len(f.good)-8]+"\t"+f.good[len(f.good)-8:])
	f.add(malformed, "NUL behind", f.good+"\x00")
	f.add(malformed, "padding of the signature", f.good+"==")
	f.add(malformed, "padding of the header, signed", Sign(f.t, f.Private,
		base64.URLEncoding.EncodeToString([]byte(f.Header()+" "))+"."+claims))
	f.add(malformed, "padding by dots", f.good+"..")
	f.add(malformed, "the standard alphabet's plus", header+"."+claims+"."+"+"+sig[1:])
	f.add(malformed, "the standard alphabet's slash", header+"."+claims+"."+"/"+sig[1:])
	f.add(malformed, "a letter that is not ASCII", header+"."+claims+"."+"\u0410"+sig[1:])
	f.add(malformed, "full-width dots", header+"\uff0e"+claims+"\uff0e"+sig)
	f.add(malformed, "dots percent-encoded", strings.ReplaceAll(f.good, ".", "%2E"))
	f.add(malformed, "Bearer before it", "Bearer "+f.good)
	f.add(malformed, "two of them", f.good+","+f.good)
	f.add(malformed, "in quotes", quote(f.good))
	f.add(malformed, "in JSON serialization", fmt.Sprintf(`{"payload":"%s","protected":"%s","signature":"%s"}`, claims,
		header, sig))
	f.add(malformed, "a JWE's five parts", header+"..AAAA.AAAA.AAAA")
	f.add(malformed, "not base64 but JSON", f.Header()+"."+f.claims().String()+"."+sig)
	f.add(malformed, "unused bits set in the signature", flipLast(f.good))
	f.add(malformed, "unused bits set in the header, signed",
		Sign(f.t, f.Private, flipLast(encode(spaced(f.Header())))+"."+claims))
	f.add(malformed, "unused bits set in the claims, signed",
		Sign(f.t, f.Private, header+"."+flipLast(encode(spaced(f.claims().String())))))
	f.payload(malformed, "longer than 4 KiB", f.claims().Plus("note", quote(strings.Repeat("x", 3000))).String())
	f.payload(malformed, "a megabyte", f.claims().Plus("note", quote(strings.Repeat("x", 1<<20))).String())
	f.header(malformed, "kid of 64 KiB", f.members().With("kid", quote(strings.Repeat("k", 64<<10))).String())
}

// spaced returns an object with white space behind it, so that its last base64 character has bits
// to spare.
func spaced(object string) string { return object + strings.Repeat(" ", 3-len(object)%3+1) }

// flipLast sets the lowest bit of the last base64 character, which decodes to nothing there.
func flipLast(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	i := strings.IndexByte(alphabet, s[len(s)-1])
	return s[:len(s)-1] + string(alphabet[i^1])
}

// signatures adds good forms with signatures that are not the key's of this text.
func (f *forger) signatures() {
	const signature = "signature"
	part := strings.Split(f.good, ".")
	text := part[0] + "." + part[1]
	raw, err := base64.RawURLEncoding.DecodeString(part[2])
	if err != nil {
		f.t.Fatalf("tokentest: decode: %v", err)
	}
	with := func(name string, sig []byte) { f.add(signature, name, text+"."+encode(string(sig))) }
	changed := func(i int) []byte {
		c := slices.Clone(raw)
		c[i] ^= 1
		return c
	}
	f.add(signature, "another key under our kid", f.Raw(f.Other, f.Header(), f.claims().String()))
	f.add("unknown_key", "another key under its own kid",
		f.Raw(f.Other, f.members().With("kid", quote(token.Thumbprint(&f.Other.PublicKey))).String(),
			f.claims().String()))
	with("first bit changed", changed(0))
	with("middle bit changed", changed(len(raw)/2))
	with("last bit changed", changed(len(raw)-1))
	with("a byte short", raw[:len(raw)-1])
	with("a byte long", append(slices.Clone(raw), 0))
	with("a zero byte before", append([]byte{0}, raw...))
	with("one byte", raw[:1])
	with("all zero", make([]byte, len(raw)))
	with("one", append(make([]byte, len(raw)-1), 1))
	with("all ones", slices.Repeat([]byte{0xff}, len(raw)))
	with("the modulus", f.Private.N.Bytes())
	reversed := slices.Clone(raw)
	slices.Reverse(reversed)
	with("reversed", reversed)
	with("of another token", signatureOf(f.Raw(f.Private, f.Header(), f.claims().With("role", `"raider"`).String())))
	with("of the claims alone", f.pkcs1(crypto.SHA256, part[1]))
	with("of the decoded text", f.pkcs1(crypto.SHA256, f.Header()+"."+f.claims().String()))
	with("with SHA-512 under RS256", f.pkcs1(crypto.SHA512, text))
	with("with SHA-384 under RS256", f.pkcs1(crypto.SHA384, text))
	with("of the hash without its name", f.pkcs1(0, text))
	with("PSS under RS256", f.pss(crypto.SHA256, text))
	swap := func(name string, header, claims string) { f.add(signature, name, header+"."+claims+"."+part[2]) }
	swap("role changed after signing", part[0], encode(f.claims().With("role", `"raider"`).String()))
	swap("exp changed after signing", part[0], encode(f.claims().With("exp", f.after(time.Hour)).String()))
	swap("sub changed after signing", part[0], encode(f.claims().With("sub", quote(Rita)).String()))
	swap("header spaced after signing", encode(spaced(f.Header())), part[1])
}

// signatureOf returns the decoded signature of a token.
func signatureOf(signed string) []byte {
	sig, err := base64.RawURLEncoding.DecodeString(signed[strings.LastIndexByte(signed, '.')+1:])
	if err != nil {
		panic("tokentest: " + err.Error()) // it was encoded here
	}
	return sig
}

// sum hashes text. The zero hash is SHA-256, to be signed without its name.
func sum(h crypto.Hash, text string) []byte {
	switch h {
	case crypto.SHA384:
		s := sha512.Sum384([]byte(text))
		return s[:]
	case crypto.SHA512:
		s := sha512.Sum512([]byte(text))
		return s[:]
	}
	s := sha256.Sum256([]byte(text))
	return s[:]
}

func (f *forger) pkcs1(h crypto.Hash, text string) []byte {
	sig, err := rsa.SignPKCS1v15(nil, f.Private, h, sum(h, text))
	if err != nil {
		f.t.Fatalf("tokentest: sign: %v", err)
	}
	return sig
}

func (f *forger) pss(h crypto.Hash, text string) []byte {
	sig, err := rsa.SignPSS(rand.Reader, f.Private, h, sum(h, text), nil)
	if err != nil {
		f.t.Fatalf("tokentest: sign: %v", err)
	}
	return sig
}

// algorithms adds other algorithms, each signed as it says.
func (f *forger) algorithms() {
	const algorithm = "algorithm"
	alg := func(name string) string {
		return encode(f.members().With("alg", quote(name)).String()) + "." + encode(f.claims().String())
	}
	for _, none := range []string{"none", "None", "NONE", "nOnE", "none "} {
		f.add(algorithm, "alg "+quote(none)+" without a signature", alg(none)+".")
		f.add(algorithm, "alg "+quote(none)+" with one", Sign(f.t, f.Private, alg(none)))
	}
	der, err := x509.MarshalPKIXPublicKey(&f.Private.PublicKey)
	if err != nil {
		f.t.Fatalf("tokentest: encode the key: %v", err)
	}
	pemText := token.PublicPEM(&f.Private.PublicKey)
	for name, secret := range map[string][]byte{
		"the PEM": pemText, "the PEM without its last line feed": pemText[:len(pemText)-1], "the DER": der,
		"the PKCS #1 DER": x509.MarshalPKCS1PublicKey(&f.Private.PublicKey), "the JWK": []byte(onlyKey(f.set)),
		"the JWKS":    f.set.JWKS(),
		"the modulus": f.Private.N.Bytes(), "the kid": []byte(f.kid()), "nothing": {},
	} {
		f.add(algorithm, "HS256 keyed with "+name, f.sign(jwt.SigningMethodHS256, secret, alg("HS256")))
	}
	f.add(algorithm, "HS384 keyed with the PEM", f.sign(jwt.SigningMethodHS384, pemText, alg("HS384")))
	f.add(algorithm, "HS512 keyed with the PEM", f.sign(jwt.SigningMethodHS512, pemText, alg("HS512")))
	f.add("signature", "RS256 signed as HS256 with the PEM", f.sign(jwt.SigningMethodHS256, pemText, alg("RS256")))
	f.add(algorithm, "RS384", f.sign(jwt.SigningMethodRS384, f.Private, alg("RS384")))
	f.add(algorithm, "RS512", f.sign(jwt.SigningMethodRS512, f.Private, alg("RS512")))
	f.add(algorithm, "PS256", f.sign(jwt.SigningMethodPS256, f.Private, alg("PS256")))
	f.add(algorithm, "PS384", f.sign(jwt.SigningMethodPS384, f.Private, alg("PS384")))
	f.add(algorithm, "PS512", f.sign(jwt.SigningMethodPS512, f.Private, alg("PS512")))
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatalf("tokentest: make a key: %v", err)
	}
	f.add(algorithm, "ES256", f.sign(jwt.SigningMethodES256, curve, alg("ES256")))
	f.add(algorithm, "ES256 with the signature of zeros", alg("ES256")+"."+encode(strings.Repeat("\x00", 64)))
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.t.Fatalf("tokentest: make a key: %v", err)
	}
	f.add(algorithm, "EdDSA", f.sign(jwt.SigningMethodEdDSA, edwards, alg("EdDSA")))
	for _, name := range []string{"rs256", "Rs256", "RS256 ", " RS256", `RS256\u0000`, "R\u017f256", "RSA-OAEP", "RS1",
		"ES256K", ""} {
		f.add(algorithm, "alg "+quote(name)+" with an RS256 signature", Sign(f.t, f.Private, alg(name)))
	}
	f.header(algorithm, "alg missing", f.members().Without("alg").String())
	for _, value := range []string{"null", "256", "true", `["RS256"]`, `{"alg":"RS256"}`} {
		f.header("malformed", "alg "+value, f.members().With("alg", value).String())
	}
	f.header("malformed", "alg twice, RS256 last", `{"alg":"none",`+f.Header()[1:])
	f.header("malformed", "alg twice, none last", f.members().Plus("alg", `"none"`).String())
	f.header("malformed", "ALG beside alg", f.members().Plus("ALG", `"none"`).String())
	f.header("malformed", "ALG alone", f.members().Without("alg").Plus("ALG", `"RS256"`).String())
}

// sign returns text with a signature of any method.
func (f *forger) sign(method jwt.SigningMethod, key any, text string) string {
	sig, err := method.Sign(text, key)
	if err != nil {
		f.t.Fatalf("tokentest: sign %s: %v", method.Alg(), err)
	}
	return text + "." + encode(string(sig))
}
