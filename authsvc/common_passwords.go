package authsvc

import (
	_ "embed" // for common_passwords.txt
	"strings"

	"github.com/example/pillion/internal/fault"
)

// ErrPasswordCommon refuses the passwords that attackers try first.
var ErrPasswordCommon = fault.New(fault.Invalid, "password_too_common",
	"This password is too common. Choose another.")

// commonPasswords is the list of common passwords. It begins with its source and its license.
//
//go:embed common_passwords.txt
var commonPasswords string

// readCommon returns the common passwords, which are all in lower case.
func readCommon() map[string]struct{} {
	_, list, _ := strings.Cut(commonPasswords, "\n\n") // the end of the license
	set := make(map[string]struct{}, 3000)
	for line := range strings.Lines(list) {
		set[strings.TrimSuffix(line, "\n")] = struct{}{}
	}
	return set
}

// isCommon reports whether the password is on the list in any case: PassWord is as easy to guess as
// password.
func (p *Hasher) isCommon(password string) bool {
	_, found := p.common[strings.ToLower(canonical(password))]
	return found
}
