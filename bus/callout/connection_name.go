package callout

import (
	"strconv"
	"strings"
	"time"

	"github.com/example/pillion/token"
)

// A connectionName is the name by which a server knows the connection of a client with a token. It
// contains what later checks of the token need, but not the token itself.
type connectionName struct {
	role             token.Role
	subject, session string
	issued           time.Time
	key              string
}

func connectionNameOf(c token.Claims) connectionName {
	return connectionName{c.Role, c.Subject, c.Session, c.IssuedAt, c.KeyID}
}

// String returns the name in the form <role>.<sub>.<sid>.<iat>.<kid>. None of its parts contains a
// dot.
func (n connectionName) String() string {
	issued := strconv.FormatInt(n.issued.Unix(), 10)
	return strings.Join([]string{string(n.role), n.subject, n.session, issued, n.key}, ".")
}

// parseConnectionName parses what String returns. ok is false for the name of a client with a key.
func parseConnectionName(name string) (n connectionName, ok bool) {
	part := strings.Split(name, ".")
	if len(part) != 5 {
		return connectionName{}, false
	}
	issued, err := strconv.ParseInt(part[3], 10, 64)
	if err != nil {
		return connectionName{}, false
	}
	return connectionName{token.Role(part[0]), part[1], part[2], time.Unix(issued, 0).UTC(), part[4]}, true
}

// invalidated reports whether a token that was valid is no longer: it, or the key that signed it,
// was revoked, or the key was removed.
func (c *Callout) invalidated(n connectionName) bool {
	if _, revoked := c.Revocations.Revoked(n.subject, n.session, n.issued); revoked {
		return true
	}
	set, _, err := c.Keys.KeySet()
	if err != nil {
		return false // closing connections without knowing the keys would help nobody
	}
	key, ok := set.Lookup(n.key)
	return !ok || !key.CompromisedAt.IsZero()
}
