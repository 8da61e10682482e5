package session

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"log/slog"
	"strconv"
	"strings"
)

const (
	secretSize = 32 // bytes: 256 bits
	tagSize    = 16 // bytes
	saltSize   = 32 // bytes
	idSize     = 26 // characters

	maxGeneration       = 999_999_999
	maxGenerationDigits = 9
)

// A Token buys a client its next access token, once. Its text is
//
//	<session>.<generation>.<64 characters of base64url: the secret, then the tag>
//
// The session's record has a hash of the secret. The tag is a MAC of the generation and the
// secret with the session's tag key. It tells an old token from a forged one: only an old token
// ends the session. Secret and tag are credentials, so String shows neither.
type Token struct {
	Session    string // an id
	Generation int

	secret [secretSize]byte
	tag    [tagSize]byte
}

// String returns what a log may show of the token.
func (p Token) String() string {
	return "refresh token " + strconv.Itoa(p.Generation) + " of session " + p.Session
}

// LogValue returns what slog shows of the token.
func (p Token) LogValue() slog.Value { return slog.StringValue(p.String()) }

// Text returns the token as its client gets it.
func (p Token) Text() string {
	both := append(p.secret[:len(p.secret):len(p.secret)], p.tag[:]...)
	return p.Session + "." + strconv.Itoa(p.Generation) + "." + base64.RawURLEncoding.EncodeToString(both)
}

// ParseToken is the inverse of Text. Each token has one spelling; anything else is ErrInvalidToken.
func ParseToken(s string) (Token, error) {
	t, ok := parse(s)
	if !ok {
		return Token{}, refuse(errNotAToken)
	}
	return t, nil
}

func parse(s string) (Token, bool) {
	const encoded = (secretSize + tagSize) * 4 / 3 // no bits are left over
	if len(s) > idSize+1+maxGenerationDigits+1+encoded {
		return Token{}, false
	}
	session, rest, _ := strings.Cut(s, ".")
	digits, both, _ := strings.Cut(rest, ".")
	if len(session) != idSize || strings.Trim(session, "abcdefghijklmnopqrstuvwxyz234567") != "" ||
		len(both) != encoded {
		return Token{}, false
	}
	generation, err := strconv.Atoi(digits)
	if err != nil || generation < 1 || generation > maxGeneration || strconv.Itoa(generation) != digits {
		return Token{}, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(both)
	if err != nil || len(raw) != secretSize+tagSize { // the decoder ignores line breaks
		return Token{}, false
	}
	p := Token{Session: session, Generation: generation}
	copy(p.secret[:], raw)
	copy(p.tag[:], raw[secretSize:])
	return p, true
}

// hash returns the stored form of the secret. The secret is random, so a plain hash is enough.
func (p Token) hash() [sha256.Size]byte { return sha256.Sum256(p.secret[:]) }

// successor returns the token of the next generation. The same salt gives the same token, so it
// can be given out again without being stored. Computing it takes both the token and the
// session's record.
func (p Token) successor(salt, tagKey [saltSize]byte) Token {
	next := Token{Session: p.Session, Generation: p.Generation + 1}
	h := hmac.New(sha256.New, salt[:])
	h.Write([]byte("pillion refresh successor\x00"))
	h.Write(p.secret[:])
	h.Sum(next.secret[:0])
	next.tag = next.tagWith(tagKey)
	return next
}

// tagWith returns the tag of this generation and secret in the session of that tag key.
func (p Token) tagWith(tagKey [saltSize]byte) (tag [tagSize]byte) {
	h := hmac.New(sha256.New, tagKey[:])
	h.Write([]byte("pillion refresh tag\x00"))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(p.Generation)))
	h.Write(p.secret[:])
	copy(tag[:], h.Sum(nil))
	return tag
}

// taggedWith reports whether the session of that tag key has ever given out the token.
func (p Token) taggedWith(tagKey [saltSize]byte) bool {
	want := p.tagWith(tagKey)
	return subtle.ConstantTimeCompare(p.tag[:], want[:]) == 1
}

// randomBytes returns random bytes.
func randomBytes() (b [32]byte) {
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return b
}
