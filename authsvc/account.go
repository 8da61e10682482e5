package authsvc

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// An Account is one (email, role) pair: the same email may be a user and a rider, with separate passwords.
type Account struct {
	ID             string     // 26 characters of lower-case base32; the sub of its tokens
	Email          Email      // what it is found by
	EmailAsEntered string     // the email as its owner typed it, which is how to write to them: a local part may mind its case
	Role           token.Role // User or Rider
	Hash           string     // of the password, as a PHC string
	Created        time.Time  // UTC
	Demo           bool       // made by SeedDemo: cannot log in where the demo is off

	Pending  bool // waits for an operator's approval before anybody can log in
	Disabled bool // can neither log in nor go on with a session
	// SessionEpoch counts how often all sessions of the account were ended together. A session belongs to the era it began in, and ends with it.
	SessionEpoch int
	// NotBefore is the whole second of which tokens of the present era are the first: those issued before it were taken back. Zero in
	// the first era. It may be up to a second ahead.
	NotBefore time.Time
	// Reset is the hash of the code that sets a new password; empty where none does. While there is one the password is void.
	Reset      string
	ResetUntil time.Time // how long that code is good; whole seconds

	// Revision is the store's own count of the account's versions, of the one that was found. It is not the account's.
	Revision uint64
}

// State returns in a word whether the account's owner can log in: active, or why not: disabled, reset, pending.
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

// String shows no more of an account than may be in a log. The hash is never shown.
func (a Account) String() string {
	return fmt.Sprintf("account %s (%s, %s)", a.ID, a.Email.Masked(), a.Role)
}

// LogValue is what slog shows of an account.
func (a Account) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", a.ID), slog.String("email", a.Email.Masked()), slog.String("role", string(a.Role)))
}

// An AccountStore keeps accounts. What Create has acknowledged, every later Find sees, on every instance of the service.
// Failures other than those named are of kind fault.Unavailable, and of kind fault.Internal where what is stored is broken.
type AccountStore interface {
	// Find returns the account of the pair, or ErrNoAccount.
	Find(ctx context.Context, email Email, role token.Role) (Account, error)
	// Create stores a new account, or says ErrTaken: of several at once for one pair exactly one succeeds. Calling it again
	// with the same account succeeds again, so an outcome that got lost may be asked for once more.
	Create(ctx context.Context, a Account) error
	// Replace stores a over the version of it that a.Revision names, or says ErrStaleAccount where there is another by now, and
	// where there is no such account. Email, role and id are what they were. While the outcome of a try is not known it tries
	// again, and says ErrStaleAccount only where a itself was not stored by it.
	Replace(ctx context.Context, a Account) error
	// Delete erases a for good, with everything the store kept of its earlier versions, or says ErrStaleAccount where there is another
	// version of it by now than a.Revision names. It succeeds where a is gone already, and leaves another account of the pair alone. The
	// pair is free then. While the outcome of a try is not known it tries again.
	Delete(ctx context.Context, a Account) error
	// List returns up to limit accounts (at least 1), in an order of the store's own, that come after the cursor: "" at the
	// beginning, and then what the call before returned as next, which is "" again at the end. An account that was there when the
	// first page was asked for is on exactly one page; a page may be short, or empty, before the end.
	List(ctx context.Context, after string, limit int) (page []Account, next string, err error)
}

// What an AccountStore says.
var (
	ErrNoAccount = fault.New(fault.NotFound, "no_account", "There is no such account.")
	ErrTaken     = fault.New(fault.Conflict, "account_taken",
		"There is an account for this email and role already. Log in with it, or register another email.")
	ErrStaleAccount = fault.New(fault.Conflict, "stale_account", "The account was changed by somebody else at the same time. Please try again.")
)
