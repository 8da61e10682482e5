package authsvc

import (
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// What a client is told. The first two are the original's sentences, to the letter.
var (
	ErrInvalidRole        = fault.New(fault.Invalid, "invalid_role", "Invalid role")
	ErrPending            = fault.New(fault.Forbidden, "account_pending", "Your account waits for approval. You can log in as soon as it has been approved.")
	ErrInvalidCredentials = fault.New(fault.Unauthenticated, "invalid_credentials", "Invalid credentials")
)

// credentials is the body of POST /login and of POST /register.
type credentials struct {
	Email    string `json:"email"`
	Password string `json:"password"`
	Role     string `json:"role"`
}

// roleOf returns the role that a body names. Our rider has the original API's spelling everywhere but here, where both are taken.
// Nobody logs in as a service.
func roleOf(name string) (token.Role, error) {
	switch name {
	case "user":
		return token.User, nil
	case "raider", "rider":
		return token.Rider, nil
	}
	return "", ErrInvalidRole
}
