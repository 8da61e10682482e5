package authsvc

import (
	"github.com/example/pillion/authsvc/throttle"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// Errors of credentials. "Invalid role" and "Invalid credentials" are the original's sentences.
var (
	ErrInvalidRole = fault.New(fault.Invalid, "invalid_role", "Invalid role").
			Hinting("The role must be user or raider.")
	ErrInvalidCredentials = fault.New(fault.Unauthenticated, "invalid_credentials", "Invalid credentials")
	ErrPending            = fault.New(fault.Forbidden, "account_pending",
		"Your account is waiting for approval. You can log in once it has been approved.")
)

// credentials is the body of POST /login and POST /register.
type credentials struct {
	Email    string `json:"email"`
	Password string `json:"password"`
	Role     string `json:"role"`
}

// roleOf returns the role that a request body names, or ErrInvalidRole. A rider may be spelled
// either way. Services do not log in.
func roleOf(name string) (token.Role, error) {
	switch name {
	case "user":
		return token.User, nil
	case "raider", "rider":
		return token.Rider, nil
	}
	return "", ErrInvalidRole
}

// ownerOf returns the owner of the counters for a typed email.
func ownerOf(typed string, role token.Role) throttle.Owner {
	if email, err := ParseEmail(typed); err == nil {
		typed = string(email)
	}
	return throttle.Owner{Email: typed, Role: role}
}
