package token_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// BenchmarkVerify shows what a verification costs beside the bare rsa.VerifyPKCS1v15 that it cannot
// do without. The sub-benchmark ratio takes turns in short rounds, so that a machine that is busy
// now and then does not favour one of them, and reports the medians: uncached/bare is to be at most
// 1.4, bare/cached at least 40.
func BenchmarkVerify(b *testing.B) {
	w := newWorkload(b)
	b.Run("bareRSA", func(b *testing.B) {
		for b.Loop() {
			w.bare(b)
		}
	})
	b.Run("uncached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w.uncached(b)
		}
	})
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w.cached(b)
		}
	})
	b.Run("cachedParallel", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				verify(b, w.warm, w.tokens[i%len(w.tokens)])
			}
		})
	})
	b.Run("ratio", func(b *testing.B) {
		var dear, cheap []float64
		for b.Loop() {
			bare := lasting(20, func() { w.bare(b) })
			dear = append(dear, lasting(20, func() { w.uncached(b) })/bare)
			cheap = append(cheap, bare/lasting(800, func() { w.cached(b) })*40)
		}
		b.ReportMetric(median(dear), "uncached/bare")
		b.ReportMetric(median(cheap), "bare/cached")
		b.ReportMetric(0, "ns/op") // a round means nothing
	})
}

// A workload is many tokens of the usual size, a verifier that remembers them all and one that
// remembers next to none.
type workload struct {
	key          *rsa.PublicKey
	digest       [sha256.Size]byte
	signature    []byte
	tokens       []string
	next         int
	warm, forget *token.Verifier
}

func newWorkload(b *testing.B) *workload {
	b.Helper()
	a := tokentest.New(b)
	revoked := someRevocations(10000) // of others: nobody is spared the look-up
	w := &workload{
		key:    &a.Private.PublicKey,
		warm:   verifier(b, token.Config{Keys: a.Keys(), Revocations: revoked}),
		forget: verifier(b, token.Config{Keys: a.Keys(), Revocations: revoked, CacheSize: 1}),
	}
	issuer := a.Issuer(time.Hour)
	for range 64 {
		signed, _, err := issuer.Issue(token.Grant{Subject: tokentest.Ulla, Email: "ulla@example.com",
			Session: tokentest.Ulla, Role: token.User})
		if err != nil {
			b.Fatal(err)
		}
		w.tokens = append(w.tokens, signed)
		verify(b, w.warm, signed)
	}
	dot := strings.LastIndexByte(w.tokens[0], '.')
	w.digest = sha256.Sum256([]byte(w.tokens[0][:dot]))
	var err error
	if w.signature, err = base64.RawURLEncoding.DecodeString(w.tokens[0][dot+1:]); err != nil {
		b.Fatal(err)
	}
	return w
}

// someRevocations returns n revocations of sessions and as many of accounts, none of which any
// test's token has.
func someRevocations(n int) *token.RevocationSet {
	var s token.RevocationSet
	now := time.Now()
	for i := range n {
		s.Add(token.Revocation{Session: numbered('s', i), At: now})
		s.Add(token.Revocation{Subject: numbered('a', i), NotBefore: now, At: now})
	}
	s.Complete(now.Add(time.Hour)) // longer than any benchmark takes
	return &s
}

// numbered returns an identifier made of a letter and a number.
func numbered(letter byte, n int) string {
	digits := strings.NewReplacer("0", "y", "1", "z", "8", "x", "9", "w")
	return string(letter) + digits.Replace(fmt.Sprintf("%025d", n))
}

// bare verifies a signature of a digest that is there already, and nothing else.
func (w *workload) bare(b *testing.B) {
	if err := rsa.VerifyPKCS1v15(w.key, crypto.SHA256, w.digest[:], w.signature); err != nil {
		b.Fatal(err)
	}
}

func (w *workload) uncached(b *testing.B) { verify(b, w.forget, w.pick()) }
func (w *workload) cached(b *testing.B)   { verify(b, w.warm, w.pick()) }

// pick returns the next token, so that a cache of one entry never has it.
func (w *workload) pick() string {
	w.next = (w.next + 1) % len(w.tokens)
	return w.tokens[w.next]
}

func verify(b *testing.B, v *token.Verifier, raw string) {
	if _, err := v.Verify(b.Context(), raw); err != nil {
		b.Fatal(err)
	}
}

// lasting returns how long n calls of f last, in nanoseconds.
func lasting(n int, f func()) float64 {
	start := time.Now()
	for range n {
		f()
	}
	return float64(time.Since(start))
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}
