package authsvc

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// An Account is one (email, role) pair: the same email may belong to a user and to a rider, with
// separate passwords. Its JSON form is what stores keep; it contains the password's hash.
type Account struct {
	ID    string `json:"id"`    // 26 characters of lower-case base32; the sub of its tokens
	Email Email  `json:"email"` // accounts are found by it
	// EmailAsEntered is for writing to the owner: the part before the @ may be case-sensitive.
	EmailAsEntered string     `json:"typed"`
	Role           token.Role `json:"role"`    // User or Rider
	Hash           string     `json:"hash"`    // of the password, as a PHC string
	Created        time.Time  `json:"created"` // UTC
	// Demo is set by SeedDemo. Such an account cannot log in while the demo is off.
	Demo bool `json:"demo,omitempty"`

	Disabled bool `json:"disabled,omitempty"` // can neither log in nor continue a session
	// SessionEpoch counts how often all sessions of the account were ended together. A session
	// belongs to the epoch in which it began, and ends with it.
	SessionEpoch int `json:"era,omitempty"`
	// NotBefore is the whole second in which the present epoch begins, in UTC: tokens issued
	// earlier are revoked. It is zero in the first epoch, and may be up to a second in the
	// future.
	NotBefore time.Time `json:"not_before,omitzero"`

	// Pending says that an operator must approve the account before its owner can log in.
	Pending bool `json:"pending,omitempty"`
	// Reset is the hash of the code that sets a new password; empty if there is none. While there
	// is a code the password is void.
	Reset      string    `json:"reset,omitempty"`
	ResetUntil time.Time `json:"reset_until,omitzero"` // when the code expires, UTC; whole seconds

	// Revision is the store's version of the account that was read. It is not part of the account.
	Revision uint64 `json:"-"`
}

// State returns active if the account's owner can log in, and otherwise why not: disabled, reset or
// pending.
func (a Account) State() string {
	switch {
	case a.Disabled:
		return "disabled"
	case a.Reset != "":
		return "reset"
	case a.Pending:
		return "pending"
	}
	return "active"
}

// String returns what a log may show of an account: never its hash.
func (a Account) String() string {
	return fmt.Sprintf("account %s (%s, %s)", a.ID, a.Email.Masked(), a.Role)
}

// LogValue returns what slog shows of an account.
func (a Account) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", a.ID), slog.String("email", a.Email.Masked()),
		slog.String("role", string(a.Role)))
}

// An AccountStore stores accounts. Once Create has returned, every later Find sees the account,
// on every instance of the service. Failures other than those named are of kind
// fault.Unavailable, or of kind fault.Internal for a broken record.
//
// Create, Replace and Delete repeat a write while its outcome is unknown.
type AccountStore interface {
	// Find returns the account of the pair, or ErrNoAccount.
	Find(ctx context.Context, email Email, role token.Role) (Account, error)
	// Create stores a new account, or returns ErrTaken. Of several simultaneous calls for one
	// pair exactly one succeeds. Calling it again with the same account succeeds again.
	Create(ctx context.Context, a Account) error
	// Replace stores a over the version a.Revision. It returns ErrStaleAccount if the account has
	// another version by now or does not exist. Email, role and id must not change.
	Replace(ctx context.Context, a Account) error
	// Delete erases a and everything that the store kept of its earlier versions. It returns
	// ErrStaleAccount if the account has another version than a.Revision by now. It succeeds if a
	// does not exist any more, and leaves another account of the pair alone. The pair can then be
	// created again.
	Delete(ctx context.Context, a Account) error
	// List returns a page of up to limit accounts (at least 1) after a cursor, in the store's own
	// order. The first cursor is "", later ones are what the previous call returned as next, and
	// next is "" at the end. An account that exists at the first call is on exactly one page. A
	// page before the last may be short or empty.
	List(ctx context.Context, after string, limit int) (page []Account, next string, err error)
}

// Errors of an AccountStore.
var (
	ErrNoAccount = fault.New(fault.NotFound, "no_account", "There is no such account.")
	ErrTaken     = fault.New(fault.Conflict, "account_taken",
		"This email and role already have an account. Log in with it, or register another email.")
	ErrStaleAccount = fault.New(fault.Conflict, "stale_account",
		"The account was changed at the same time. Please try again.")
)
