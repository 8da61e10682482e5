package authsvc

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/example/pillion/authsvc/throttle"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
)

// ErrDemoAccount keeps the demo accounts: everybody knows their password, and anybody could delete them.
var ErrDemoAccount = fault.New(fault.Forbidden, "demo_account", "A demo account cannot be deleted. Please register an account of your own.")

// deletion is the body of DELETE /account, and of POST /account/delete.
type deletion struct {
	Password string `json:"password"`
}

// deleteAccount erases the account of the access token.
func (s *Service) deleteAccount(w http.ResponseWriter, r *http.Request) error {
	c, _ := web.Caller(r.Context())
	try := attemptOf(c)
	own, err := s.tryDelete(r, c, &try)
	s.record(w, r, deletions, try, err)
	if err != nil {
		return err
	}
	if own.cookie {
		s.cookies.clear(w, r)
	}
	return web.WriteJSON(w, http.StatusOK, doneAnswer{Status: true, Message: "Account Deleted"})
}

// tryDelete erases the account first and takes its tokens back then. A login or refresh that is
// under way looks at the account after it has issued a token (see open and admit): what does not
// see that it is gone has issued a token that is taken back afterwards.
//
// In this order a failure in between can be mended by whoever was told of it. The token is still
// good, so the request can be made again; the account is gone, so there is no password to check any
// more, and nothing left to protect with it.
//
// Nobody is left alone in a ride: who has one that is not over is refused, and what waits for a
// rider is called off first.
func (s *Service) tryDelete(r *http.Request, c token.Claims, try *attempt) (own session, err error) {
	ctx := r.Context()
	var b deletion
	if err := web.DecodeJSON(r, &b); err != nil {
		return session{}, err
	}
	if err := s.passwords.CheckLength(b.Password); err != nil {
		return session{}, err
	}
	for {
		there, free, err := s.owns(ctx, c)
		if err != nil {
			return session{}, err
		}
		if !there {
			return s.finishDeletion(ctx, c, free)
		}
		a, err := s.authenticate(ctx, credentials{Email: c.Email, Password: b.Password}, c.Role, try)
		if errors.Is(err, ErrInvalidCredentials) {
			if there, free, gone := s.owns(ctx, c); gone == nil && !there { // the same request, made twice, was faster
				return s.finishDeletion(ctx, c, free)
			}
		}
		if err != nil {
			return session{}, err
		}
		if a.ID != c.Subject {
			continue
		}
		if a.Demo {
			return session{}, ErrDemoAccount
		}
		if err := s.withdraw(ctx, a.ID, a.Role); err != nil {
			return session{}, err
		}
		if err := s.accounts.Delete(ctx, a); err != nil && !errors.Is(err, ErrStaleAccount) {
			return session{}, err
		}
		// Once more, gone or not: it may have another password by now.
	}
}

// owns reports whether the account is there that the token is of, and where it is not, whether nobody else has its email and role.
func (s *Service) owns(ctx context.Context, c token.Claims) (there, free bool, err error) {
	switch a, err := s.accounts.Find(ctx, Email(c.Email), c.Role); {
	case errors.Is(err, ErrNoAccount):
		return false, true, nil
	case err != nil:
		return false, false, err
	default:
		return a.ID == c.Subject, false, nil
	}
}

// finishDeletion takes back the tokens of an account that is gone, and tidies up. It bears repetition. What counts of the pair is
// forgotten only where it is free: else it counts for another account.
func (s *Service) finishDeletion(ctx context.Context, c token.Claims, free bool) (own session, err error) {
	if err := s.sessions.takeBackAll(ctx, c.Subject); err != nil {
		return session{}, err
	}
	// What was booked or accepted since its rides were looked at has no owner any more.
	if err := s.bereave(context.WithoutCancel(ctx), c.Subject, c.Role); err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "rides not looked at", slog.String("account", c.Subject), slog.Any("error", err))
	}
	// No session goes on without its account. That this one goes at once says whether it has a cookie; the others go with their time.
	if c.Session != "" {
		if own, err = s.sessions.end(ctx, c.Session, "account deleted"); err != nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "session not tidied away", slog.String("session", c.Session), slog.Any("error", err))
		}
	}
	if err := s.throttle.Forget(ctx, c.Subject, throttle.Owner{Email: c.Email, Role: c.Role}, web.ClientNetwork(ctx), !free); err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "counters not tidied away", slog.String("account", c.Subject), slog.Any("error", err))
	}
	return own, nil
}
