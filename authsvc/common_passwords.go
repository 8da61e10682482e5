package authsvc

import (
	_ "embed" // for common_passwords.txt
	"strings"

	"github.com/example/pillion/internal/fault"
)

// ErrPasswordCommon refuses what everybody who guesses passwords tries first.
var ErrPasswordCommon = fault.New(fault.Invalid, "password_too_common",
	"The password is one of the commonest, which are tried first by those who guess. Please choose another one.")

// commonPasswords says in its first lines where it is from and how it is licensed.
//
//go:embed common_passwords.txt
var commonPasswords string

// readCommon returns the list of common passwords as a set. All of them are in lower case.
func readCommon() map[string]struct{} {
	_, list, _ := strings.Cut(commonPasswords, "\n\n") // the end of what it says of itself
	set := make(map[string]struct{}, 3000)
	for line := range strings.Lines(list) {
		set[strings.TrimSuffix(line, "\n")] = struct{}{}
	}
	return set
}

// isCommon reports whether password is on the list, in any case: PassWord is as easily guessed as password.
func (p *Hasher) isCommon(password string) bool {
	_, found := p.common[strings.ToLower(canonical(password))]
	return found
}
