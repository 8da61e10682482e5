// Package session keeps login sessions and their refresh tokens.
//
// Make a [Store] with [New]. [Store.Begin] stores a session and returns its first refresh token.
// To exchange a token for its successor, [Store.Use] it: load the session, decide whether its
// account may continue, and store the next generation. A second use of a token fails with
// ErrReused, except within a grace in which its client may have missed the answer. The package
// knows nothing of accounts and issues no access tokens.
package session

import (
	"cmp"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/example/pillion/token"
)

// Rules say how long a session lasts. Zero values take the defaults. A negative Idle or
// Grace turns the rule off.
type Rules struct {
	Life time.Duration // from login to end, in any case; at most MaxLife, which is the default
	Idle time.Duration // the longest time between two refreshes; default 72 h
	// Grace is how long a refresh may be repeated, because its answer may be lost; default 10 s.
	Grace time.Duration
}

// MaxLife is the longest life of a session. The bucket keeps records a little longer.
const MaxLife = 7 * 24 * time.Hour

const (
	defaultIdle  = 72 * time.Hour
	defaultGrace = 10 * time.Second
	maxGrace     = time.Minute
)

// withDefaults returns the complete rules, or an error that says what is wrong with them.
func (r Rules) withDefaults() (Rules, error) {
	r.Life = cmp.Or(r.Life, MaxLife)
	r.Idle = cmp.Or(r.Idle, defaultIdle)
	r.Grace = cmp.Or(r.Grace, defaultGrace)
	r.Idle, r.Grace = max(r.Idle, 0), max(r.Grace, 0)
	if r.Life < time.Second || r.Life > MaxLife {
		return Rules{}, fmt.Errorf("session: the life of a session is %v: give 1s to %v", r.Life, MaxLife)
	}
	if r.Grace > maxGrace {
		return Rules{}, fmt.Errorf("session: the grace of a refresh is %v: give at most %v", r.Grace, maxGrace)
	}
	return r, nil
}

// comeBack is how long a client that was told to try again may take to do so.
func (r Rules) comeBack() time.Duration {
	if r.Grace > 0 {
		return r.Grace
	}
	return defaultGrace
}

// An Owner is the account of a session.
type Owner struct {
	Account string     `json:"account"` // an id
	Email   string     `json:"email"`
	Role    token.Role `json:"role"`
	Epoch   int        `json:"era,omitempty"` // the account's session epoch when the session began
}

// A Session is the record of one login. Its refresh tokens have generations, of which one is
// current. All times are in UTC.
type Session struct {
	ID string `json:"id"` // the sid of its access tokens
	Owner
	Cookie bool      `json:"cookie,omitempty"` // its refresh tokens travel in cookies only
	Ends   time.Time `json:"ends"`
	state
}

// A state is the part of a session that only this package reads.
type state struct {
	Created time.Time `json:"created"`
	Rotated time.Time `json:"rotated"` // when the current generation was made

	Generation int     `json:"generation"`
	Current    bytes32 `json:"current"` // hash of the current secret
	Salt       bytes32 `json:"salt"`    // derives the current secret from the one before
	TagKey     bytes32 `json:"mark"`    // what the tags of its refresh tokens are made with

	// The generation of the last token that was used in time, and whose client may have missed the
	// answer; and when that client may use it again.
	Held      int       `json:"held,omitempty"`
	HeldUntil time.Time `json:"held_until,omitzero"`

	Ended time.Time `json:"ended,omitzero"` // early; such a record is deleted soon
	Why   string    `json:"why,omitempty"`  // it was ended
}

// bytes32 are stored as base64.
type bytes32 [32]byte

func (b bytes32) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, b[:]), nil
}

func (b *bytes32) UnmarshalText(text []byte) error {
	data, err := base64.StdEncoding.AppendDecode(nil, text)
	if copy(b[:], data); len(data) != len(b) {
		err = errors.Join(err, errors.New("it is not 32 bytes"))
	}
	return err
}

// A record is the stored form of a session.
type record struct {
	Version int `json:"v"`
	Session
}

const recordVersion = 1

// newSession returns a session and its first refresh token.
func newSession(id string, o Owner, cookie bool, now time.Time, life time.Duration) (Session, Token) {
	x := Session{
		ID: id, Owner: o, Cookie: cookie, Ends: now.Add(life),
		state: state{Created: now, Rotated: now, Generation: 1, Salt: randomBytes(), TagKey: randomBytes()},
	}
	first := Token{Session: id, Generation: 1, secret: randomBytes()}
	first.tag = first.tagWith(x.TagKey)
	x.Current = first.hash()
	return x, first
}

// next returns the session after the use of p, its current token, and the successor of p.
func (x Session) next(p Token, now time.Time) (Session, Token) {
	x.Salt = randomBytes() // new each time: an old token and this record together reveal nothing
	n := p.successor(x.Salt, x.TagKey)
	x.Generation, x.Current, x.Rotated = n.Generation, n.hash(), now
	return x, n
}

// A verdict says what a refresh token is good for.
type verdict uint8

const (
	forged  verdict = iota // the session never gave it out
	ended                  // the session was ended
	expired                // the session has reached its end, or was idle for too long
	// newer: its generation is newer than the record's, so the record is not the latest.
	newer
	current  // it may be used
	repeated // the token before the current one, again, within the grace
	reused   // an older token, or the one before after the grace
)

// judge says what p is good for in a request that arrived at a time.
func (s *Store) judge(x Session, p Token, at time.Time) verdict {
	graceEnd := s.grace.end(x, p.Generation)
	return x.judge(p, at, !graceEnd.IsZero() && !at.After(graceEnd), s.rules.Idle)
}

// judge says what p is good for in a request that arrived at a time. inTime says whether that is
// within the grace of the token before the current one. idle is 0 where there is no such limit.
func (x Session) judge(p Token, at time.Time, inTime bool, idle time.Duration) verdict {
	switch {
	case p.Session != x.ID || !p.taggedWith(x.TagKey):
		return forged
	case !x.Ended.IsZero():
		return ended
	case !at.Before(x.Ends) || idle > 0 && at.Sub(x.Rotated) > idle:
		return expired
	case p.Generation > x.Generation:
		return newer
	case p.Generation == x.Generation:
		if !equal(p.hash(), x.Current) {
			return forged
		}
		return current
	case p.Generation == x.Generation-1 && inTime && x.follows(p):
		return repeated
	}
	return reused
}

// follows reports whether the session's current token is the successor of p.
func (x Session) follows(p Token) bool {
	return equal(p.successor(x.Salt, x.TagKey).hash(), x.Current)
}

func equal(a, b [32]byte) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }

// encode returns the stored form of the session.
func (x Session) encode() ([]byte, error) {
	value, err := json.Marshal(record{recordVersion, x})
	if err != nil {
		return nil, fmt.Errorf("encode session: %w", err)
	}
	return value, nil
}

// decode reads the record of the session of that id.
func decode(id string, value []byte) (Session, error) {
	var r record
	if err := json.Unmarshal(value, &r); err != nil {
		return Session{}, fmt.Errorf("session record %s is broken: %w", id, err)
	}
	if r.Version != recordVersion {
		return Session{}, fmt.Errorf("session record %s has version %d, and this program reads %d", id, r.Version,
			recordVersion)
	}
	if r.ID != id || r.Account == "" || r.Generation < 1 || r.Current == (bytes32{}) || r.Salt == (bytes32{}) ||
		r.TagKey == (bytes32{}) {
		return Session{}, errors.New("session record " + id + " is incomplete")
	}
	return r.Session, nil
}
