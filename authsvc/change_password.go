package authsvc

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
)

// ErrDemoPassword protects the demo accounts. Their password is public, so anybody could change it.
var ErrDemoPassword = fault.New(fault.Forbidden, "demo_account",
	"The password of a demo account cannot be changed. Please register an account of your own.")

var errBothProofs = fault.New(fault.Invalid, "both_proofs",
	"Send either the current password or an operator's code, but not both.")

// passwordBody is the body of POST /password.
type passwordBody struct {
	Email   string `json:"email"`
	Role    string `json:"role"`
	Current string `json:"current"`
	Code    string `json:"code"` // an operator's, in place of Current
	New     string `json:"new"`
}

// changePassword changes a password and ends every session of the account.
func (s *Service) changePassword(_ http.ResponseWriter, r *http.Request, try *attempt) (any, error) {
	var b passwordBody
	if err := web.DecodeJSON(r, &b); err != nil {
		return nil, err
	}
	role, err := roleOf(b.Role)
	if err != nil {
		return nil, err
	}
	try.role = role
	if b.Current != "" && b.Code != "" {
		return nil, errBothProofs
	}
	if err := s.c.Hasher.CheckLength(b.Current); err != nil {
		return nil, err
	}
	// This comes before the hash, and so is the same for every account.
	if err := s.c.Hasher.CheckNew(b.New, b.Email); err != nil {
		return nil, err
	}
	if err := s.setPassword(r.Context(), b, role, try); err != nil {
		return nil, err
	}
	return done("Password Changed"), nil
}

// setPassword stores the new password, if the request proves the right to do so, and revokes the
// account's tokens.
func (s *Service) setPassword(ctx context.Context, b passwordBody, role token.Role, try *attempt) error {
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
		if a.Hash, err = s.c.Hasher.Hash(ctx, b.New); err != nil {
			return err
		}
		a.Reset, a.ResetUntil = "", time.Time{}
		a.beginEpoch(s.c.Now())
		err = s.c.Accounts.Replace(ctx, a)
		if errors.Is(err, ErrStaleAccount) {
			continue // the account may have another password now
		}
		if err != nil {
			return err
		}
		return s.revoker.revokeEpochs(ctx, a)
	}
}

// repeatChange is how long after a change of the password the same request may be repeated.
const repeatChange = time.Minute

// finishChange answers a request whose password or code was refused. The same request may have
// changed the password before, and its answer was lost, or was 503 because the tokens could not
// be revoked. The new password is the account's password then, and finishChange revokes the
// tokens. Otherwise the request is refused, after the same work.
func (s *Service) finishChange(ctx context.Context, b passwordBody, role token.Role, try *attempt) error {
	a, known, err := s.lookUp(ctx, b.Email, role, try)
	if err != nil {
		return err
	}
	recent := known && s.mayLogIn(a) && a.Reset == "" && s.c.Now().Sub(a.NotBefore) < repeatChange
	if !recent {
		a = Account{} // costs the same
	}
	match, err := s.c.Hasher.Verify(ctx, b.New, a.Hash)
	if err != nil {
		return err
	}
	if !match {
		return ErrInvalidCredentials
	}
	try.reason = "changed already"
	s.settle(ctx, try.reservation.Succeeded)
	return s.revoker.revokeEpochs(ctx, a)
}

// authenticateByCode returns the account whose password the code resets, or
// ErrInvalidCredentials, after the same work whatever is wrong. A wrong code counts as a wrong
// password. Replace makes sure that a code works once: the new password and the removal of the
// code are one change.
func (s *Service) authenticateByCode(ctx context.Context, typed, code string, role token.Role, try *attempt,
) (Account, error) {
	reservation, err := s.c.Throttle.Reserve(ctx, web.ClientNetwork(ctx), ownerOf(typed, role))
	if err != nil {
		return Account{}, err
	}
	try.reservation = reservation
	a, known, err := s.lookUp(ctx, typed, role, try)
	if err != nil {
		s.settle(ctx, reservation.Withdraw)
		return Account{}, err
	}
	switch right := a.takesCode(code, s.c.Now()); {
	case !known:
		return Account{}, try.refuse("unknown account")
	case !right:
		return Account{}, try.refuse("wrong or expired reset code")
	case a.Disabled:
		return Account{}, try.refuse("disabled account")
	}
	s.settle(ctx, reservation.Succeeded)
	return a, nil
}
