package token_test

import (
	"crypto/rsa"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// vectors reads a file of Project Wycheproof's test vectors. They lie beside the project, not in
// it.
func vectors(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "shared", "vectors", name))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("Wycheproof's %s is not there: put it into shared/vectors beside the project's folder to run this test.", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

// RSA signatures with PKCS #1 v1.5, 2048 bits and SHA-256: all 259 as Wycheproof says. Two things
// to say to that:
//
//   - 8 is "acceptable": its ASN.1 lacks the NULL, which RFC 8017 appendix B.1 allows to accept.
//     We refuse it, because crypto/rsa compares with the one right encoding.
//   - 258 and 259 are valid, under keys with exponent 3. The signature layer agrees; our import
//     refuses such keys, so no token ever gets that far.
func TestWycheproofRSA(t *testing.T) {
	var file struct {
		NumberOfTests int
		TestGroups    []struct {
			PublicKey struct{ Modulus, PublicExponent string }
			Tests     []struct {
				TcID                      int
				Comment, Msg, Sig, Result string
			}
		}
	}
	vectors(t, "rsa_signature_2048_sha256_test.json", &file)
	n := 0
	for _, g := range file.TestGroups {
		key := tokentest.KeyOf(hexKey(t, g.PublicKey.Modulus, g.PublicKey.PublicExponent))
		_, err := token.NewKeySet(key)
		if refused := err != nil; refused != (key.Public.E == 3) {
			t.Errorf("the import of a key with exponent %d: %v", key.Public.E, err)
		}
		for _, tt := range g.Tests {
			n++
			accepted := token.VerifySignature(string(unhex(t, tt.Msg)), unhex(t, tt.Sig), key) == nil
			want := tt.Result == "valid"
			if tt.Result == "acceptable" && tt.TcID != 8 {
				t.Errorf("%d (%s) is acceptable, and nobody argued about it", tt.TcID, tt.Comment)
			}
			if accepted != want {
				t.Errorf("%d (%s) is %s, and accepted: %v", tt.TcID, tt.Comment, tt.Result, accepted)
			}
		}
	}
	if n != 259 || n != file.NumberOfTests {
		t.Errorf("%d cases, the file has %d", n, file.NumberOfTests)
	}
}

// JSON web signatures: all 401 as Wycheproof says, but for those of another algorithm than RS256,
// which are never accepted however valid (RFC 8725 section 3.1: one algorithm). They are counted
// below by the algorithm in their header. Their payloads are no claims and their headers have no
// typ, so this drives the form of a token, its signature and the import of its key.
//
// Three things of ours are not the vectors' subject and are put right before the import: a kid is
// to be the thumbprint, a key is to name its alg, and one that says neither use nor key_ops is
// given use=sig. Where a key does say what it is for, that stays: 353 and 355 have good signatures
// and are refused for it.
func TestWycheproofJWS(t *testing.T) {
	var file struct {
		NumberOfTests int
		TestGroups    []struct {
			Comment string
			Public  map[string]any
			Tests   []struct {
				TcID                 int
				Comment, JWS, Result string
			}
		}
	}
	vectors(t, "json_web_signature_test.json", &file)
	n, agreed := 0, 0
	exceptions := make(map[string]int)
	for _, g := range file.TestGroups {
		key, imported := importKey(t, g.Public)
		for _, tt := range g.Tests {
			n++
			header, err := token.VerifyCompact(tt.JWS, key)
			var h struct{ Alg string }
			if len(header) > 0 {
				_ = json.Unmarshal(header, &h) // a header that is no JSON has no alg
			}
			accepted := err == nil && h.Alg == "RS256" && imported
			switch {
			case tt.Result == "valid" && h.Alg != "RS256":
				exceptions[h.Alg]++
				if err == nil || accepted {
					t.Errorf("%d (%s, %s) is %s, and its signature is accepted as RS256", tt.TcID, g.Comment,
						tt.Comment, h.Alg)
				}
			case accepted != (tt.Result == "valid"):
				t.Errorf("%d (%s, %s) is %s, and accepted: %v (%v)", tt.TcID, g.Comment, tt.Comment, tt.Result,
					accepted, err)
			default:
				agreed++
			}
			if (tt.TcID == 353 || tt.TcID == 355) && (err != nil || imported) {
				t.Errorf("%d is to be refused for its key's purpose alone: %v", tt.TcID, err)
			}
		}
	}
	// Those without an algorithm are 372 and 373: HS256 too, with a stray "?" in the base64 that
	// Wycheproof leaves to the decoder (their comments: InvalidCharacterInserted) and that RFC 7515
	// section 2 does not allow.
	want := map[string]int{"": 2, "HS256": 8, "ES256": 2, "ES512": 2, "RS384": 4, "RS512": 4, "PS256": 6, "PS384": 6,
		"PS512": 4}
	if !maps.Equal(exceptions, want) {
		t.Errorf("valid with other algorithms are %v, want %v", exceptions, want)
	}
	if n != 401 || n != file.NumberOfTests || agreed != 401-38 {
		t.Errorf("%d cases, %d agreed; the file has %d", n, agreed, file.NumberOfTests)
	}
}

// importKey returns the key of a group, and whether our import takes it. For a group without an RSA
// key it is one of ours.
func importKey(t *testing.T, jwk map[string]any) (key token.Key, imported bool) {
	t.Helper()
	if jwk["kty"] != "RSA" {
		return tokentest.KeyOf(&tokentest.New(t).Private.PublicKey), false
	}
	key = tokentest.KeyOf(publicKey(t, jwk["n"].(string)))
	jwk["kid"] = key.ID
	if jwk["alg"] == nil {
		jwk["alg"] = "RS256"
	}
	if jwk["use"] == nil && jwk["key_ops"] == nil {
		jwk["use"] = "sig"
	}
	data, err := json.Marshal(map[string]any{"keys": []any{jwk}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = token.ParseJWKS(data)
	purpose := jwk["use"] == "enc" || jwk["key_ops"] != nil && strings.Contains(string(data), `"encrypt"`)
	if refused := err != nil; refused != (purpose || jwk["alg"] != "RS256") {
		t.Errorf("the import of %s: %v", data, err)
	}
	return key, err == nil
}

// hexKey returns a key of numbers in hexadecimal.
func hexKey(t *testing.T, modulus, exponent string) *rsa.PublicKey {
	t.Helper()
	e := new(big.Int).SetBytes(unhex(t, exponent))
	return &rsa.PublicKey{N: new(big.Int).SetBytes(unhex(t, modulus)), E: int(e.Int64())}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
