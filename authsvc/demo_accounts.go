package authsvc

import (
	"context"
	"errors"
	"time"

	"github.com/example/pillion/token"
)

// demoPassword is the password of both demo accounts, as in the original's curl lines.
const demoPassword = "password123"

// SeedDemo creates the accounts of the original's curl lines: john@example.com (user) and
// rider@example.com (raider). They are marked as demo accounts, which only a service with
// Config.Demo lets in; other services do nothing here. Existing accounts stay as they are, except
// that a demo account whose password was reset gets it back. SeedDemo may be repeated, and may run
// on several instances at once. It fails with kind fault.Unavailable while the store is
// unavailable.
func (s *Service) SeedDemo(ctx context.Context) error {
	if !s.c.Demo {
		return nil
	}
	for _, a := range []Account{
		{Email: "john@example.com", EmailAsEntered: "john@example.com", Role: token.User, Demo: true},
		{Email: "rider@example.com", EmailAsEntered: "rider@example.com", Role: token.Rider, Demo: true},
	} {
		made, err := s.createAccount(ctx, a, demoPassword)
		if errors.Is(err, ErrTaken) {
			if err = s.undoReset(ctx, a); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		s.c.Log.Info("demo account created", "account", made.ID, "role", string(made.Role))
	}
	return nil
}

// undoReset makes the password of a demo account good again. Operators cannot reset it, but those
// of older builds could, and nobody may set a new one.
func (s *Service) undoReset(ctx context.Context, demo Account) error {
	a, err := s.c.Accounts.Find(ctx, demo.Email, demo.Role)
	if err == nil && a.Demo && a.Reset != "" {
		a.Reset, a.ResetUntil = "", time.Time{}
		err = s.c.Accounts.Replace(ctx, a)
	}
	if errors.Is(err, ErrNoAccount) || errors.Is(err, ErrStaleAccount) {
		return nil // it was somebody's own, or another instance was faster
	}
	return err
}
