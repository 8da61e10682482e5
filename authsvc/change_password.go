package authsvc

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
)

// ErrDemoPassword keeps the demo accounts as they are described: everybody knows their password, and anybody could change it.
var ErrDemoPassword = fault.New(fault.Forbidden, "demo_account", "The password of a demo account cannot be changed. Please register an account of your own.")

// passwordChange is the body of POST /password.
type passwordChange struct {
	Email   string `json:"email"`
	Role    string `json:"role"`
	Current string `json:"current"`
	Code    string `json:"code"` // of an operator, in place of Current
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
	if b.Current != "" && b.Code != "" {
		return errBothProofs
	}
	if err := s.passwords.CheckLength(b.Current); err != nil {
		return err
	}
	if err := s.passwords.CheckNew(b.New); err != nil { // before the hash, and so the same for everybody
		return err
	}
	for {
		var a Account
		var err error
		if b.Code != "" {
			a, err = s.authenticateByCode(ctx, b.Email, b.Code, role, try)
		} else {
			a, err = s.authenticate(ctx, credentials{Email: b.Email, Password: b.Current}, role, try)
		}
		if errors.Is(err, ErrInvalidCredentials) {
			return s.finishChange(ctx, b, role, try)
		}
		if err != nil {
			return err
		}
		if a.Demo {
			return ErrDemoPassword
		}
		if a.Hash, err = s.passwords.Hash(ctx, b.New); err != nil {
			return err
		}
		a.Reset, a.ResetUntil = "", time.Time{}
		a.endEra(s.now())
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

// changeRepeats is for how long after a change the same request may be made again.
const changeRepeats = time.Minute

// finishChange answers a change whose password or code was refused. The same request may have been made before, and its answer got lost, or it was 503
// because the tokens could not be taken back: then its new password is the present one, and what is left of it is done. Anybody else
// is refused, after the same work.
func (s *Service) finishChange(ctx context.Context, b passwordChange, role token.Role, try *attempt) error {
	a, known, err := s.lookUp(ctx, b.Email, role, try)
	if err != nil {
		return err
	}
	lately := known && s.mayLogIn(a) && a.Reset == "" && s.now().Sub(a.NotBefore) < changeRepeats
	if !lately {
		a = Account{} // costs the same
	}
	match, err := s.passwords.Verify(ctx, b.New, a.Hash)
	if err != nil {
		return err
	}
	if !match {
		return ErrInvalidCredentials
	}
	try.reason = "changed already"
	s.settle(ctx, try.reservation.Succeeded)
	return s.revokeAccount(ctx, a)
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

var errBothProofs = fault.New(fault.Invalid, "both_proofs", "Give the current password or the code of an operator, and not both.")

// authenticateByCode returns the account whose password the code resets, or ErrInvalidCredentials, after the same work whatever is wrong. It is
// a wrong try like any other. That a code is good once is for Replace to see to: whoever sets the new password takes the code away with it.
func (s *Service) authenticateByCode(ctx context.Context, typed, code string, role token.Role, try *attempt) (Account, error) {
	t, err := s.throttle.Reserve(ctx, web.ClientNetwork(ctx), ownerOf(typed, role))
	if err != nil {
		return Account{}, err
	}
	try.reservation = t
	a, known, err := s.lookUp(ctx, typed, role, try)
	if err != nil {
		s.settle(ctx, t.Withdraw)
		return Account{}, err
	}
	switch right := a.takesCode(code, s.now()); {
	case !known:
		return Account{}, try.refuse("unknown account")
	case !right:
		return Account{}, try.refuse("wrong or expired reset code")
	case a.Disabled:
		return Account{}, try.refuse("disabled account")
	}
	s.settle(ctx, t.Succeeded)
	return a, nil
}
