package callout

import (
	"strconv"
	"strings"
	"time"

	"github.com/example/pillion/token"
)

// A holder is the name under which a server has somebody who came with a token: enough of the token to tell later whether it is still good,
// and not the token.
type holder struct {
	role             token.Role
	subject, session string
	issued           time.Time
	key              string
}

func holderOf(c token.Claims) holder {
	return holder{c.Role, c.Subject, c.Session, c.IssuedAt, c.KeyID}
}

// String returns the name, such as user.<sub>.<sid>.<iat>.<kid>. None of its parts has a dot in it.
func (h holder) String() string {
	return strings.Join([]string{string(h.role), h.subject, h.session, strconv.FormatInt(h.issued.Unix(), 10), h.key}, ".")
}

// parseHolder reads what String returns. ok is false for a name of somebody who has a key.
func parseHolder(name string) (h holder, ok bool) {
	part := strings.Split(name, ".")
	if len(part) != 5 {
		return holder{}, false
	}
	issued, err := strconv.ParseInt(part[3], 10, 64)
	if err != nil {
		return holder{}, false
	}
	return holder{token.Role(part[0]), part[1], part[2], time.Unix(issued, 0).UTC(), part[4]}, true
}

// bad reports whether a token that was good is good no longer: it was taken back, or its key has gone.
func (c *Callout) bad(h holder) bool {
	if _, revoked := c.Revocations.Revoked(h.subject, h.session, h.issued); revoked {
		return true
	}
	set, _, err := c.Keys.KeySet()
	if err != nil {
		return false // nothing is known; let nobody go for that
	}
	key, ok := set.Lookup(h.key)
	return !ok || !key.CompromisedAt.IsZero()
}
