package authsvc

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// ErrLimited is that somebody has tried too often. It says nothing of whether there is such an account.
var ErrLimited = fault.New(fault.Exhausted, "too_many_attempts", "Too many attempts. Please wait a moment and try again.")

// An Allowance is how often something may be tried: some tries in a row, and then one at a time, with a wait before each that doubles.
// It is no lock: somebody else's tries can make the owner of an account wait for Most, and no longer.
type Allowance struct {
	Free  int           // tries that nobody waits for
	First time.Duration // the wait after those
	Most  time.Duration // what it grows to
	Quiet time.Duration // how long after the last try all is forgotten; more than Most
}

// Limits are the allowances of a Guard.
type Limits struct {
	// Account bounds the wrong passwords of one (email, role) pair, whether there is such an account or not. An address from which the
	// account has been logged in to lately has an allowance of its own, so that strangers cannot keep the owner out.
	Account Allowance
	// Address bounds the wrong passwords, refused refresh tokens and the like that come from one client's network.
	Address Allowance
	// Registrations bounds the accounts that one client's network makes.
	Registrations Allowance
	// Refreshes bounds how often the sessions of one account are refreshed.
	Refreshes Allowance
}

// DefaultLimits returns the limits where nobody says otherwise.
func DefaultLimits() Limits {
	return Limits{
		Account:       Allowance{Free: 5, First: time.Second, Most: 15 * time.Minute, Quiet: time.Hour},
		Address:       Allowance{Free: 100, First: time.Second, Most: time.Minute, Quiet: 10 * time.Minute},
		Registrations: Allowance{Free: 100, First: time.Second, Most: 5 * time.Minute, Quiet: time.Hour},
		Refreshes:     Allowance{Free: 100, First: time.Second, Most: time.Minute, Quiet: 10 * time.Minute},
	}
}

// GuardConfig is what a Guard needs. Counters and Familiar are required.
type GuardConfig struct {
	Counters Bucket // what is counted; keeps it for longer than any Quiet
	Familiar Bucket // from where accounts have been logged in to; forgets by itself
	Limits   Limits
	Now      func() time.Time // default: time.Now
}

// A Guard limits how often somebody may try. It counts in a store that all instances of the service share, and counts a try before
// anything is done about it: of any number of tries at once, on any number of instances, no more are let in than are allowed.
//
// Without its store it lets nobody in (kind fault.Unavailable).
type Guard struct {
	counters, familiar Bucket
	limits             Limits
	now                func() time.Time
	lanes              [lanes]*semaphore.Weighted // of tries for one key only one at a time goes to the store
}

// NewGuard returns a Guard, or all that is wrong with its configuration, joined.
func NewGuard(c GuardConfig) (*Guard, error) {
	var wrong []error
	if c.Counters == nil || c.Familiar == nil {
		wrong = append(wrong, errors.New("guard: Counters and Familiar are required"))
	}
	for name, a := range map[string]Allowance{
		"Account": c.Limits.Account, "Address": c.Limits.Address, "Registrations": c.Limits.Registrations, "Refreshes": c.Limits.Refreshes,
	} {
		if a.Free < 1 || a.First <= 0 || a.Most < a.First || a.Quiet <= a.Most || a.Quiet > maxQuiet {
			wrong = append(wrong, fmt.Errorf("guard: %s cannot be %+v", name, a))
		}
	}
	if wrong != nil {
		return nil, errors.Join(wrong...)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	g := &Guard{counters: c.Counters, familiar: c.Familiar, limits: c.Limits, now: c.Now}
	for i := range g.lanes {
		g.lanes[i] = semaphore.NewWeighted(1)
	}
	return g, nil
}

// maxQuiet is less than what the bucket of counters keeps.
const maxQuiet = 12 * time.Hour

// lanes is how many locks there are for all counters.
const lanes = 64

// laneOf returns which lock is that of a counter.
func laneOf(key string) int {
	h := fnv.New32a()
	h.Write([]byte(key)) // never fails
	return int(h.Sum32() % lanes)
}

// guardPatience bounds one change of a counter, the wait for others at the same one included.
const guardPatience = 5 * time.Second

// A count is the stored form of what was tried.
type count struct {
	Tries int       `json:"n"`
	Last  time.Time `json:"last"`
	Next  time.Time `json:"next,omitzero"` // before which nothing more is let in
	Mark  string    `json:"mark"`          // of the change that made it, by which its author knows it again
}

// limitKey returns the key of a counter. What people typed is hashed: it may have any form, and is nobody's business.
func limitKey(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:20]))
}

// networkKey returns the key of a counter for a client's network. It is empty where the network is not known: a counter for all of
// whom that is so would let any of them lock the others out.
func networkKey(network string, parts ...string) string {
	if network == "" {
		return ""
	}
	return limitKey(append(parts, network)...)
}

// take counts a try, or refuses it with ErrLimited and when to come back. A try that is refused counts for nothing: whoever goes on
// asking does not make anybody wait for longer.
func (g *Guard) take(ctx context.Context, key string, a Allowance) error {
	return g.change(ctx, key, func(c *count) error {
		now := g.now()
		if now.Sub(c.Last) >= a.Quiet {
			*c = count{}
		}
		if wait := min(c.Next.Sub(now), a.Most); wait > 0 { // min: a clock that was wrong must not shut anybody out
			return ErrLimited.After(wait)
		}
		c.Tries, c.Last = c.Tries+1, now
		if over := c.Tries - a.Free; over >= 0 {
			c.Next = now.Add(a.delay(over))
		}
		return nil
	})
}

// delay returns the wait after the tries beyond the free ones.
func (a Allowance) delay(over int) time.Duration {
	d := a.First
	for range over {
		if d *= 2; d >= a.Most {
			return a.Most
		}
	}
	return d
}

// giveBack uncounts one try, which was no wrong one.
func (g *Guard) giveBack(ctx context.Context, key string) error {
	return g.change(ctx, key, func(c *count) error {
		c.Tries = max(c.Tries-1, 0)
		c.Next = time.Time{}
		return nil
	})
}

// forget uncounts all tries.
func (g *Guard) forget(ctx context.Context, key string) error {
	return g.change(ctx, key, func(c *count) error {
		*c = count{Last: c.Last}
		return nil
	})
}

// mostUnknown is how many writes in a row may have no known outcome.
const mostUnknown = 5

// change changes a counter by compare-and-set until nobody else has changed it in between, or returns what f says. A write whose outcome
// is not known is looked for, and tried again: at worst something counts twice. Under an empty key nothing is counted.
func (g *Guard) change(ctx context.Context, key string, f func(*count) error) error {
	if key == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, guardPatience)
	defer cancel()
	lane := g.lanes[laneOf(key)]
	if err := lane.Acquire(ctx, 1); err != nil {
		return bus.ErrUnavailable.Because(fmt.Errorf("wait to count a try: %w", err))
	}
	defer lane.Release(1)
	mark := rand.Text()
	for unknown := 0; ; {
		value, revision, err := g.counters.Get(ctx, key)
		missing := errors.Is(err, bus.ErrNoKey)
		if err != nil && !missing {
			return fmt.Errorf("read a counter: %w", err)
		}
		var c count
		if !missing {
			if err := json.Unmarshal(value, &c); err != nil {
				c = count{} // nobody is shut out by what cannot be read
			}
		}
		if unknown > 0 && c.Mark == mark {
			return nil
		}
		if err := f(&c); err != nil {
			return err
		}
		c.Mark = mark
		if value, err = json.Marshal(c); err != nil {
			return fmt.Errorf("encode a counter: %w", err)
		}
		if missing {
			_, err = g.counters.Create(ctx, key, value)
		} else {
			_, err = g.counters.Update(ctx, key, value, revision)
		}
		if err == nil {
			return nil
		}
		if errors.Is(err, bus.ErrStale) || errors.Is(err, bus.ErrKeyExists) {
			continue
		}
		if unknown++; unknown > mostUnknown || ctx.Err() != nil {
			return fmt.Errorf("write a counter: %w", err)
		}
	}
}

// A ticket is a try that was let in.
type ticket struct {
	guard            *Guard
	address, account string // keys of counters
	familiar         string // key in the bucket of those
	known            bool   // whether it has that key
}

// admit counts a try to prove that one is the owner of an account, before anything is done about it. A nil Guard admits everybody.
func (g *Guard) admit(ctx context.Context, network, typed string, role token.Role) (*ticket, error) {
	if g == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, guardPatience)
	defer cancel()
	who := typed
	if email, err := ParseEmail(typed); err == nil {
		who = string(email)
	}
	t := &ticket{
		guard: g, address: networkKey(network, "address"), account: limitKey("account", string(role), who),
		familiar: networkKey(network, "familiar", string(role), who),
	}
	if t.familiar != "" {
		switch _, _, err := g.familiar.Get(ctx, t.familiar); {
		case err == nil:
			t.account, t.known = t.familiar, true
		case !errors.Is(err, bus.ErrNoKey):
			return nil, fmt.Errorf("look for a familiar address: %w", err)
		}
	}
	if err := g.take(ctx, t.address, g.limits.Address); err != nil {
		return nil, err
	}
	if err := g.take(ctx, t.account, g.limits.Account); err != nil { // it is not let in, so it was no try from that network either
		return nil, errors.Join(err, g.giveBack(context.WithoutCancel(ctx), t.address))
	}
	return t, nil
}

// succeeded says that the try was right. The account's wrong tries are forgotten; those of the address stay, so that nobody buys more
// guesses at other accounts by logging in to their own. What cannot be written is no reason to refuse who has proved who they are.
func (t *ticket) succeeded(ctx context.Context) error {
	if t == nil {
		return nil
	}
	var known error
	if !t.known && t.familiar != "" { // it is forgotten 30 days later, and then known again at the next login
		if _, known = t.guard.familiar.Create(ctx, t.familiar, []byte("{}")); errors.Is(known, bus.ErrKeyExists) {
			known = nil
		}
	}
	return errors.Join(t.guard.forget(ctx, t.account), t.guard.giveBack(ctx, t.address), known)
}

// withdrawn says that nothing was found out: the try counts for nothing.
func (t *ticket) withdrawn(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return errors.Join(t.guard.giveBack(ctx, t.account), t.guard.giveBack(ctx, t.address))
}

// register counts an account that is about to be made.
func (g *Guard) register(ctx context.Context, network string) error {
	if g == nil {
		return nil
	}
	return g.take(ctx, networkKey(network, "registrations"), g.limits.Registrations)
}

// refresh counts a refresh of one of the account's sessions, whose token was good: with a bad one nobody can use it up.
func (g *Guard) refresh(ctx context.Context, account string) error {
	if g == nil {
		return nil
	}
	return g.take(ctx, limitKey("refreshes", account), g.limits.Refreshes)
}

// erase forgets what was counted for an account that is gone, and that it was logged in to from this network. Of other networks nobody can
// tell: their keys are hashes, and they are forgotten with their time. With free false somebody else has its email and role by now, and what
// counts for those stays.
func (g *Guard) erase(ctx context.Context, c token.Claims, network string, free bool) error {
	if g == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, guardPatience)
	defer cancel()
	failed := []error{eraseKey(ctx, g.counters, limitKey("refreshes", c.Subject))}
	if free {
		failed = append(failed, eraseKey(ctx, g.counters, limitKey("account", string(c.Role), c.Email)))
		if familiar := networkKey(network, "familiar", string(c.Role), c.Email); familiar != "" {
			failed = append(failed, eraseKey(ctx, g.counters, familiar), eraseKey(ctx, g.familiar, familiar))
		}
	}
	return errors.Join(failed...)
}

// eraseKey erases what is under a key, whoever changes it in between.
func eraseKey(ctx context.Context, b Bucket, key string) error {
	for {
		_, revision, err := b.Get(ctx, key)
		if errors.Is(err, bus.ErrNoKey) {
			return nil
		}
		if err == nil {
			err = b.Erase(ctx, key, revision)
		}
		if !errors.Is(err, bus.ErrStale) {
			return err
		}
	}
}

// wrongToken counts a refresh token that was refused. It is counted afterwards: a token has too many random bits to be guessed, and one that is
// good must not wait for its turn at a counter that all of a network share. So whoever is logged in stays so, whatever their neighbours try.
func (g *Guard) wrongToken(ctx context.Context, network string) error {
	if g == nil {
		return nil
	}
	return g.take(ctx, networkKey(network, "tokens"), g.limits.Address)
}
