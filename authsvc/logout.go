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

const onlyPeople = "Only users and raiders have sessions"

// A leaver is whose session a request is to end.
type leaver struct {
	token.Claims      // of the access token, or what is known of the refresh token's session
	cookie       bool // it was a cookie that said so
}

// A prover says whose the first good one of some refresh tokens is, which came in a cookie or not.
type prover func(ctx context.Context, presented []string, cookie bool, try *attempt) (token.Claims, error)

// leaver returns who asks to be logged out. Most come when their access token has just run out, so
// a refresh token will do, in the body or in a cookie. One in the body is meant, whatever else is
// there; a cookie, which browsers send by themselves, counts where the access token is not good.
// prove says whose a refresh token is.
func (s *Service) leaver(r *http.Request, prove prover, try *attempt) (leaver, error) {
	var b refreshBody
	if err := web.DecodeOptional(r, &b); err != nil {
		return leaver{}, err
	}
	ctx := r.Context()
	if b.RefreshToken != "" {
		c, err := prove(ctx, []string{b.RefreshToken}, false, try)
		return leaver{Claims: c}, err
	}
	c, err := web.Identify(s.verifier, r, onlyPeople, token.User, token.Rider)
	inCookies := refreshCookies(r)
	if err == nil || len(inCookies) == 0 {
		return leaver{Claims: c}, err
	}
	if err := refuseCrossOrigin(r); err != nil {
		return leaver{}, err
	}
	c, err = prove(ctx, inCookies, true, try)
	return leaver{c, true}, err
}

// logout ends the session of the access token, or of the refresh token.
func (s *Service) logout(w http.ResponseWriter, r *http.Request) error {
	return s.leave(w, r, logouts, s.ownSession, func(ctx context.Context, c token.Claims) (session, error) {
		if c.Session == "" {
			return session{}, ErrNoSession
		}
		return s.sessions.end(ctx, c.Session, "logout")
	})
}

// logoutAll ends every session of the account of the access token, or of the refresh token.
func (s *Service) logoutAll(w http.ResponseWriter, r *http.Request) error {
	return s.leave(w, r, logoutsAll, s.refreshed, s.tryLogoutAll)
}

// leave finds out who asks for it, and ends what end ends.
func (s *Service) leave(w http.ResponseWriter, r *http.Request, what action, prove prover,
	end func(context.Context, token.Claims) (session, error),
) error {
	var try attempt
	l, err := s.leaver(r, prove, &try)
	if err != nil {
		if errors.Is(err, ErrInvalidRefreshToken) || errors.Is(err, ErrCrossOrigin) {
			s.record(w, r, what, try, err)
		}
		if l.cookie && errors.Is(err, ErrInvalidRefreshToken) {
			s.cookies.clear(w, r)
		}
		return err
	}
	x, err := end(r.Context(), l.Claims)
	s.record(w, r, what, attemptOf(l.Claims), err)
	if err != nil {
		return err
	}
	if x.cookie || l.cookie {
		s.cookies.clear(w, r)
	}
	return web.WriteJSON(w, http.StatusOK, doneAnswer{Status: true, Message: "Logout Successful"})
}

// ownSession returns what is known of the session of the first token that one has ever given out.
// Whether it is still good for a refresh does not matter: its session is to end.
func (s *Service) ownSession(ctx context.Context, presented []string, _ bool, try *attempt) (token.Claims, error) {
	var err error
	for _, p := range presented {
		t, ok := parseRefreshToken(p)
		if !ok {
			err = refuseToken(errNotAToken)
			continue
		}
		try.session = t.session
		var x session
		if x, err = s.sessions.of(ctx, t); !errors.Is(err, ErrInvalidRefreshToken) {
			return token.Claims{Subject: x.account, Email: string(x.email), Role: x.role, Session: x.id}, err
		}
		if limited := s.throttle.BadToken(ctx, web.ClientNetwork(ctx)); limited != nil {
			return token.Claims{}, limited
		}
	}
	return token.Claims{}, err
}

// refreshed returns the claims of an access token that the refresh token is good for, which is used
// up: what ends all sessions of an account must be good for a new one.
func (s *Service) refreshed(ctx context.Context, presented []string, cookie bool, try *attempt) (token.Claims, error) {
	p, err := s.tryRefresh(ctx, presented, cookie, try)
	return p.claims, err
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
	a.SessionEpoch++
	a.NotBefore = now.UTC().Truncate(time.Second).Add(time.Second)
}

// revokeAccount takes back the access tokens of the eras before the present one.
func (s *Service) revokeAccount(ctx context.Context, a Account) error {
	return s.sessions.takeBack(ctx, token.Revocation{Subject: a.ID, NotBefore: a.NotBefore})
}
