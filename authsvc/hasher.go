package authsvc

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/alexedwards/argon2id"
	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/example/pillion/authsvc/throttle"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/web"
)

// The default cost of a hash, which is the lowest good one (OWASP Password Storage Cheat Sheet).
// Memory is in KiB.
const (
	MinMemory      = 19456
	MinIterations  = 2
	MinParallelism = 1
)

const (
	saltLength = 16 // bytes (RFC 9106 section 3.1)
	keyLength  = 32 // bytes

	defaultWait = 5 * time.Second
	// At about 25 ms for each hash, one slot hashes somewhat more than that within the default
	// wait.
	queuePerSlot = 128

	// The highest cost of a stored hash. A broken record must not exhaust the machine's memory.
	maxMemory     = 1 << 20 // KiB
	maxIterations = 64
)

// Errors of a Hasher.
var (
	// ErrBusy says that more passwords are waiting than can be checked in time.
	ErrBusy = fault.New(fault.Unavailable, "too_many_logins",
		"Too many people are logging in right now. Please try again in a few seconds.")
)

// HashCost is the cost of one evaluation of argon2id.
type HashCost struct {
	Memory      uint32 // KiB
	Iterations  uint32
	Parallelism uint8
}

// HasherConfig holds the settings of a Hasher. Zero values take the defaults, which services use.
type HasherConfig struct {
	Cost HashCost // default: MinMemory, MinIterations, MinParallelism

	// Concurrent bounds the hashes that are evaluated at the same time, and so their memory. The
	// default leaves one core to the rest of the process under a flood of logins; it is at least
	// 1.
	Concurrent int
	// Queue bounds the hashes that wait; default: 128 for each concurrent one.
	Queue int
	// Wait bounds how long a hash waits; default: 5 s.
	Wait time.Duration
	// Observe is called with the cost before each evaluation, and the returned function after it.
	// Optional.
	Observe func(HashCost) (done func())
}

// A Hasher hashes and verifies passwords with argon2id, a bounded number at a time. Clients'
// networks take turns (see [web.ClientNetwork]), so that nobody's logins keep others out, not even
// those with the right password. It is safe for concurrent use.
type Hasher struct {
	params  argon2id.Params
	dummy   string
	common  map[string]struct{}
	turns   *throttle.Turns
	wait    time.Duration
	observe func(HashCost) func()
}

// NewHasher returns a Hasher.
func NewHasher(c HasherConfig) *Hasher {
	c = c.withDefaults()
	return &Hasher{
		params: argon2id.Params{
			Memory: c.Cost.Memory, Iterations: c.Cost.Iterations, Parallelism: c.Cost.Parallelism,
			SaltLength: saltLength, KeyLength: keyLength,
		},
		dummy:   dummyHash(c.Cost),
		common:  readCommon(),
		turns:   throttle.NewTurns(c.Concurrent, c.Queue),
		wait:    c.Wait,
		observe: c.Observe,
	}
}

func (c HasherConfig) withDefaults() HasherConfig {
	c.Cost.Memory = cmp.Or(c.Cost.Memory, MinMemory)
	c.Cost.Iterations = cmp.Or(c.Cost.Iterations, MinIterations)
	c.Cost.Parallelism = cmp.Or(c.Cost.Parallelism, MinParallelism)
	c.Concurrent = cmp.Or(c.Concurrent, max(runtime.GOMAXPROCS(0)-1, 1))
	c.Queue = cmp.Or(c.Queue, max(c.Concurrent, 1)*queuePerSlot)
	c.Wait = cmp.Or(c.Wait, defaultWait)
	if c.Observe == nil {
		c.Observe = func(HashCost) func() { return func() {} }
	}
	return c
}

// dummyHash returns a hash of that cost that no password matches: its key is random. Verifying a
// password against it takes the same work as against any other hash of that cost.
func dummyHash(c HashCost) string {
	salt, key := make([]byte, saltLength), make([]byte, keyLength)
	_, _ = rand.Read(salt) // never fails: crypto/rand ends the program instead
	_, _ = rand.Read(key)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.Memory, c.Iterations, c.Parallelism,
		b64.EncodeToString(salt), b64.EncodeToString(key))
}

// Hash returns the hash of a password with a new salt, as a PHC string. It returns ErrBusy if its
// turn does not come in time, or before ctx ends.
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

// Verify reports whether phc is a hash of the password, at any cost. An empty phc stands for an
// unknown account: Verify does the work of a hash of the configured cost and returns false.
// Errors: ErrBusy as for Hash, and one of kind fault.Internal for a broken phc.
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

// readPHC returns the parameters of a hash, or an error if they are out of range: the argon2
// package panics on some of those.
func readPHC(phc string) (argon2id.Params, error) {
	params, _, _, err := argon2id.DecodeHash(phc)
	if err != nil {
		return argon2id.Params{}, fmt.Errorf("stored hash: %w", err)
	}
	if params.Memory > maxMemory || params.Iterations < 1 || params.Iterations > maxIterations ||
		params.Parallelism < 1 ||
		params.SaltLength < 8 || params.SaltLength > 64 || params.KeyLength < 16 || params.KeyLength > 64 {
		return argon2id.Params{}, errors.New("stored hash: its parameters are out of range")
	}
	return *params, nil
}

// Outdated reports whether phc costs less than a new hash, in any parameter. It returns false for a
// broken phc.
func (p *Hasher) Outdated(phc string) bool {
	was, err := readPHC(phc)
	return err == nil && (was.Memory < p.params.Memory || was.Iterations < p.params.Iterations ||
		was.Parallelism < p.params.Parallelism ||
		was.SaltLength < p.params.SaltLength || was.KeyLength < p.params.KeyLength)
}

// inTurn runs evaluate when it is the turn of the client's network and fewer than the allowed
// number of hashes are being evaluated. If the queue is full it returns ErrBusy at once: a later
// refusal would only hold the connection.
func (p *Hasher) inTurn(ctx context.Context, cost argon2id.Params, evaluate func() error) error {
	waiting, cancel := context.WithTimeout(ctx, p.wait)
	over, err := p.turns.Take(waiting, web.ClientNetwork(ctx))
	cancel()
	if err != nil {
		return ErrBusy.After(p.wait).Because(err)
	}
	defer over()
	done := p.observe(HashCost{Memory: cost.Memory, Iterations: cost.Iterations, Parallelism: cost.Parallelism})
	defer done()
	return evaluate()
}

// canonical returns the password in NFC (RFC 8265 section 4.2): some systems type an accented
// letter as one code point, others as two. It trims, folds and cuts off nothing.
func canonical(password string) string { return norm.NFC.String(password) }
