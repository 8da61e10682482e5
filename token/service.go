package token

import "crypto/sha256"

// ServiceID returns the sub of the tokens of one of our own processes, by its name, such as "usersvc". It looks like any other, and
// nobody else has it: those of accounts are random.
func ServiceID(name string) string {
	sum := sha256.Sum256([]byte("pillion service " + name))
	return identifiers.EncodeToString(sum[:16])
}
