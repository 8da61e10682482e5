package authsvc

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/example/pillion/token"
)

// SessionRules say how long a session lasts. Zero values take the defaults. A negative Idle or Grace
// turns the rule off.
type SessionRules struct {
	Life  time.Duration // from login to end, in any case; at most MaxSessionLife, which is the default
	Idle  time.Duration // the longest time between two refreshes; default 72 h
	Grace time.Duration // how long after a refresh it may be repeated, because its answer was lost; default 10 s
}

// MaxSessionLife is the longest life of a session. The bucket keeps records a little longer.
const MaxSessionLife = 7 * 24 * time.Hour

const (
	defaultIdle  = 72 * time.Hour
	defaultGrace = 10 * time.Second
	maxGrace     = time.Minute
)

// withDefaults returns the complete rules, or an error that says what is wrong with them.
func (r SessionRules) withDefaults() (SessionRules, error) {
	if r.Life == 0 {
		r.Life = MaxSessionLife
	}
	if r.Idle == 0 {
		r.Idle = defaultIdle
	}
	if r.Grace == 0 {
		r.Grace = defaultGrace
	}
	r.Idle, r.Grace = max(r.Idle, 0), max(r.Grace, 0)
	if r.Life < time.Second || r.Life > MaxSessionLife {
		return SessionRules{}, fmt.Errorf("authsvc: the life of a session is %v: give 1s to %v", r.Life, MaxSessionLife)
	}
	if r.Grace > maxGrace {
		return SessionRules{}, fmt.Errorf("authsvc: the grace of a refresh is %v: give at most %v", r.Grace, maxGrace)
	}
	return r, nil
}

// comeBack is how long a client that was told to try again may take to do so.
func (r SessionRules) comeBack() time.Duration {
	if r.Grace > 0 {
		return r.Grace
	}
	return defaultGrace
}

// A session is the record of one login. Its refresh tokens have generations, of which one is current.
type session struct {
	id      string // the sid of its access tokens
	account string // an id
	email   Email
	role    token.Role
	epoch   int  // the account's session epoch when it began
	cookie  bool // its refresh tokens travel in cookies only

	created time.Time // UTC
	rotated time.Time // when the current generation was made, UTC
	ends    time.Time // UTC

	generation int
	current    [32]byte       // hash of the current secret
	salt       [saltSize]byte // what the current secret was derived with from the one before
	tagKey     [saltSize]byte // what the tags of its refresh tokens are made with

	heldGeneration int       // of the last token that was used in time, and whose client may have missed the answer
	heldUntil      time.Time // when that client may use it again, UTC

	ended time.Time // when it was ended before its time; such a record is deleted soon
	why   string    // and the reason
}

// sessionRecord is the stored form of a session.
type sessionRecord struct {
	Version    int        `json:"v"`
	ID         string     `json:"id"`
	Account    string     `json:"account"`
	Email      Email      `json:"email"`
	Role       token.Role `json:"role"`
	Epoch      int        `json:"era,omitempty"`
	Cookie     bool       `json:"cookie,omitempty"`
	Created    time.Time  `json:"created"`
	Rotated    time.Time  `json:"rotated"`
	Ends       time.Time  `json:"ends"`
	Generation int        `json:"generation"`
	Current    []byte     `json:"current"`
	Salt       []byte     `json:"salt"`
	TagKey     []byte     `json:"mark"`
	Held       int        `json:"held,omitempty"` // a generation
	HeldUntil  time.Time  `json:"held_until,omitzero"`
	Ended      time.Time  `json:"ended,omitzero"`
	Why        string     `json:"why,omitempty"`
}

const sessionVersion = 1

// newSession returns a session of the account and its first refresh token.
func newSession(id string, a Account, cookie bool, now time.Time, life time.Duration) (session, refreshToken) {
	x := session{
		id: id, account: a.ID, email: a.Email, role: a.Role, epoch: a.SessionEpoch, cookie: cookie,
		created: now, rotated: now, ends: now.Add(life), generation: 1, salt: randomBytes(), tagKey: randomBytes(),
	}
	first := refreshToken{session: id, generation: 1, secret: randomBytes()}
	first.tag = first.tagWith(x.tagKey)
	x.current = first.hash()
	return x, first
}

// next returns the session after the use of p, its current token, and the successor of p.
func (x session) next(p refreshToken, now time.Time) (session, refreshToken) {
	x.salt = randomBytes() // new each time: an old token and this record together reveal nothing
	n := p.successor(x.salt, x.tagKey)
	x.generation, x.current, x.rotated = n.generation, n.hash(), now
	return x, n
}

// A verdict says what a refresh token is good for.
type verdict uint8

const (
	forged   verdict = iota // the session never gave it out
	ended                   // the session was ended
	expired                 // the session has reached its end, or was idle for too long
	newer                   // its generation is newer than the record's, so the record is not the latest
	current                 // it may be used
	repeated                // the token before the current one, again, within the grace
	reused                  // an older token, or the one before after the grace
)

// judge says what p is good for in a request that arrived at a time.
func (s *sessions) judge(x session, p refreshToken, at time.Time) verdict {
	graceEnd := s.grace.end(x, p.generation)
	return x.judge(p, at, !graceEnd.IsZero() && !at.After(graceEnd), s.rules.Idle)
}

// judge says what p is good for in a request that arrived at a time. inTime says whether that is within
// the grace of the token before the current one. idle is 0 where there is no such limit.
func (x session) judge(p refreshToken, at time.Time, inTime bool, idle time.Duration) verdict {
	switch {
	case p.session != x.id || !p.taggedWith(x.tagKey):
		return forged
	case !x.ended.IsZero():
		return ended
	case !at.Before(x.ends) || idle > 0 && at.Sub(x.rotated) > idle:
		return expired
	case p.generation > x.generation:
		return newer
	case p.generation == x.generation:
		if !equal(p.hash(), x.current) {
			return forged
		}
		return current
	case p.generation == x.generation-1 && inTime && x.follows(p):
		return repeated
	}
	return reused
}

// follows reports whether the session's current token is the successor of p.
func (x session) follows(p refreshToken) bool {
	return equal(p.successor(x.salt, x.tagKey).hash(), x.current)
}

func equal(a, b [32]byte) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }

// encode returns the stored form of the session.
func (x session) encode() ([]byte, error) {
	value, err := json.Marshal(sessionRecord{
		Version: sessionVersion, ID: x.id, Account: x.account, Email: x.email, Role: x.role, Epoch: x.epoch, Cookie: x.cookie,
		Created: x.created.UTC(), Rotated: x.rotated.UTC(), Ends: x.ends.UTC(), Generation: x.generation,
		Current: x.current[:], Salt: x.salt[:], TagKey: x.tagKey[:], Held: x.heldGeneration, HeldUntil: x.heldUntil.UTC(),
		Ended: x.ended.UTC(), Why: x.why,
	})
	if err != nil {
		return nil, fmt.Errorf("encode session: %w", err)
	}
	return value, nil
}

// decodeSession reads the record of the session of that id.
func decodeSession(id string, value []byte) (session, error) {
	var r sessionRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return session{}, fmt.Errorf("session record %s is broken: %w", id, err)
	}
	if r.Version != sessionVersion {
		return session{}, fmt.Errorf("session record %s has version %d, and this program reads %d", id, r.Version, sessionVersion)
	}
	x := session{
		id: r.ID, account: r.Account, email: r.Email, role: r.Role, epoch: r.Epoch, cookie: r.Cookie,
		created: r.Created, rotated: r.Rotated, ends: r.Ends, generation: r.Generation,
		heldGeneration: r.Held, heldUntil: r.HeldUntil, ended: r.Ended, why: r.Why,
	}
	if r.ID != id || r.Account == "" || r.Generation < 1 || len(r.Current) != len(x.current) || len(r.Salt) != saltSize || len(r.TagKey) != saltSize {
		return session{}, errors.New("session record " + id + " is incomplete")
	}
	copy(x.current[:], r.Current)
	copy(x.salt[:], r.Salt)
	copy(x.tagKey[:], r.TagKey)
	return x, nil
}
