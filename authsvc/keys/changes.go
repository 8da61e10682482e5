package keys

import (
	"time"

	"github.com/example/pillion/token"
)

// A Change is one thing that happened to the published set.
type Change struct {
	Key  string // kid; empty for the old rule
	What string // published, activated, retired, compromised, forgotten or old-rule-closed
}

// Changes returns how the set is differs from the set was, which may be nil. A key that was
// published and activated at once has two changes.
func Changes(was, is *token.KeySet) []Change {
	var changes []Change
	for _, k := range is.Keys() {
		var before token.Key
		known := false
		if was != nil {
			before, known = was.Lookup(k.ID)
		}
		if !known {
			changes = append(changes, Change{k.ID, "published"})
		}
		for _, t := range []struct {
			what    string
			was, is time.Time
		}{
			{"activated", before.ActiveFrom, k.ActiveFrom},
			{"retired", before.RetiredAt, k.RetiredAt},
			{"compromised", before.CompromisedAt, k.CompromisedAt},
		} {
			if !t.was.Equal(t.is) {
				changes = append(changes, Change{k.ID, t.what})
			}
		}
	}
	if was != nil {
		for _, k := range was.Keys() {
			if _, stays := is.Lookup(k.ID); !stays {
				changes = append(changes, Change{k.ID, "forgotten"})
			}
		}
		if until, closed := is.OldRuleUntil(); closed && was.CloseOldRule(until) != was {
			changes = append(changes, Change{What: "old-rule-closed"})
		}
	}
	return changes
}
