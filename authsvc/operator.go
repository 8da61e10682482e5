package authsvc

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// What an operator is told.
var (
	ErrWhichRole      = fault.New(fault.Invalid, "which_role", "There is a user and a raider with this email. Say which one is meant, with --role.")
	ErrUnknownAccount = fault.New(fault.NotFound, "no_account", "There is no such account. Give its email, or its id of 26 characters.")
	ErrAsOf           = fault.New(fault.Invalid, "as_of", "The time lies ahead. Give one that has passed, such as 2026-03-01T08:00:00Z.")
)

// ResetLife is how long a reset code is good.
const ResetLife = time.Hour

// An Operator does to accounts what their owners cannot. It works on the stores themselves, beside any number of running services, which
// follow at once. Failures are of kind fault.Unavailable while a store is away; everything may be repeated.
type Operator struct {
	accounts AccountStore
	sessions sessions // to take tokens back
	now      func() time.Time
}

// NewOperator returns an Operator. revoke is that of Config.
func NewOperator(accounts AccountStore, revoke func(context.Context, token.Revocation) error, now func() time.Time) *Operator {
	return &Operator{accounts: accounts, sessions: sessions{revoke: revoke, now: now}, now: now}
}

// Each calls do with every account, in the order of the store, until it fails.
func (o *Operator) Each(ctx context.Context, do func(Account) error) error {
	for cursor := ""; ; {
		page, next, err := o.accounts.List(ctx, cursor, copyPage)
		if err != nil {
			return err
		}
		for _, a := range page {
			if err := do(a); err != nil {
				return err
			}
		}
		if cursor = next; cursor == "" {
			return nil
		}
	}
}

// Find returns the account with an email, in the role that is named or the only one it has, or the one with an id, for which it reads all
// of them. Errors: ErrNobody, ErrWhichRole, ErrInvalidRole.
func (o *Operator) Find(ctx context.Context, who, role string) (Account, error) {
	roles := []token.Role{token.User, token.Rider}
	if role != "" {
		r, err := roleOf(role)
		if err != nil {
			return Account{}, err
		}
		roles = []token.Role{r}
	}
	var found []Account
	if email, err := ParseEmail(who); err == nil {
		for _, r := range roles {
			switch a, err := o.accounts.Find(ctx, email, r); {
			case err == nil:
				found = append(found, a)
			case !errors.Is(err, ErrNoAccount):
				return Account{}, err
			}
		}
	} else if err := o.Each(ctx, func(a Account) error {
		if a.ID == who {
			found = append(found, a)
		}
		return nil
	}); err != nil {
		return Account{}, err
	}
	switch len(found) {
	case 0:
		return Account{}, ErrUnknownAccount
	case 1:
		return found[0], nil
	}
	return Account{}, ErrWhichRole
}

// change changes an account by compare-and-set, until nobody else changes it in between.
func (o *Operator) change(ctx context.Context, a Account, edit func(*Account)) (Account, error) {
	for {
		have, err := o.accounts.Find(ctx, a.Email, a.Role)
		if errors.Is(err, ErrNoAccount) || err == nil && have.ID != a.ID {
			return Account{}, ErrUnknownAccount
		}
		if err != nil {
			return Account{}, err
		}
		edit(&have)
		err = o.accounts.Replace(ctx, have)
		if errors.Is(err, ErrStaleAccount) && ctx.Err() == nil {
			continue
		}
		return have, err
	}
}

// Disable keeps the account's owner out: no login, no refresh, and no token that there is works on. The account is changed first, so that
// a failure in between leaves tokens that live for their minutes and nothing that could be renewed.
func (o *Operator) Disable(ctx context.Context, a Account) (Account, error) {
	return o.endAll(ctx, a, time.Time{}, func(a *Account) { a.Disabled = true })
}

// Enable lets the owner of a disabled account log in again.
func (o *Operator) Enable(ctx context.Context, a Account) (Account, error) {
	return o.change(ctx, a, func(a *Account) { a.Disabled = false })
}

// Delete erases the account. It is disabled first, so that no token of it works and none is given out any more; a failure in between leaves it
// so, and the command may be repeated. Errors: ErrDemoAccount.
func (o *Operator) Delete(ctx context.Context, a Account) (Account, error) {
	if a.Demo {
		return Account{}, ErrDemoAccount
	}
	for {
		if _, err := o.Disable(ctx, a); err != nil {
			return Account{}, err
		}
		have, err := o.accounts.Find(ctx, a.Email, a.Role)
		if errors.Is(err, ErrNoAccount) || err == nil && have.ID != a.ID { // somebody else was faster
			return a, nil
		}
		if err != nil {
			return Account{}, err
		}
		if !have.Disabled {
			continue
		}
		if err := o.accounts.Delete(ctx, have); !errors.Is(err, ErrStaleAccount) {
			return have, err
		}
	}
}

// Approve lets the owner of an account log in that was waiting for it.
func (o *Operator) Approve(ctx context.Context, a Account) (Account, error) {
	return o.change(ctx, a, func(a *Account) { a.Pending = false })
}

// Revoke ends all sessions of the account. With an earlier time asOf, everything that was done with their tokens since then is refused as
// well, whenever somebody reads it. Errors: ErrAsOf.
func (o *Operator) Revoke(ctx context.Context, a Account, asOf time.Time) (Account, error) {
	if asOf.After(o.now()) {
		return Account{}, ErrAsOf
	}
	return o.endAll(ctx, a, asOf, func(*Account) {})
}

// ResetPassword makes the account's password void at once, ends all its sessions, and returns a code that POST /password takes in place of
// the password, once and within ResetLife. Only its hash is stored: whoever loses it gets another one, and the earlier one is void.
func (o *Operator) ResetPassword(ctx context.Context, a Account) (code string, changed Account, err error) {
	code = newResetCode()
	changed, err = o.endAll(ctx, a, time.Time{}, func(a *Account) {
		a.Reset = resetHash(a.ID, code)
		a.ResetUntil = o.now().UTC().Truncate(time.Second).Add(ResetLife)
	})
	if err != nil {
		return "", Account{}, err
	}
	return code, changed, nil
}

// endAll changes an account, ends the era of its sessions, and takes its tokens back.
func (o *Operator) endAll(ctx context.Context, a Account, asOf time.Time, edit func(*Account)) (Account, error) {
	changed, err := o.change(ctx, a, func(a *Account) {
		edit(a)
		a.endEra(o.now())
	})
	if err != nil {
		return Account{}, err
	}
	r := token.Revocation{Subject: changed.ID, NotBefore: changed.NotBefore, At: asOf.UTC().Truncate(time.Microsecond)}
	if asOf.IsZero() {
		return changed, o.sessions.takeBack(ctx, r)
	}
	if err := insist(ctx, func() error { return o.sessions.revoke(ctx, r) }); err != nil {
		return Account{}, fmt.Errorf("take back tokens: %w", err)
	}
	return changed, nil
}

// resetAlphabet has 32 characters that are told apart on paper and on the telephone: no i, l, o or u.
const resetAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// newResetCode returns 80 random bits in four groups: at the 5 tries and the waits of a Guard, and also at a million tries a second, an hour
// is not enough to find one.
func newResetCode() string {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails: crypto/rand ends the program instead
	var b strings.Builder
	for i, r := range random {
		if i > 0 && i%4 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(resetAlphabet[r%32]) // 256 is a multiple of 32
	}
	return b.String()
}

// resetHash returns the stored form of a code, which may be typed in capitals, and without its hyphens or with spaces. It is of the one
// account. A code has enough bits for a plain hash.
func resetHash(account, code string) string {
	plain := strings.NewReplacer("-", "", " ", "").Replace(strings.ToLower(code))
	sum := sha256.Sum256([]byte(account + "\x00" + plain))
	return base64.RawStdEncoding.EncodeToString(sum[:])
}

// takesCode reports whether the code is the one that resets the account's password now.
func (a Account) takesCode(code string, now time.Time) bool {
	same := subtle.ConstantTimeCompare([]byte(resetHash(a.ID, code)), []byte(a.Reset)) == 1
	return same && a.Reset != "" && now.Before(a.ResetUntil)
}
