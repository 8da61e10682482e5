package authsvc

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// Errors of an Operator.
var (
	ErrWhichRole = fault.New(fault.Invalid, "which_role",
		"This email belongs to a user and to a raider. Name one with --role.")
	ErrUnknownAccount = fault.New(fault.NotFound, "no_account",
		"There is no such account. Give its email, or its id of 26 characters.")
	ErrAsOf = fault.New(fault.Invalid, "as_of",
		"The time is in the future. Give one that has passed, such as 2026-03-01T08:00:00Z.")
)

// demoAdvice tells an operator what to do about a demo account in place of what is refused.
const demoAdvice = "Disable it, or run authsvc without --demo."

// An Operator does to accounts what their owners cannot. It works on the stores directly, beside
// any number of running services, which follow at once. Its methods may be repeated, and fail
// with kind fault.Unavailable while a store is unavailable.
type Operator struct {
	accounts AccountStore
	revoker  revoker
	now      func() time.Time
}

// NewOperator returns an Operator. revoke is as in Config.
func NewOperator(accounts AccountStore, revoke func(context.Context, token.Revocation) error,
	now func() time.Time) *Operator {
	return &Operator{accounts: accounts, revoker: revoker{revoke, now}, now: now}
}

// Each calls do with every account, in the order of the store, until do fails.
func (o *Operator) Each(ctx context.Context, do func(Account) error) error {
	return each(ctx, o.accounts, do)
}

// Find returns the account with an email or an id, in a role unless that is empty. It may be empty
// if the email has one role only. Errors: ErrUnknownAccount, ErrWhichRole, ErrInvalidRole.
func (o *Operator) Find(ctx context.Context, emailOrID, role string) (Account, error) {
	roles := []token.Role{token.User, token.Rider}
	if role != "" {
		r, err := roleOf(role)
		if err != nil {
			return Account{}, err
		}
		roles = []token.Role{r}
	}
	var found []Account
	if email, err := ParseEmail(emailOrID); err == nil {
		for _, r := range roles {
			switch a, err := o.accounts.Find(ctx, email, r); {
			case err == nil:
				found = append(found, a)
			case !errors.Is(err, ErrNoAccount):
				return Account{}, err
			}
		}
	} else if err := o.Each(ctx, func(a Account) error {
		if a.ID == emailOrID && slices.Contains(roles, a.Role) {
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

// Disable bars the account's owner: no login, no refresh, and no existing token works. It changes
// the account first, so a failure leaves tokens that expire within minutes and cannot be renewed.
func (o *Operator) Disable(ctx context.Context, a Account) (Account, error) {
	return o.endSessions(ctx, a, time.Time{}, func(a *Account) { a.Disabled = true })
}

// Enable lets the owner of a disabled account log in again.
func (o *Operator) Enable(ctx context.Context, a Account) (Account, error) {
	return o.change(ctx, a, func(a *Account) { a.Disabled = false })
}

// Approve lets the owner of a pending account log in.
func (o *Operator) Approve(ctx context.Context, a Account) (Account, error) {
	return o.change(ctx, a, func(a *Account) { a.Pending = false })
}

// Delete deletes the account. It disables it first, so that none of its tokens works and none is
// issued any more. A failure in between leaves it disabled. Errors: ErrDemoAccount.
func (o *Operator) Delete(ctx context.Context, a Account) (Account, error) {
	if a.Demo {
		return Account{}, ErrDemoAccount.Saying("A demo account cannot be deleted. " + demoAdvice)
	}
	for {
		if _, err := o.Disable(ctx, a); err != nil {
			return Account{}, err
		}
		have, err := o.accounts.Find(ctx, a.Email, a.Role)
		// Somebody else was faster.
		if errors.Is(err, ErrNoAccount) || err == nil && have.ID != a.ID {
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

// Revoke ends all sessions of the account. With an earlier time asOf, readers of the ledger also
// reject everything that was done with the account's tokens since then. The zero time is now.
// Errors: ErrAsOf.
func (o *Operator) Revoke(ctx context.Context, a Account, asOf time.Time) (Account, error) {
	if asOf.After(o.now()) {
		return Account{}, ErrAsOf
	}
	return o.endSessions(ctx, a, asOf, func(*Account) {})
}

// ResetPassword voids the account's password, ends all its sessions, and returns a code. POST
// /password takes the code in place of the password, once and within ResetLife. Only the code's
// hash is stored, so a lost code cannot be shown again; another reset replaces it. Errors:
// ErrDemoPassword: nobody could set the password of a demo account again.
func (o *Operator) ResetPassword(ctx context.Context, a Account) (code string, changed Account, err error) {
	if a.Demo {
		return "", Account{}, ErrDemoPassword.Saying("The password of a demo account cannot be changed. " + demoAdvice)
	}
	code = newResetCode()
	changed, err = o.endSessions(ctx, a, time.Time{}, func(a *Account) {
		a.Reset = resetHash(a.ID, code)
		a.ResetUntil = o.now().UTC().Truncate(time.Second).Add(ResetLife)
	})
	if err != nil {
		return "", Account{}, err
	}
	return code, changed, nil
}

// endSessions changes an account, begins its next session epoch, and revokes its tokens as of a
// time.
func (o *Operator) endSessions(ctx context.Context, a Account, asOf time.Time, edit func(*Account)) (Account, error) {
	changed, err := o.change(ctx, a, func(a *Account) {
		edit(a)
		a.beginEpoch(o.now())
	})
	if err == nil {
		err = o.revoker.revoke(ctx, token.Revocation{
			Subject: changed.ID, NotBefore: changed.NotBefore, At: asOf.UTC().Truncate(time.Microsecond),
		})
	}
	if err != nil {
		return Account{}, err
	}
	return changed, nil
}

// change changes an account by compare-and-set.
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
