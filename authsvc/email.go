package authsvc

import (
	"strings"
	"unicode/utf8"

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
	case strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }):
		return "", ErrInvalidEmail.Saying(
			"The email address may contain only unaccented letters, digits and ASCII symbols.")
	case strings.Count(s, "@") != 1:
		return "", ErrInvalidEmail.Saying("The email address must have exactly one @, as in name@example.com.")
	}
	local, domain, _ := strings.Cut(s, "@")
	if !isLocal(local) || !isDomain(domain) {
		return "", ErrInvalidEmail
	}
	return Email(strings.ToLower(s)), nil // s is ASCII
}

// Masked returns as much of the address as a log may show: j***@example.com.
func (e Email) Masked() string {
	local, domain, found := strings.Cut(string(e), "@")
	if !found || local == "" {
		return "***"
	}
	return local[:1] + "***@" + domain
}

// isLocal reports whether s is a dot-atom (RFC 5322 section 3.2.3). It contains neither spaces
// nor control characters.
func isLocal(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" || strings.Trim(atom, alphanumeric+"!#$%&'*+-/=?^_`{|}~") != "" {
			return false
		}
	}
	return len(s) <= maxLocal
}

// isDomain reports whether s is a host name (RFC 1123 section 2.1). One label is enough, as in
// john@localhost.
func isDomain(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, alphanumeric+"-") != "" {
			return false
		}
	}
	return true
}

const alphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
