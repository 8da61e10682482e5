package authsvc

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/alexedwards/argon2id"
	"golang.org/x/crypto/argon2"
	"golang.org/x/sync/semaphore"
	"golang.org/x/text/unicode/norm"

	"github.com/example/pillion/internal/fault"
)

// The length of a password, in characters (code points), whatever their kind: no rules of composition, and nothing is cut off.
const (
	MinPassword = 8
	MaxPassword = 128
)

// The least that a hash may cost (OWASP Password Storage Cheat Sheet), and the default. Memory is in KiB.
const (
	MinMemory      = 19456
	MinIterations  = 2
	MinParallelism = 1
)

const (
	saltLength = 16 // bytes (RFC 9106 section 3.1)
	keyLength  = 32 // bytes

	defaultWait  = 5 * time.Second
	queuePerSlot = 128 // at about 25 ms a hash, what one slot does within the default wait, with some to spare

	// What a stored hash may ask for. It is ours, but a broken record must not take the machine's memory with it.
	maxMemory     = 1 << 20 // KiB
	maxIterations = 64
)

// What Passwords says.
var (
	ErrPasswordTooShort = fault.New(fault.Invalid, "password_too_short", "The password is too short. It needs at least 8 characters.")
	ErrPasswordTooLong  = fault.New(fault.Invalid, "password_too_long", "The password is too long. It may have 128 characters at most.")
	// ErrBusy is that more passwords wait to be checked than can be in time.
	ErrBusy = fault.New(fault.Unavailable, "too_many_logins", "Too many people are logging in at the moment. Please try again in a few seconds.")
	// ErrPasswordSettings refuses a PasswordsConfig.
	ErrPasswordSettings = fault.New(fault.Invalid, "password_settings", "The password settings cannot be used.")
)

// HashCost is what one evaluation of argon2id costs.
type HashCost struct {
	Memory      uint32 // KiB
	Iterations  uint32
	Parallelism uint8
}

// HasherConfig says how passwords are hashed. Zero values take the defaults, and lower ones than the defaults of the cost are
// refused.
type HasherConfig struct {
	Cost HashCost // default: MinMemory, MinIterations, MinParallelism

	// Concurrent bounds the hashes that are evaluated at the same time, and with that their memory. The default is one less than
	// there are cores, so that the rest of the process goes on under a flood of logins; at least 1.
	Concurrent int
	// Queue bounds those that wait for their turn; default 128 for each concurrent one.
	Queue int
	// Wait bounds how long they wait; default 5 s.
	Wait time.Duration
	// Observe is called before each evaluation, with what it costs, and the function it returns after it. Optional.
	Observe func(HashCost) (done func())
}

// Hasher hashes and checks passwords with argon2id, a bounded number at a time. It is safe for concurrent use.
type Hasher struct {
	params  argon2id.Params
	dummy   string
	common  map[string]struct{}
	slots   *semaphore.Weighted
	waiting atomic.Int64
	queue   int64
	wait    time.Duration
	observe func(HashCost) func()
}

// NewHasher returns Passwords, or ErrPasswordSettings with everything that is wrong.
func NewHasher(c HasherConfig) (*Hasher, error) {
	c = c.withDefaults()
	var wrong []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	refuse(c.Cost.Memory < MinMemory || c.Cost.Memory > maxMemory, "memory is %d KiB: give %d to %d", c.Cost.Memory, MinMemory, maxMemory)
	refuse(c.Cost.Iterations < MinIterations || c.Cost.Iterations > maxIterations, "iterations are %d: give %d to %d", c.Cost.Iterations, MinIterations, maxIterations)
	refuse(c.Concurrent < 1, "concurrent hashes are %d: give at least 1", c.Concurrent)
	refuse(c.Queue < 1, "the queue is %d long: give at least 1", c.Queue)
	refuse(c.Wait < 0, "the wait is %v: give a positive one", c.Wait)
	if wrong != nil {
		return nil, ErrPasswordSettings.Because(errors.Join(wrong...))
	}
	return &Hasher{
		params: argon2id.Params{
			Memory: c.Cost.Memory, Iterations: c.Cost.Iterations, Parallelism: c.Cost.Parallelism, SaltLength: saltLength, KeyLength: keyLength,
		},
		dummy:   dummyHash(c.Cost),
		common:  readCommon(),
		slots:   semaphore.NewWeighted(int64(c.Concurrent)),
		queue:   int64(c.Queue),
		wait:    c.Wait,
		observe: c.Observe,
	}, nil
}

func (c HasherConfig) withDefaults() HasherConfig {
	if c.Cost.Memory == 0 {
		c.Cost.Memory = MinMemory
	}
	if c.Cost.Iterations == 0 {
		c.Cost.Iterations = MinIterations
	}
	if c.Cost.Parallelism == 0 {
		c.Cost.Parallelism = MinParallelism
	}
	if c.Concurrent == 0 {
		c.Concurrent = max(runtime.GOMAXPROCS(0)-1, 1)
	}
	if c.Queue == 0 {
		c.Queue = max(c.Concurrent, 1) * queuePerSlot
	}
	if c.Wait == 0 {
		c.Wait = defaultWait
	}
	if c.Observe == nil {
		c.Observe = func(HashCost) func() { return func() {} }
	}
	return c
}

// dummyHash returns the hash of no password: random bytes in the place of the key. Checking a password against it is the same
// work as against any other hash of that cost, and no password can match it by knowing what was hashed.
func dummyHash(c HashCost) string {
	salt, key := make([]byte, saltLength), make([]byte, keyLength)
	_, _ = rand.Read(salt) // never fails: crypto/rand ends the program instead
	_, _ = rand.Read(key)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.Memory, c.Iterations, c.Parallelism,
		b64.EncodeToString(salt), b64.EncodeToString(key))
}

// CheckNew reports whether password may become somebody's: ErrPasswordTooShort, ErrPasswordTooLong or ErrPasswordCommon.
func (p *Hasher) CheckNew(password string) error {
	if utf8.RuneCountInString(password) < MinPassword {
		return ErrPasswordTooShort
	}
	if err := p.CheckLength(password); err != nil {
		return err
	}
	if p.isCommon(password) {
		return ErrPasswordCommon
	}
	return nil
}

// CheckLength returns ErrPasswordTooLong for what is not worth hashing: no account has such a password.
func (p *Hasher) CheckLength(password string) error {
	if utf8.RuneCountInString(password) > MaxPassword {
		return ErrPasswordTooLong
	}
	return nil
}

// Hash returns the hash of password with a new salt, as a PHC string. It returns ErrBusy when its turn does not come in time, or
// before ctx ends.
func (p *Hasher) Hash(ctx context.Context, password string) (phc string, err error) {
	err = p.inTurn(ctx, p.params, func() error {
		phc, err = argon2id.CreateHash(canonical(password), &p.params)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return phc, nil
}

// Verify reports whether phc is the hash of password, whatever cost phc was made with. Where phc is empty, which is to say that
// there is no account, it does the same work as for a hash of today's cost, and reports false. Errors are those of Hash, and one
// of kind fault.Internal for a broken phc.
func (p *Hasher) Verify(ctx context.Context, password, phc string) (match bool, err error) {
	nobody := phc == ""
	if nobody {
		phc = p.dummy
	}
	params, err := readPHC(phc)
	if err != nil {
		return false, fmt.Errorf("verify password: %w", err)
	}
	err = p.inTurn(ctx, params, func() error {
		match, err = argon2id.ComparePasswordAndHash(canonical(password), phc)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("verify password: %w", err)
	}
	return match && !nobody, nil
}

// readPHC returns the parameters of a hash that can be evaluated. The argon2 package panics on some that cannot.
func readPHC(phc string) (argon2id.Params, error) {
	params, _, _, err := argon2id.DecodeHash(phc)
	if err != nil {
		return argon2id.Params{}, fmt.Errorf("stored hash: %w", err)
	}
	if params.Memory > maxMemory || params.Iterations < 1 || params.Iterations > maxIterations || params.Parallelism < 1 ||
		params.SaltLength < 8 || params.SaltLength > 64 || params.KeyLength < 16 || params.KeyLength > 64 {
		return argon2id.Params{}, errors.New("stored hash: its parameters are out of range")
	}
	return *params, nil
}

// Outdated reports whether phc cost less to make than a hash of today, in any respect: then its owner's next login is the time to
// hash the password again. It is false for what cannot be read.
func (p *Hasher) Outdated(phc string) bool {
	was, err := readPHC(phc)
	return err == nil && (was.Memory < p.params.Memory || was.Iterations < p.params.Iterations || was.Parallelism < p.params.Parallelism ||
		was.SaltLength < p.params.SaltLength || was.KeyLength < p.params.KeyLength)
}

// inTurn runs evaluate when fewer than the allowed number of hashes are being evaluated. Whoever cannot be served in time learns
// so at once when the queue is full: a later answer would be no better, and would hold a connection until then.
func (p *Hasher) inTurn(ctx context.Context, cost argon2id.Params, evaluate func() error) error {
	if !p.slots.TryAcquire(1) {
		if p.waiting.Add(1) > p.queue {
			p.waiting.Add(-1)
			return ErrBusy.After(p.wait)
		}
		waiting, cancel := context.WithTimeout(ctx, p.wait)
		err := p.slots.Acquire(waiting, 1)
		cancel()
		p.waiting.Add(-1)
		if err != nil {
			return ErrBusy.After(p.wait).Because(err)
		}
	}
	defer p.slots.Release(1)
	done := p.observe(HashCost{Memory: cost.Memory, Iterations: cost.Iterations, Parallelism: cost.Parallelism})
	defer done()
	return evaluate()
}

// canonical returns the one spelling of password (NFC, as in RFC 8265 section 4.2): an accented letter is typed as one code point on
// some systems and as two on others, and is the same password. Nothing is trimmed, folded or cut off.
func canonical(password string) string { return norm.NFC.String(password) }
