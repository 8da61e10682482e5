package token_test

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// rfcModulus is that of the example key of RFC 7638 section 3.1.
const rfcModulus = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64t" +
	"Z_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08q" +
	"NLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"

const rfcThumbprint = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"

func TestThumbprintOfTheRFC(t *testing.T) {
	if got := token.Thumbprint(publicKey(t, rfcModulus)); got != rfcThumbprint {
		t.Errorf("Thumbprint = %s, want %s", got, rfcThumbprint)
	}
	odd := publicKey(t, rfcModulus)
	odd.E = 3
	if got := token.Thumbprint(odd); got == rfcThumbprint || len(got) != 43 {
		t.Errorf("with another exponent it is %s", got)
	}
}

// publicKey returns a key with a modulus in base64url and the usual exponent.
func publicKey(t testing.TB, modulus string) *rsa.PublicKey {
	t.Helper()
	n, err := base64.RawURLEncoding.DecodeString(modulus)
	if err != nil {
		t.Fatal(err)
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}
}

// What we publish, byte for byte: others read it.
func TestGoldenKeySet(t *testing.T) {
	set, err := token.ParseJWKS(read(t, "golden.jwks.json"))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(set.JWKS()); got != string(read(t, "golden.jwks.json")) {
		t.Errorf("JWKS = %s", got)
	}
	active, _ := set.Active(time.Now())
	if got := string(token.PublicPEM(active.Public)); got != string(read(t, "golden.pem")) {
		t.Errorf("PublicPEM = %s", got)
	}
	block, rest := pem.Decode(token.PublicPEM(active.Public))
	if block == nil || block.Type != "PUBLIC KEY" || len(rest) > 0 {
		t.Fatal("it is not one PEM block PUBLIC KEY")
	}
	if parsed, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil || !active.Public.Equal(parsed) {
		t.Errorf("the PEM is another key: %v", err)
	}
}

// A key's life: next, active, retired, gone; the order says which is active, and all of it survives
// the wire.
func TestKeySet(t *testing.T) {
	a := tokentest.New(t)
	rfc := tokentest.KeyOf(publicKey(t, rfcModulus))
	one, two := tokentest.KeyOf(&a.Private.PublicKey), tokentest.KeyOf(&a.Other.PublicKey)
	retired := keyOf(one.Public, start)
	for _, tt := range []struct {
		name   string
		keys   []token.Key
		active string
	}{
		{"active alone", []token.Key{one}, one.ID},
		{"active and next", []token.Key{one, two}, one.ID},
		{"retired, active and next", []token.Key{retired, two, rfc}, two.ID},
		{"all retired", []token.Key{retired}, ""},
	} {
		set := keySet(t, tt.keys...)
		wire, err := token.ParseJWKS(set.JWKS())
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		for _, s := range []*token.KeySet{set, wire} {
			active, ok := s.Active(time.Now())
			if active.ID != tt.active || ok != (tt.active != "") {
				t.Errorf("%s: active is %q", tt.name, active.ID)
			}
			if !reflect.DeepEqual(s.Keys(), tt.keys) {
				t.Errorf("%s: Keys = %v", tt.name, s.Keys())
			}
			for _, k := range tt.keys {
				if got, ok := s.Lookup(k.ID); !ok || !reflect.DeepEqual(got, k) {
					t.Errorf("%s: Lookup(%s) = %v, %v", tt.name, k.ID, got, ok)
				}
			}
			if got, ok := s.Lookup("AAAA"); ok || got != (token.Key{}) {
				t.Errorf("%s: a key that is not there is found", tt.name)
			}
		}
		if string(wire.JWKS()) != string(set.JWKS()) {
			t.Errorf("%s: the text of a set read back differs", tt.name)
		}
	}
	inIndia := keyOf(one.Public, start.Add(999*time.Millisecond).In(time.FixedZone("UTC+5:30", 19800)))
	if got := keySet(t, inIndia).Keys()[0]; !reflect.DeepEqual(got, retired) {
		t.Errorf("a retirement with a fraction, in another zone, is %s", got.RetiredAt)
	}
	if text := string(keySet(t, retired).JWKS()); !strings.Contains(text,
		fmt.Sprintf(`"retired_at":%d}`, start.Unix())) {
		t.Errorf("the retirement is not on the wire: %s", text)
	}
}

// What a caller does to the keys it gave or got does not change a set.
func TestKeySetIsImmutable(t *testing.T) {
	pub := publicKey(t, rfcModulus)
	keys := []token.Key{tokentest.KeyOf(pub)}
	set := keySet(t, keys...)
	before := string(set.JWKS())
	pub.N.SetInt64(15)
	keys[0].ID = "other"
	set.Keys()[0].RetiredAt = start
	if got := string(set.JWKS()); got != before {
		t.Errorf("the set changed to %s", got)
	}
}

func TestNewKeySetRefuses(t *testing.T) {
	good := publicKey(t, rfcModulus)
	with := func(change func(*rsa.PublicKey)) token.Key {
		pub := publicKey(t, rfcModulus)
		change(pub)
		return tokentest.KeyOf(pub)
	}
	for _, tt := range []struct {
		name, says string
		keys       []token.Key
	}{
		{"no key", "no key", nil},
		{"no public key", "no public key", []token.Key{{ID: rfcThumbprint}}},
		{"no modulus", "no public key", []token.Key{{ID: rfcThumbprint, Public: &rsa.PublicKey{E: 65537}}}},
		{"zero", "odd", []token.Key{with(func(k *rsa.PublicKey) { k.N.SetInt64(0) })}},
		{"even", "odd", []token.Key{with(func(k *rsa.PublicKey) { k.N.SetBit(k.N, 0, 0) })}},
		{"2047 bits", "2047", []token.Key{with(func(k *rsa.PublicKey) { k.N.SetBit(k.N, 2047, 0) })}},
		{"4097 bits", "4097", []token.Key{with(func(k *rsa.PublicKey) { k.N.SetBit(k.N, 4096, 1) })}},
		{"exponent 3", "exponent", []token.Key{with(func(k *rsa.PublicKey) { k.E = 3 })}},
		{"exponent 1", "exponent", []token.Key{with(func(k *rsa.PublicKey) { k.E = 1 })}},
		{"no id", "thumbprint", []token.Key{{Public: good}}},
		{"another id", "thumbprint", []token.Key{{ID: strings.Repeat("A", 43), Public: good}}},
		{"twice", "twice", []token.Key{tokentest.KeyOf(good), tokentest.KeyOf(good)}},
		{"twice, once retired", "twice", []token.Key{tokentest.KeyOf(good), keyOf(good, start)}},
		{"retired before 1970", "out of range", []token.Key{keyOf(good, time.Unix(-1, 0))}},
		{"retired in the year 3000", "out of range", []token.Key{keyOf(good, start.AddDate(975, 0, 0))}},
		{"257 keys", "257", make([]token.Key, 257)},
	} {
		set, err := token.NewKeySet(tt.keys...)
		if set != nil || !errors.Is(err, token.ErrKeySet) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want ErrKeySet that says %q", tt.name, err, tt.says)
		}
	}
	if _, err := token.NewKeySet(with(func(k *rsa.PublicKey) { k.N.SetBit(k.N, 4095, 1) })); err != nil {
		t.Errorf("4096 bits: %v", err)
	}
}

// The strict import of SECURITY.md section 1.
func TestParseJWKS(t *testing.T) {
	good := tokentest.Members{
		{Name: "kty", Value: `"RSA"`}, {Name: "use", Value: `"sig"`}, {Name: "alg", Value: `"RS256"`},
		{Name: "kid", Value: `"` + rfcThumbprint + `"`}, {Name: "n", Value: `"` + rfcModulus + `"`}, {Name: "e", Value: `"AQAB"`},
	}
	set := func(keys ...fmt.Stringer) string {
		texts := make([]string, len(keys))
		for i, k := range keys {
			texts[i] = k.String()
		}
		return `{"keys":[` + strings.Join(texts, ",") + `]}`
	}
	const taken = ""
	for _, tt := range []struct{ name, text, says string }{
		{"as we write it", set(good), taken},
		{"key_ops for use", set(good.Without("use").Plus("key_ops", `["verify"]`)), taken},
		{"key_ops and use", set(good.Plus("key_ops", `["verify"]`)), taken},
		{"retired", set(good.Plus("retired_at", "1764000000")), taken},
		{"retired in 1970", set(good.Plus("retired_at", "0")), taken},
		{"members without a meaning", set(good.Plus("x5u", `"http://127.0.0.1:9/"`).Plus("x5c", `["AAAA"]`).Plus("comment", "{}")), taken},
		{"members around it", `{"issuer":"x","keys":[` + good.String() + `],"more":[1]}`, taken},
		{"white space", " " + strings.ReplaceAll(set(good), ",", "\n,\t") + "\n", taken},

		{"empty", "", "JSON"},
		{"no keys", `{}`, "no key"},
		{"keys empty", `{"keys":[]}`, "no key"},
		{"keys null", `{"keys":null}`, "array"},
		{"keys an object", `{"keys":{}}`, "array"},
		{"an array", `[` + good.String() + `]`, "object"},
		{"one key without its set", good.String(), "no key"},
		{"keys twice", `{"keys":[` + good.String() + `],"keys":[]}`, "twice"},
		{"KEYS beside keys", `{"keys":[` + good.String() + `],"KEYS":[]}`, "case"},
		{"something behind it", set(good) + "x", "follows"},
		{"another set behind it", set(good) + set(good), "follows"},
		{"not closed", strings.TrimSuffix(set(good), "}"), "JSON"},
		{"a comma too many", `{"keys":[` + good.String() + `,]}`, "JSON"},
		{"a key that is null", `{"keys":[null]}`, "object"},
		{"a key that is no object", `{"keys":["x"]}`, "object"},
		{"256 KiB", set(good.Plus("x", `"`+strings.Repeat("x", 256<<10)+`"`)), "256 KiB"},
		{"not UTF-8", set(good.Plus("x", "\"\xff\"")), "JSON"},
		{"a good key and a bad one", set(good, good.With("kty", `"EC"`)), "key 2"},

		{"kty EC", set(good.With("kty", `"EC"`)), "kty"},
		{"kty oct", set(good.With("kty", `"oct"`).Plus("k", `"AAAA"`)), "private"},
		{"kty rsa", set(good.With("kty", `"rsa"`)), "kty"},
		{"kty missing", set(good.Without("kty")), "kty"},
		{"use enc", set(good.With("use", `"enc"`)), "use"},
		{"use empty", set(good.With("use", `""`)), "use"},
		{"use null", set(good.With("use", "null")), "string"},
		{"neither use nor key_ops", set(good.Without("use")), "use"},
		{"key_ops sign", set(good.Plus("key_ops", `["sign"]`)), "key_ops"},
		{"key_ops sign and verify", set(good.Plus("key_ops", `["verify","sign"]`)), "key_ops"},
		{"key_ops encrypt without use", set(good.Without("use").Plus("key_ops", `["encrypt"]`)), "key_ops"},
		{"key_ops empty", set(good.Plus("key_ops", `[]`)), "key_ops"},
		{"key_ops twice verify", set(good.Plus("key_ops", `["verify","verify"]`)), "key_ops"},
		{"key_ops a string", set(good.Plus("key_ops", `"verify"`)), "array"},
		{"alg RS384", set(good.With("alg", `"RS384"`)), "alg"},
		{"alg PS256", set(good.With("alg", `"PS256"`)), "alg"},
		{"alg none", set(good.With("alg", `"none"`)), "alg"},
		{"alg missing", set(good.Without("alg")), "alg"},
		{"kid missing", set(good.Without("kid")), "thumbprint"},
		{"kid of another key", set(good.With("kid", `"`+strings.Repeat("A", 43)+`"`)), "thumbprint"},
		{"kid a number", set(good.With("kid", "1")), "string"},
		{"kid twice", set(good, good), "twice"},
		{"a member twice", set(good.Plus("kid", `"`+rfcThumbprint+`"`)), "twice"},
		{"KID beside kid", set(good.Plus("KID", `"x"`)), "case"},
		{"retired_at a string", set(good.Plus("retired_at", `"1764000000"`)), "time"},
		{"retired_at a float", set(good.Plus("retired_at", "1764000000.5")), "time"},
		{"retired_at with an exponent", set(good.Plus("retired_at", "1e9")), "time"},
		{"retired_at with another exponent", set(good.Plus("retired_at", "1E9")), "time"},
		{"retired_at negative", set(good.Plus("retired_at", "-1")), "time"},
		{"retired_at null", set(good.Plus("retired_at", "null")), "time"},
		{"e 3", set(good.With("e", `"Aw"`)), "exponent"},
		{"e with a leading zero", set(good.With("e", `"AAEAAQ"`)), "exponent"},
		{"e padded", set(good.With("e", `"AQAB=="`)), "exponent"},
		{"e a number", set(good.With("e", "65537")), "string"},
		{"e missing", set(good.Without("e")), "exponent"},
		{"n missing", set(good.Without("n")), "modulus"},
		{"n empty", set(good.With("n", `""`)), "modulus"},
		{"n zero", set(good.With("n", `"AA"`)), "modulus"},
		{"n with a leading zero", set(good.With("n", `"`+withZero(t)+`"`)), "modulus"},
		{"n padded", set(good.With("n", `"`+rfcModulus+`=="`)), "modulus"},
		{"n with a line break", set(good.With("n", `"`+rfcModulus[:9]+`\n`+rfcModulus[9:]+`"`)), "modulus"},
		{"n with unused bits", set(good.With("n", `"`+rfcModulus[:341]+`x"`)), "modulus"},
		{"n in the standard alphabet", set(good.With("n", `"`+strings.ReplaceAll(rfcModulus, "_", "/")+`"`)), "modulus"},
		{"n of 1024 bits", set(good.With("n", `"`+rfcModulus[:168]+`_w"`)), "1016"},
		{"n even", set(good.With("n", `"`+rfcModulus[:340]+`gg"`)), "odd"},
	} {
		got, err := token.ParseJWKS([]byte(tt.text))
		if tt.says == taken {
			if err != nil || len(got.Keys()) != 1 {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if got != nil || !errors.Is(err, token.ErrKeySet) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want ErrKeySet that says %q", tt.name, err, tt.says)
		}
	}
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "D"} {
		_, err := token.ParseJWKS([]byte(set(good.Plus(private, `"AAAA"`))))
		if !errors.Is(err, token.ErrKeySet) {
			t.Errorf("a key with its private %s: %v", private, err)
		}
	}
}

// withZero returns the modulus with a zero byte before it.
func withZero(t *testing.T) string {
	t.Helper()
	return base64.RawURLEncoding.EncodeToString(append([]byte{0}, publicKey(t, rfcModulus).N.Bytes()...))
}

// As many keys as a set may have, of the greatest size, can be read back.
func TestLargestKeySet(t *testing.T) {
	keys := make([]token.Key, token.MaxKeys)
	for i := range keys {
		n := new(big.Int).Lsh(big.NewInt(1), 4095)
		keys[i] = keyOf(&rsa.PublicKey{N: n.Add(n, big.NewInt(int64(2*i+1))), E: 65537}, start)
	}
	set, err := token.ParseJWKS(keySet(t, keys...).JWKS())
	if err != nil || len(set.Keys()) != token.MaxKeys {
		t.Errorf("the most keys of 4096 bits: %v", err)
	}
}

// FuzzParseJWKS: what is taken is good JSON to others too, has only allowed keys, and survives
// being written.
func FuzzParseJWKS(f *testing.F) {
	f.Add(read(f, "golden.jwks.json"))
	f.Add([]byte(`{"keys":[{"kty":"RSA","use":"sig","key_ops":["verify"],"alg":"RS256","kid":"` + rfcThumbprint +
		`","n":"` + rfcModulus +
		`","e":"AQAB","retired_at":1764000000,"x":[1,{"y":null}]}]}`))
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := token.ParseJWKS(data)
		if err != nil {
			if set != nil || !errors.Is(err, token.ErrKeySet) {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		if !json.Valid(data) {
			t.Error("it is no JSON")
		}
		for _, k := range set.Keys() {
			if k.ID != token.Thumbprint(k.Public) || k.Public.N.BitLen() < 2048 || k.Public.E != 65537 {
				t.Errorf("it has the key %+v", k)
			}
		}
		again, err := token.ParseJWKS(set.JWKS())
		if err != nil || !reflect.DeepEqual(again, set) {
			t.Errorf("written and read again: %v", err)
		}
	})
}
