package authsvc

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/token"
)

// A SessionStore is the bucket that sessions are in: one key a session, its id. Reads must be the leader's. Failures other than those
// named are of kind fault.Unavailable, and then the outcome of a write is unknown.
type SessionStore interface {
	Get(ctx context.Context, key string) (value []byte, revision uint64, err error)                        // or bus.ErrNoKey
	Create(ctx context.Context, key string, value []byte) (revision uint64, err error)                     // or bus.ErrKeyExists
	Update(ctx context.Context, key string, value []byte, revision uint64) (newRevision uint64, err error) // or bus.ErrStale
	Delete(ctx context.Context, key string, revision uint64) error                                         // or bus.ErrStale
}

var _ SessionStore = (*bus.Bucket)(nil)

// SessionRules is how long a session lasts. Zero values of Life, Idle and Grace take the defaults; a negative Idle or Grace is off.
type SessionRules struct {
	Life  time.Duration // from login to its end, whatever happens; at most MaxSessionLife, which is the default
	Idle  time.Duration // from one refresh to the next, at most; default 72 h
	Grace time.Duration // how long after a refresh it may be asked for once more, because its answer got lost; default 10 s
}

// MaxSessionLife is the longest life of a session: the bucket keeps records a little longer than that.
const MaxSessionLife = 7 * 24 * time.Hour

const (
	defaultIdle  = 72 * time.Hour
	defaultGrace = 10 * time.Second
	maxGrace     = time.Minute
)

// withDefaults returns the rules that hold, or what is wrong with them.
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
		return SessionRules{}, fmt.Errorf("authsvc: the grace of a refresh is %v: give %v at most", r.Grace, maxGrace)
	}
	return r, nil
}

// comeBack is how long somebody may take to ask again who was told to.
func (r SessionRules) comeBack() time.Duration {
	if r.Grace > 0 {
		return r.Grace
	}
	return defaultGrace
}

// A session is what is kept of one login: the family of refresh tokens that come from it, of which one at a time is good.
type session struct {
	id      string // the sid of its access tokens
	account string // its id
	email   Email
	role    token.Role
	era     int  // of the account when it began
	cookie  bool // its tokens travel in cookies only

	created time.Time // UTC
	rotated time.Time // when the present generation was made, UTC
	ends    time.Time // UTC

	generation int
	current    [32]byte       // hash of the present secret
	salt       [saltSize]byte // what the present secret was derived with from the one before
	mark       [saltSize]byte // what its tokens are marked with

	heldGeneration int       // of the last token whose use arrived in time and was not answered
	heldUntil      time.Time // when its client may ask again, UTC

	ended time.Time // when it was ended before its time; it is on its way out
	why   string    // and why
}

type sessionRecord struct {
	Version    int        `json:"v"`
	ID         string     `json:"id"`
	Account    string     `json:"account"`
	Email      Email      `json:"email"`
	Role       token.Role `json:"role"`
	Era        int        `json:"era,omitempty"`
	Cookie     bool       `json:"cookie,omitempty"`
	Created    time.Time  `json:"created"`
	Rotated    time.Time  `json:"rotated"`
	Ends       time.Time  `json:"ends"`
	Generation int        `json:"generation"`
	Current    []byte     `json:"current"`
	Salt       []byte     `json:"salt"`
	Mark       []byte     `json:"mark"`
	Held       int        `json:"held,omitempty"` // a generation
	HeldUntil  time.Time  `json:"held_until,omitzero"`
	Ended      time.Time  `json:"ended,omitzero"`
	Why        string     `json:"why,omitempty"`
}

const sessionVersion = 1

// newSession returns a session of the account and its first token.
func newSession(id string, a Account, cookie bool, now time.Time, life time.Duration) (session, refreshToken) {
	x := session{
		id: id, account: a.ID, email: a.Email, role: a.Role, era: a.SessionEpoch, cookie: cookie,
		created: now, rotated: now, ends: now.Add(life), generation: 1, salt: randomBytes(), mark: randomBytes(),
	}
	first := refreshToken{session: id, generation: 1, secret: randomBytes()}
	first.tag = first.tagWith(x.mark)
	x.current = first.hash()
	return x, first
}

// next returns the session after the use of p, its present token, and the token after that.
func (x session) next(p refreshToken, now time.Time) (session, refreshToken) {
	x.salt = randomBytes() // a new one each time: an old token and this record together give away nothing
	n := p.successor(x.salt, x.mark)
	x.generation, x.current, x.rotated = n.generation, n.hash(), now
	return x, n
}

// A verdict is what a refresh token is good for.
type verdict uint8

const (
	forged   verdict = iota // this session never gave it out
	over                    // the session was ended
	expired                 // the session has reached its end, or was idle for too long
	ahead                   // of a later generation than the record, which therefore is not the latest
	present                 // the one that may be used
	repeated                // the one before, again, soon enough
	reused                  // an older one, or the one before too late
)

// judge says what p is good for in a request that arrived at that time. Where p is the token before the present one, it is
// repeated if that is in time, and reused if not.
func (x session) judge(p refreshToken, at time.Time, inTime bool, idle time.Duration) verdict {
	switch {
	case p.session != x.id || !p.marked(x.mark):
		return forged
	case !x.ended.IsZero():
		return over
	case !at.Before(x.ends) || idle > 0 && at.Sub(x.rotated) > idle:
		return expired
	case p.generation > x.generation:
		return ahead
	case p.generation == x.generation:
		if !equal(p.hash(), x.current) {
			return forged
		}
		return present
	case p.generation == x.generation-1 && inTime && x.follows(p):
		return repeated
	}
	return reused
}

// follows reports whether the session's present token was made from p.
func (x session) follows(p refreshToken) bool {
	return equal(p.successor(x.salt, x.mark).hash(), x.current)
}

func equal(a, b [32]byte) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }

func (x session) encode() ([]byte, error) {
	value, err := json.Marshal(sessionRecord{
		Version: sessionVersion, ID: x.id, Account: x.account, Email: x.email, Role: x.role, Era: x.era, Cookie: x.cookie,
		Created: x.created.UTC(), Rotated: x.rotated.UTC(), Ends: x.ends.UTC(), Generation: x.generation,
		Current: x.current[:], Salt: x.salt[:], Mark: x.mark[:], Held: x.heldGeneration, HeldUntil: x.heldUntil.UTC(), Ended: x.ended.UTC(), Why: x.why,
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
		id: r.ID, account: r.Account, email: r.Email, role: r.Role, era: r.Era, cookie: r.Cookie,
		created: r.Created, rotated: r.Rotated, ends: r.Ends, generation: r.Generation,
		heldGeneration: r.Held, heldUntil: r.HeldUntil, ended: r.Ended, why: r.Why,
	}
	if r.ID != id || r.Account == "" || r.Generation < 1 || len(r.Current) != len(x.current) || len(r.Salt) != saltSize || len(r.Mark) != saltSize {
		return session{}, errors.New("session record " + id + " is not whole")
	}
	copy(x.current[:], r.Current)
	copy(x.salt[:], r.Salt)
	copy(x.mark[:], r.Mark)
	return x, nil
}
