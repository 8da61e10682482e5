package authsvc

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

// A refreshToken is what a client gives for its next access token, once. Written out it is
//
//	<session>.<generation>.<64 characters of base64url: the secret, then the tag>
//
// The secret is what the session's record knows the hash of. The tag is the session's own mark on a token of this generation, by which
// a token that was given out long ago is told from one that somebody made up: only the first ends the session. Both sides of a
// token are credentials, and String shows neither.
type refreshToken struct {
	session    string
	generation int
	secret     [secretSize]byte
	tag        [tagSize]byte
}

// String shows no more than may be in a log.
func (p refreshToken) String() string {
	return "refresh token " + strconv.Itoa(p.generation) + " of session " + p.session
}

// LogValue is what slog shows of a token.
func (p refreshToken) LogValue() slog.Value { return slog.StringValue(p.String()) }

// text returns the token as its client keeps it.
func (p refreshToken) text() string {
	both := append(p.secret[:len(p.secret):len(p.secret)], p.tag[:]...)
	return p.session + "." + strconv.Itoa(p.generation) + "." + base64.RawURLEncoding.EncodeToString(both)
}

// parseRefreshToken is the inverse of text: each token has one spelling.
func parseRefreshToken(s string) (refreshToken, bool) {
	const encoded = (secretSize + tagSize) * 4 / 3 // no bits are left over
	if len(s) > idSize+1+maxGenerationDigits+1+encoded {
		return refreshToken{}, false
	}
	session, rest, _ := strings.Cut(s, ".")
	digits, both, _ := strings.Cut(rest, ".")
	if len(session) != idSize || strings.Trim(session, "abcdefghijklmnopqrstuvwxyz234567") != "" || len(both) != encoded {
		return refreshToken{}, false
	}
	generation, err := strconv.Atoi(digits)
	if err != nil || generation < 1 || generation > maxGeneration || strconv.Itoa(generation) != digits {
		return refreshToken{}, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(both)
	if err != nil || len(raw) != secretSize+tagSize { // the decoder passes over line breaks
		return refreshToken{}, false
	}
	p := refreshToken{session: session, generation: generation}
	copy(p.secret[:], raw)
	copy(p.tag[:], raw[secretSize:])
	return p, true
}

// hash returns what is stored of the secret. A plain hash will do: the secret is random, and cannot be guessed.
func (p refreshToken) hash() [sha256.Size]byte { return sha256.Sum256(p.secret[:]) }

// successor returns the token of the next generation: the same one whenever it is computed with the same salt, so that it need not be
// stored to be given out again. Who has only the record cannot compute it, and who has only the token neither.
func (p refreshToken) successor(salt [saltSize]byte, mark [saltSize]byte) refreshToken {
	next := refreshToken{session: p.session, generation: p.generation + 1}
	h := hmac.New(sha256.New, salt[:])
	h.Write([]byte("pillion refresh successor\x00"))
	h.Write(p.secret[:])
	h.Sum(next.secret[:0])
	next.tag = next.tagWith(mark)
	return next
}

// tagWith returns the tag that a token of this generation and secret has in the session of that mark.
func (p refreshToken) tagWith(mark [saltSize]byte) (tag [tagSize]byte) {
	h := hmac.New(sha256.New, mark[:])
	h.Write([]byte("pillion refresh tag\x00"))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(p.generation)))
	h.Write(p.secret[:])
	copy(tag[:], h.Sum(nil))
	return tag
}

// marked reports whether the token was given out by the session of that mark, ever.
func (p refreshToken) marked(mark [saltSize]byte) bool {
	want := p.tagWith(mark)
	return subtle.ConstantTimeCompare(p.tag[:], want[:]) == 1
}

// randomBytes returns new random bytes. It ends the program when the system has none, as crypto/rand does.
func randomBytes() (b [32]byte) {
	_, _ = rand.Read(b[:])
	return b
}
