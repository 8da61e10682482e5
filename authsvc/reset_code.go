package authsvc

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strings"
	"time"
)

// ResetLife is how long a reset code is good.
const ResetLife = time.Hour

// resetAlphabet has 32 characters that are easy to tell apart on paper and on the telephone: it
// lacks i, l, o and u.
const resetAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// newResetCode returns 80 random bits in four groups. Even at a million tries a second an hour is
// too short to find a code, and the throttle allows far fewer.
func newResetCode() string {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails: crypto/rand ends the program instead
	var b strings.Builder
	for i, r := range random {
		if i > 0 && i%4 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(resetAlphabet[r%32]) // 256 is a multiple of 32
	}
	return b.String()
}

// resetHash returns the stored form of a code for one account. The code may be typed in capitals,
// without its hyphens, or with spaces. It has enough random bits for a plain hash.
func resetHash(account, code string) string {
	plain := strings.NewReplacer("-", "", " ", "").Replace(strings.ToLower(code))
	sum := sha256.Sum256([]byte(account + "\x00" + plain))
	return base64.RawStdEncoding.EncodeToString(sum[:])
}

// takesCode reports whether the code resets the account's password now.
func (a Account) takesCode(code string, now time.Time) bool {
	same := subtle.ConstantTimeCompare([]byte(resetHash(a.ID, code)), []byte(a.Reset)) == 1
	return same && a.Reset != "" && now.Before(a.ResetUntil)
}
