package authsvc

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"pillion/fault"
	"pillion/web"
)

// ErrDemoPassword keeps the demo accounts as they are described: everybody knows their password, and anybody could change it.
var ErrDemoPassword = fault.New(fault.Forbidden, "demo_account", "The password of a demo account cannot be changed. Please register an account of your own.")

// passwordChange is the body of POST /password.
type passwordChange struct {
	Email   string `json:"email"`
	Role    string `json:"role"`
	Current string `json:"current"`
	New     string `json:"new"`
}

// password changes a password and ends every session of the account.
func (s *Service) password(w http.ResponseWriter, r *http.Request) error {
	var try attempt
	err := s.tryPassword(r, &try)
	s.record(w, r, passwordChanges, try, err)
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, doneAnswer{Status: true, Message: "Password Changed"})
}

func (s *Service) tryPassword(r *http.Request, try *attempt) error {
	ctx := r.Context()
	var b passwordChange
	if err := web.DecodeJSON(r, &b); err != nil {
		return err
	}
	role, err := roleOf(b.Role)
	if err != nil {
		return err
	}
	try.role = role
	if err := s.passwords.CheckLength(b.Current); err != nil {
		return err
	}
	if err := s.passwords.CheckNew(b.New); err != nil { // before the hash, and so the same for everybody
		return err
	}
	for {
		a, err := s.authenticate(ctx, credentials{Email: b.Email, Password: b.Current}, role, try)
		if err != nil {
			return err
		}
		if a.Demo {
			return ErrDemoPassword
		}
		if a.Hash, err = s.passwords.Hash(ctx, b.New); err != nil {
			return err
		}
		s.endEra(&a)
		err = s.accounts.Replace(ctx, a)
		if errors.Is(err, ErrStaleAccount) {
			continue // another password may be the current one now
		}
		if err != nil {
			return err
		}
		return s.revokeAccount(ctx, a)
	}
}

// rehash hashes the password of an account anew where its hash cost less than one of today. It is for whoever has just proved to know
// the password, and it is no reason to keep them out: what goes wrong is left for the next login.
func (s *Service) rehash(ctx context.Context, a Account, password string) {
	if !s.passwords.Outdated(a.Hash) {
		return
	}
	hash, err := s.passwords.Hash(ctx, password)
	if err == nil {
		a.Hash = hash
		err = s.accounts.Replace(ctx, a)
	}
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "password not hashed anew", slog.String("account", a.ID), slog.Any("error", err))
	}
}
