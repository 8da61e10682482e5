package authsvc

import (
	"context"
	"errors"

	"github.com/example/pillion/token"
)

// demoPassword is that of both demo accounts, as in the original's curl lines.
const demoPassword = "password123"

// SeedDemo makes the accounts of the original's curl lines, john@example.com (user) and rider@example.com (raider), flagged as
// demo accounts: a service without Demo never lets them in. It does nothing unless the service has Demo, leaves accounts of these
// names as they are, and may run any number of times and on several instances at once. It fails with kind fault.Unavailable while
// the store is away.
func (s *Service) SeedDemo(ctx context.Context) error {
	if !s.demo {
		return nil
	}
	for _, a := range []Account{
		{Email: "john@example.com", EmailAsEntered: "john@example.com", Role: token.User, Demo: true},
		{Email: "rider@example.com", EmailAsEntered: "rider@example.com", Role: token.Rider, Demo: true},
	} {
		made, err := s.createAccount(ctx, a, demoPassword)
		if errors.Is(err, ErrTaken) {
			continue
		}
		if err != nil {
			return err
		}
		s.log.Info("demo account made", "account", made.ID, "role", string(made.Role))
	}
	return nil
}
