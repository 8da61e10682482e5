package authsvc

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/example/pillion/authsvc/session"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
)

// ErrNoSession refuses to log out a token that no login has given out.
var ErrNoSession = fault.New(fault.Invalid, "no_session",
	"This token belongs to no session, so there is nothing to log out of.")

const onlyPeople = "Only users and raiders have sessions"

// logout ends the session of the access token or refresh token.
func (s *Service) logout(w http.ResponseWriter, r *http.Request, try *attempt) (any, error) {
	return s.leave(w, r, try, s.sessionOf, func(ctx context.Context, c token.Claims) (session.Session, error) {
		if c.Session == "" {
			return session.Session{}, ErrNoSession
		}
		return s.sessions.End(ctx, c.Session, "logout")
	})
}

// logoutAll ends every session of the account of the access token or refresh token. It uses up the
// refresh token: what ends all sessions must be good for a new one.
func (s *Service) logoutAll(w http.ResponseWriter, r *http.Request, try *attempt) (any, error) {
	prove := func(ctx context.Context, presented []string, inCookie bool, try *attempt) (token.Claims, error) {
		pair, err := s.exchange(ctx, presented, inCookie, try)
		return pair.claims, err
	}
	return s.leave(w, r, try, prove, s.endAllSessions)
}

// A proveFunc returns the claims that the first good refresh token of a request proves.
type proveFunc func(ctx context.Context, presented []string, inCookie bool, try *attempt) (token.Claims, error)

// leave identifies the caller, ends what end ends, and clears the refresh cookie. end returns the
// caller's own session.
func (s *Service) leave(w http.ResponseWriter, r *http.Request, try *attempt, prove proveFunc,
	end func(context.Context, token.Claims) (session.Session, error),
) (any, error) {
	c, byCookie, role, err := s.identify(r, prove, try)
	if err != nil {
		bad := errors.Is(err, session.ErrInvalidToken)
		try.unrecorded = !bad && !errors.Is(err, ErrCrossOrigin)
		if byCookie && bad {
			s.cookies.clear(w, r, role)
		}
		return nil, err
	}
	*try = attemptOf(c)
	own, err := end(r.Context(), c)
	if err != nil {
		return nil, err
	}
	if own.Cookie || byCookie {
		s.cookies.clear(w, r, role)
	}
	return done("Logout Successful"), nil
}

// identify returns who wants to log out, and whether a cookie proved it. Most clients come when
// their access token has expired, so a refresh token is enough. One in the body counts before the
// access token; a cookie, which browsers send by themselves, counts only without a good access
// token. identify also returns the role of the cookie, as in nameOfCookie.
func (s *Service) identify(r *http.Request, prove proveFunc, try *attempt,
) (c token.Claims, byCookie bool, role token.Role, err error) {
	var b refreshBody
	if err := web.DecodeOptional(r, &b); err != nil {
		return token.Claims{}, false, "", err
	}
	if role, err = b.cookieRole(); err != nil {
		return token.Claims{}, false, "", err
	}
	ctx := r.Context()
	if b.RefreshToken != "" {
		c, err := prove(ctx, []string{b.RefreshToken}, false, try)
		return c, false, role, err
	}
	c, err = web.Identify(s.c.Verifier, r, onlyPeople, token.User, token.Rider)
	cookies := refreshCookies(r, role)
	if err == nil || len(cookies) == 0 {
		return c, false, role, err
	}
	if err := refuseCrossOrigin(r); err != nil {
		return token.Claims{}, false, "", err
	}
	c, err = prove(ctx, cookies, true, try)
	return c, true, role, err
}

// sessionOf returns the claims of the session that gave out the first genuine refresh token. The
// token need not be good for a refresh: its session is about to end.
func (s *Service) sessionOf(ctx context.Context, presented []string, _ bool, try *attempt) (c token.Claims, err error) {
	for _, p := range presented {
		var t session.Token
		if t, err = session.ParseToken(p); err != nil {
			continue
		}
		try.session = t.Session
		var x session.Session
		if x, err = s.sessions.Of(ctx, t); !errors.Is(err, session.ErrInvalidToken) {
			return token.Claims{Subject: x.Account, Email: x.Email, Role: x.Role, Session: x.ID}, err
		}
		if limited := s.c.Throttle.BadToken(ctx, web.ClientNetwork(ctx)); limited != nil {
			return token.Claims{}, limited
		}
	}
	return token.Claims{}, err
}

// endAllSessions ends the session epoch of the caller's account and returns the caller's session.
func (s *Service) endAllSessions(ctx context.Context, c token.Claims) (own session.Session, err error) {
	for {
		a, err := s.c.Accounts.Find(ctx, Email(c.Email), c.Role)
		if errors.Is(err, ErrNoAccount) || err == nil && a.ID != c.Subject {
			a = Account{ID: c.Subject} // the account was deleted, but its tokens may still work
			a.beginEpoch(s.c.Now())
		} else if err == nil {
			a.beginEpoch(s.c.Now())
			err = s.c.Accounts.Replace(ctx, a)
		}
		if errors.Is(err, ErrStaleAccount) {
			continue
		}
		if err != nil && !errors.Is(err, ErrNoAccount) {
			return session.Session{}, err
		}
		if err := s.revoker.revokeEpochs(ctx, a); err != nil {
			return session.Session{}, err // this token still works, so the request can be repeated
		}
		if c.Session == "" {
			return session.Session{}, nil
		}
		// All sessions have ended with their epoch. Ending this one shows whether it has a cookie.
		own, err = s.sessions.End(ctx, c.Session, "logout of all sessions")
		if err != nil {
			s.c.Log.LogAttrs(ctx, slog.LevelWarn, "cannot remove a session", slog.String("session", c.Session),
				slog.Any("error", err))
		}
		return own, nil
	}
}

// beginEpoch ends all sessions of the account by beginning its next session epoch: sessions of
// earlier epochs are over, and tokens issued until the end of this second are to be revoked. A
// login waits for the next second.
func (a *Account) beginEpoch(now time.Time) {
	a.SessionEpoch++
	a.NotBefore = now.UTC().Truncate(time.Second).Add(time.Second)
}
