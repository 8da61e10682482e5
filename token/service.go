package token

import "crypto/sha256"

// ServiceID returns the sub in the tokens of a service, by the service's name, such as "usersvc".
// It has the form of an account's id, and no account has it, because those are random.
func ServiceID(name string) string {
	sum := sha256.Sum256([]byte("pillion service " + name))
	return identifiers.EncodeToString(sum[:16])
}
