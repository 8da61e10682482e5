package authsvc

import (
	"strings"

	"github.com/example/pillion/internal/fault"
)

// MaxEmail is the longest email address in bytes: what fits into a mail path (RFC 5321 section
// 4.5.3.1.3).
const MaxEmail = 254

const (
	maxLocal = 64 // bytes before the @ (RFC 5321 section 4.5.3.1.1)
	maxLabel = 63 // bytes between two dots of a domain (RFC 1035 section 2.3.4)
)

// ErrInvalidEmail refuses text that is no email address. Its sentence names what is wrong.
var ErrInvalidEmail = fault.New(fault.Invalid, "invalid_email",
	"This is not an email address. Give one like name@example.com.")

// An Email is an address in the spelling by which accounts are found: ASCII only, in lower case.
// Only ParseEmail makes one.
//
// Only A to Z are folded. Unicode also folds the Kelvin sign, U+212A, to k, which would turn
// another person's address into kim@example.com.
type Email string

// ParseEmail returns the address that s spells, or ErrInvalidEmail with a sentence that says what
// to correct. It ignores spaces around the address, which come from copying and from keyboards.
// It accepts a dot-atom before the @ and host name labels after it. It refuses quoted names,
// comments, address literals and display names, which other programs read in different ways.
func ParseEmail(s string) (Email, error) {
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		return "", ErrInvalidEmail.Saying("The email address is missing.")
	case len(s) > MaxEmail:
		return "", ErrInvalidEmail.Saying("The email address is too long. It may have at most 254 characters.")
	case !isASCII(s):
		return "", ErrInvalidEmail.Saying(
			"The email address may contain only unaccented letters, digits and ASCII symbols.")
	case strings.Count(s, "@") != 1:
		return "", ErrInvalidEmail.Saying("The email address must have exactly one @, as in name@example.com.")
	}
	local, domain, _ := strings.Cut(s, "@")
	if !isLocal(local) || !isDomain(domain) {
		return "", ErrInvalidEmail
	}
	return Email(foldASCII(s)), nil
}

// Masked returns as much of the address as a log may show: j***@example.com.
func (e Email) Masked() string {
	local, domain, found := strings.Cut(string(e), "@")
	if !found || local == "" {
		return "***"
	}
	return local[:1] + "***@" + domain
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func foldASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + ('a' - 'A')
		}
		return r
	}, s)
}

// isLocal reports whether s is a dot-atom (RFC 5322 section 3.2.3). It contains neither spaces
// nor control characters.
func isLocal(s string) bool {
	if len(s) > maxLocal {
		return false
	}
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return false
		}
		for i := range len(atom) {
			if c := atom[i]; !isAlphanumeric(c) && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", rune(c)) {
				return false
			}
		}
	}
	return true
}

// isDomain reports whether s is a host name (RFC 1123 section 2.1). One label is enough, as in
// john@localhost.
func isDomain(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !isAlphanumeric(c) && c != '-' {
				return false
			}
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
