package authsvc

import (
	"context"
	"errors"
	"net/http"

	"github.com/example/pillion/authsvc/session"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
)

// refreshBody is the body of POST /refresh. It may be empty if there is a cookie.
type refreshBody struct {
	RefreshToken string `json:"refresh_token"`
	Role         string `json:"role"` // of the cookie that counts; "": the one that all roles share
}

// cookieRole returns the role of the cookie that counts. Errors: ErrInvalidRole.
func (b refreshBody) cookieRole() (token.Role, error) {
	if b.Role == "" {
		return "", nil
	}
	return roleOf(b.Role)
}

// tokenAnswer has the original's fields in the original's order, and then its own.
type tokenAnswer struct {
	Status       bool   `json:"status"`
	Message      string `json:"message"`
	Token        string `json:"token"`
	ExpiresIn    int64  `json:"expires_in"` // seconds
	RefreshToken string `json:"refresh_token,omitempty"`
}

// A tokenPair is what a login or a refresh yields.
type tokenPair struct {
	access  string       // the signed access token
	claims  token.Claims // of the access token
	refresh session.Token
	session session.Session
}

// handOut returns the answer with a pair of tokens. The refresh token of a session with cookies
// goes into a cookie only: that of a role, as in nameOfCookie.
func (s *Service) handOut(w http.ResponseWriter, r *http.Request, role token.Role, message string, p tokenPair,
) tokenAnswer {
	answer := tokenAnswer{Status: true, Message: message, Token: p.access,
		ExpiresIn: int64(p.claims.ExpiresAt.Sub(p.claims.IssuedAt).Seconds())}
	if p.session.Cookie {
		s.cookies.set(w, r, role, p.refresh.Text(), p.session.Ends.Sub(s.c.Now()))
	} else {
		answer.RefreshToken = p.refresh.Text()
	}
	return answer
}

// refresh exchanges a refresh token for the next pair of tokens.
func (s *Service) refresh(w http.ResponseWriter, r *http.Request, try *attempt) (any, error) {
	presented, inCookie, role, err := refreshTokensOf(r)
	var pair tokenPair
	if err == nil {
		pair, err = s.exchange(r.Context(), presented, inCookie, try)
	}
	if err != nil {
		if inCookie && errors.Is(err, session.ErrInvalidToken) {
			s.cookies.clear(w, r, role)
		}
		return nil, err
	}
	return s.handOut(w, r, role, "Refresh Successful", pair), nil
}

// refreshTokensOf returns the refresh tokens of a request, whether they came in cookies, and of
// which role, as in nameOfCookie. The first good one counts. A token in the body goes before
// cookies, which browsers send by themselves.
func refreshTokensOf(r *http.Request) (presented []string, inCookie bool, role token.Role, err error) {
	decode := web.DecodeJSON
	if hasRefreshCookie(r) {
		decode = web.DecodeOptional
	}
	var b refreshBody
	if err := decode(r, &b); err != nil {
		return nil, false, "", err
	}
	if role, err = b.cookieRole(); err != nil {
		return nil, false, "", err
	}
	cookies := refreshCookies(r, role)
	if b.RefreshToken != "" || len(cookies) == 0 {
		return []string{b.RefreshToken}, false, role, nil
	}
	return cookies, true, role, requireSameOrigin(r)
}

// exchange exchanges the first good token of a request.
func (s *Service) exchange(ctx context.Context, presented []string, inCookie bool, try *attempt,
) (pair tokenPair, err error) {
	for _, p := range presented {
		var t session.Token
		if t, err = session.ParseToken(p); err != nil {
			continue
		}
		if pair, err = s.exchangeOne(ctx, t, inCookie, try); !errors.Is(err, session.ErrInvalidToken) {
			return pair, err
		}
	}
	return tokenPair{}, err
}

// Reasons to refuse the refresh token of a session because of its account, for operators.
var (
	errAccountGone = errors.New("account was deleted")
	errAccountOff  = errors.New("account may not log in")
	errEpochEnded  = errors.New("all sessions of the account were ended")
)

// exchangeOne exchanges a refresh token for the next pair of tokens. Errors:
// session.ErrInvalidToken with the reason as its cause. After any other error the client can send
// the same token again, and gets the same successor.
func (s *Service) exchangeOne(ctx context.Context, t session.Token, inCookie bool, try *attempt) (tokenPair, error) {
	*try = attempt{session: t.Session}
	u := s.sessions.Use(t, inCookie)
	pair, err := s.continueSession(ctx, u, try)
	u.Done(ctx, err)
	if err != nil {
		return tokenPair{}, s.refuseUse(ctx, t, err)
	}
	return pair, nil
}

// continueSession loads the session of a refresh token, decides whether its account lets it
// continue, issues an access token, and stores the session's next generation.
func (s *Service) continueSession(ctx context.Context, u *session.Use, try *attempt) (pair tokenPair, err error) {
	err = u.Load(ctx)
	try.account = u.Session.Account
	if err != nil {
		return tokenPair{}, err
	}
	try.role, try.email = u.Session.Role, Email(u.Session.Email)
	if err := s.c.Throttle.Refresh(ctx, u.Session.Account); err != nil {
		return tokenPair{}, err
	}
	if pair.access, pair.claims, err = s.issueNext(ctx, u.Session); err != nil {
		return tokenPair{}, err
	}
	if pair.refresh, err = u.Store(ctx); err != nil {
		return tokenPair{}, err
	}
	pair.session, try.repeated = u.Session, u.Repeated
	return pair, nil
}

// refuseUse does what follows from a refusal, and returns the error for the client. A reused
// token ends the session: two parties have it, one of them is a thief, and nothing tells them
// apart.
func (s *Service) refuseUse(ctx context.Context, t session.Token, err error) error {
	for _, ends := range []error{session.ErrReused, session.ErrEnded, errAccountGone, errEpochEnded} {
		if errors.Is(err, ends) {
			if _, failed := s.sessions.End(ctx, t.Session, reasonOf(err)); failed != nil {
				return bus.ErrUnavailable.Because(errors.Join(err, failed))
			}
		}
	}
	// A reuse is not limited, but answered as such.
	if errors.Is(err, session.ErrInvalidToken) && !errors.Is(err, session.ErrReused) {
		if limited := s.c.Throttle.BadToken(ctx, web.ClientNetwork(ctx)); limited != nil {
			return limited
		}
	}
	return err
}

// issueNext returns a new access token for a session, if its account still lets it continue.
//
// It issues the token first and looks at the account then. A later end of all sessions
// begins an epoch after the token's second, and so revokes the token.
func (s *Service) issueNext(ctx context.Context, x session.Session) (signed string, c token.Claims, err error) {
	refuse := func(why error) (string, token.Claims, error) {
		return "", token.Claims{}, session.ErrInvalidToken.Because(why)
	}
	email := Email(x.Email)
	owner := Account{ID: x.Account, Email: email, Role: x.Role}
	for {
		if signed, c, err = s.issue(ctx, owner, x.ID); err != nil {
			return "", token.Claims{}, err
		}
		a, err := s.c.Accounts.Find(ctx, email, x.Role)
		switch {
		case errors.Is(err, ErrNoAccount) || err == nil && a.ID != x.Account:
			return refuse(errAccountGone)
		case err != nil:
			return "", token.Claims{}, err
		case !s.mayLogIn(a):
			return refuse(errAccountOff)
		case a.SessionEpoch != x.Epoch:
			return refuse(errEpochEnded)
		case !c.IssuedAt.Before(a.NotBefore):
			return signed, c, nil
		}
		owner = a // another instance's clock is ahead of this one's: wait for it
	}
}
