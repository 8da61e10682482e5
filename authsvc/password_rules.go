package authsvc

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/example/pillion/internal/fault"
)

// The length of a password in characters (code points). There are no rules of composition, and
// nothing is cut off.
const (
	MinPassword = 8
	MaxPassword = 128
)

// Reasons why a password cannot be a new one, besides ErrPasswordCommon.
var (
	ErrPasswordTooShort = fault.New(fault.Invalid, "password_too_short",
		"The password is too short. It needs at least 8 characters.")
	ErrPasswordTooLong = fault.New(fault.Invalid, "password_too_long",
		"The password is too long. It may have at most 128 characters.")
	ErrPasswordBlank = fault.New(fault.Invalid, "password_blank",
		"The password is blank. Choose one with characters that can be seen.")
	ErrPasswordIsEmail = fault.New(fault.Invalid, "password_is_email",
		"The password is your email address, which others know. Choose another.")
)

// CheckNew returns why the password cannot be a new one of the account with that email, as typed:
// ErrPasswordTooShort, ErrPasswordTooLong, ErrPasswordBlank, ErrPasswordIsEmail or
// ErrPasswordCommon.
func (p *Hasher) CheckNew(password, email string) error {
	if utf8.RuneCountInString(password) < MinPassword {
		return ErrPasswordTooShort
	}
	if err := p.CheckLength(password); err != nil {
		return err
	}
	switch {
	case !strings.ContainsFunc(password, visible):
		return ErrPasswordBlank
	case sameEmail(password, email):
		return ErrPasswordIsEmail
	case p.isCommon(password):
		return ErrPasswordCommon
	}
	return nil
}

func visible(r rune) bool { return unicode.IsGraphic(r) && !unicode.IsSpace(r) }

// sameEmail reports whether both texts spell one address.
func sameEmail(a, b string) bool {
	one, err := ParseEmail(a)
	other, otherErr := ParseEmail(b)
	return err == nil && otherErr == nil && one == other
}

// CheckLength returns ErrPasswordTooLong for a password that no account can have, and which is
// therefore not worth a hash.
func (p *Hasher) CheckLength(password string) error {
	if utf8.RuneCountInString(password) > MaxPassword {
		return ErrPasswordTooLong
	}
	return nil
}
