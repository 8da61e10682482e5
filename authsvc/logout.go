package authsvc

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"pillion/fault"
	"pillion/token"
	"pillion/web"
)

// ErrNoSession is for a token that nobody got by logging in.
var ErrNoSession = fault.New(fault.Invalid, "no_session", "This token belongs to no session, so there is nothing to log out of.")

// doneAnswer is the answer to what gives nothing back.
type doneAnswer struct {
	Status  bool   `json:"status"`
	Message string `json:"message"`
}

// attemptOf notes who makes a request, which has been verified.
func attemptOf(c token.Claims) attempt {
	return attempt{email: Email(c.Email), role: c.Role, account: c.Subject, session: c.Session}
}

// logout ends the session of the access token.
func (s *Service) logout(w http.ResponseWriter, r *http.Request) error {
	c, _ := web.Caller(r.Context())
	var x session
	err := error(ErrNoSession)
	if c.Session != "" {
		x, err = s.sessions.end(r.Context(), c.Session, "logout")
	}
	s.record(w, r, logouts, attemptOf(c), err)
	if err != nil {
		return err
	}
	if x.cookie {
		clearRefreshCookie(w, r)
	}
	return web.WriteJSON(w, http.StatusOK, doneAnswer{Status: true, Message: "Logout Successful"})
}

// logoutAll ends every session of the account of the access token.
func (s *Service) logoutAll(w http.ResponseWriter, r *http.Request) error {
	c, _ := web.Caller(r.Context())
	x, err := s.tryLogoutAll(r.Context(), c)
	s.record(w, r, logoutsAll, attemptOf(c), err)
	if err != nil {
		return err
	}
	if x.cookie {
		clearRefreshCookie(w, r)
	}
	return web.WriteJSON(w, http.StatusOK, doneAnswer{Status: true, Message: "Logout Successful"})
}

func (s *Service) tryLogoutAll(ctx context.Context, c token.Claims) (own session, err error) {
	for {
		a, err := s.accounts.Find(ctx, Email(c.Email), c.Role)
		if errors.Is(err, ErrNoAccount) || err == nil && a.ID != c.Subject {
			a = Account{ID: c.Subject} // it is gone, but its tokens are not
			a.endEra(s.now())
		} else if err == nil {
			a.endEra(s.now())
			err = s.accounts.Replace(ctx, a)
		}
		if errors.Is(err, ErrStaleAccount) {
			continue
		}
		if err != nil && !errors.Is(err, ErrNoAccount) {
			return session{}, err
		}
		if err := s.revokeAccount(ctx, a); err != nil {
			return session{}, err // this token is still good, and the request may be made again
		}
		if c.Session == "" {
			return session{}, nil
		}
		// All sessions are over with their era. Ending this one besides says whether it has a cookie, and makes room.
		own, err = s.sessions.end(ctx, c.Session, "logout of all sessions")
		if err != nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "session not tidied away", slog.String("session", c.Session), slog.Any("error", err))
		}
		return own, nil
	}
}

// endEra makes a the account whose sessions have all been ended now: those that there are belong to an era that is over, and tokens of
// this second and before are not good any more. Whoever logs in waits for the next second.
func (a *Account) endEra(now time.Time) {
	a.Era++
	a.NotBefore = now.UTC().Truncate(time.Second).Add(time.Second)
}

// revokeAccount takes back the access tokens of the eras before the present one.
func (s *Service) revokeAccount(ctx context.Context, a Account) error {
	return s.sessions.takeBack(ctx, token.Revocation{Subject: a.ID, NotBefore: a.NotBefore})
}
