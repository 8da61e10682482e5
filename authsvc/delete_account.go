package authsvc

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/example/pillion/authsvc/session"
	"github.com/example/pillion/authsvc/throttle"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
)

// ErrDemoAccount protects the demo accounts. Their password is public, so anybody could delete
// them.
var ErrDemoAccount = fault.New(fault.Forbidden, "demo_account",
	"A demo account cannot be deleted. Please register an account of your own.")

// deleteBody is the body of DELETE /account and POST /account/delete.
type deleteBody struct {
	Password string `json:"password"`
}

// deleteAccount deletes the account of the access token.
func (s *Service) deleteAccount(w http.ResponseWriter, r *http.Request, try *attempt) (any, error) {
	c, _ := web.Caller(r.Context())
	*try = attemptOf(c)
	var b deleteBody
	if err := web.DecodeJSON(r, &b); err != nil {
		return nil, err
	}
	if err := s.c.Hasher.CheckLength(b.Password); err != nil {
		return nil, err
	}
	own, err := s.deleteOwn(r.Context(), c, b.Password, try)
	if err != nil {
		return nil, err
	}
	if own.Cookie {
		s.cookies.clear(w, r, "")
	}
	return done("Account Deleted"), nil
}

// deleteOwn deletes the account of an access token and returns the token's session.
//
// It deletes the account first and revokes the tokens then. A simultaneous login or refresh looks
// at the account after it has issued a token, so a token that it issued too early is revoked
// here.
//
// In this order the caller can repair a failure in between: the token still works, so the request
// can be repeated. There is no password to check then, and nothing left to protect with one.
//
// Open bookings are cancelled first. An account with an unfinished ride is refused.
func (s *Service) deleteOwn(ctx context.Context, c token.Claims, password string, try *attempt,
) (session.Session, error) {
	for {
		exists, reused, err := s.owns(ctx, c)
		if err != nil {
			return session.Session{}, err
		}
		if !exists {
			return s.finishDeletion(ctx, c, reused)
		}
		a, err := s.authenticate(ctx, credentials{Email: c.Email, Password: password}, c.Role, try)
		if errors.Is(err, ErrInvalidCredentials) {
			// The same request, sent twice, was faster.
			if exists, reused, lookErr := s.owns(ctx, c); lookErr == nil && !exists {
				return s.finishDeletion(ctx, c, reused)
			}
		}
		if err != nil {
			return session.Session{}, err
		}
		if a.ID != c.Subject {
			continue
		}
		if a.Demo {
			return session.Session{}, ErrDemoAccount
		}
		if err := s.c.CancelBookings(ctx, a.ID, a.Role); err != nil {
			return session.Session{}, err
		}
		if err := s.c.Accounts.Delete(ctx, a); err != nil && !errors.Is(err, ErrStaleAccount) {
			return session.Session{}, err
		}
		// Check again: if the account was changed meanwhile, it may have another password.
	}
}

// owns reports whether the account of the token exists and, if it does not, whether another account
// has reused its email and role.
func (s *Service) owns(ctx context.Context, c token.Claims) (exists, reused bool, err error) {
	switch a, err := s.c.Accounts.Find(ctx, Email(c.Email), c.Role); {
	case errors.Is(err, ErrNoAccount):
		return false, false, nil
	case err != nil:
		return false, false, err
	default:
		return a.ID == c.Subject, a.ID != c.Subject, nil
	}
}

// finishDeletion revokes the tokens of a deleted account, ends its rides, and removes its session
// and counters. It returns the token's session, and may be repeated.
func (s *Service) finishDeletion(ctx context.Context, c token.Claims, reused bool) (own session.Session, err error) {
	if err := s.revoker.revokeSubject(ctx, c.Subject); err != nil {
		return session.Session{}, err
	}
	warn := func(message string, err error) {
		if err != nil {
			s.c.Log.LogAttrs(ctx, slog.LevelWarn, message, slog.String("account", c.Subject), slog.Any("error", err))
		}
	}
	// Bookings may have been made or accepted since cancelBookings.
	warn("cannot end the rides of a deleted account", s.c.EndRides(context.WithoutCancel(ctx), c.Subject, c.Role))
	// No session outlives its account. This one is ended to see whether it has a cookie; others
	// expire.
	if c.Session != "" {
		own, err = s.sessions.End(ctx, c.Session, "account deleted")
		warn("cannot remove the session of a deleted account", err)
	}
	owner := throttle.Owner{Email: c.Email, Role: c.Role}
	warn("cannot remove the counters of a deleted account",
		s.c.Throttle.Forget(ctx, c.Subject, owner, web.ClientNetwork(ctx), reused))
	return own, nil
}
