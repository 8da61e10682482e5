package authsvc

import (
	"context"
	"errors"
	"net/http"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
)

// refreshBody is the body of POST /refresh. With a cookie it may be empty.
type refreshBody struct {
	RefreshToken string `json:"refresh_token"`
}

// tokenAnswer keeps the order of the original's fields.
type tokenAnswer struct {
	Status       bool   `json:"status"`
	Message      string `json:"message"`
	Token        string `json:"token"`
	ExpiresIn    int64  `json:"expires_in"` // seconds
	RefreshToken string `json:"refresh_token,omitempty"`
}

// A pass is what a login or a refresh gives.
type pass struct {
	exchange
	signed string
	claims token.Claims
}

// handOut answers with a pass. The refresh token of a session with cookies is in a cookie, and nowhere else.
func (s *Service) handOut(w http.ResponseWriter, r *http.Request, message string, p pass) error {
	answer := tokenAnswer{Status: true, Message: message, Token: p.signed, ExpiresIn: int64(p.claims.ExpiresAt.Sub(p.claims.IssuedAt).Seconds())}
	if p.session.cookie {
		s.cookies.set(w, r, p.token.text(), p.session.ends.Sub(s.now()))
	} else {
		answer.RefreshToken = p.token.text()
	}
	return web.WriteJSON(w, http.StatusOK, answer)
}

func (s *Service) refresh(w http.ResponseWriter, r *http.Request) error {
	var try attempt
	presented, cookie, err := refreshTokensOf(r)
	var p pass
	if err == nil {
		p, err = s.tryRefresh(r.Context(), presented, cookie, &try)
	}
	try.again = p.again
	s.record(w, r, refreshes, try, err)
	if err != nil {
		if cookie && errors.Is(err, ErrInvalidRefreshToken) {
			s.cookies.clear(w, r)
		}
		return err
	}
	return s.handOut(w, r, "Refresh Successful", p)
}

// refreshTokensOf returns the refresh tokens that a request carries, one of which is to be good,
// and whether a cookie did. One in the body is meant, whatever cookies a browser adds.
func refreshTokensOf(r *http.Request) (presented []string, cookie bool, err error) {
	inCookies := refreshCookies(r)
	cookie = len(inCookies) > 0
	decode := web.DecodeJSON
	if cookie {
		decode = web.DecodeOptional
	}
	var b refreshBody
	if err := decode(r, &b); err != nil {
		return nil, cookie, err
	}
	if b.RefreshToken != "" || !cookie {
		return []string{b.RefreshToken}, false, nil
	}
	return inCookies, true, requireSameOrigin(r)
}

// tryRefresh exchanges the first of these tokens that is good.
func (s *Service) tryRefresh(ctx context.Context, presented []string, cookie bool, try *attempt) (p pass, err error) {
	for _, token := range presented {
		if p, err = s.tryOne(ctx, token, cookie, try); !errors.Is(err, ErrInvalidRefreshToken) {
			return p, err
		}
	}
	return p, err
}

func (s *Service) tryOne(ctx context.Context, presented string, cookie bool, try *attempt) (pass, error) {
	t, ok := parseRefreshToken(presented)
	if !ok {
		return pass{}, refuseToken(errNotAToken)
	}
	try.session = t.session
	var p pass
	x, err := s.sessions.use(ctx, t, cookie, func(ctx context.Context, x session) (err error) {
		try.account, try.role, try.email = x.account, x.role, x.email
		if err := s.throttle.Refresh(ctx, x.account); err != nil {
			return err
		}
		p.signed, p.claims, err = s.admit(ctx, x)
		return err
	})
	try.account = x.session.account
	switch {
	case errors.Is(err, errReused):
		// Two have this token, and one of them is a thief: there is no telling which.
		if _, failed := s.sessions.end(ctx, t.session, reasonOf(err)); failed != nil {
			return pass{}, bus.ErrUnavailable.Because(errors.Join(err, failed))
		}
	case errors.Is(err, errOver), errors.Is(err, errAccountGone), errors.Is(err, errSignedOut):
		if _, failed := s.sessions.end(ctx, t.session, reasonOf(err)); failed != nil { // or finish what was begun
			return pass{}, bus.ErrUnavailable.Because(errors.Join(err, failed))
		}
	}
	if errors.Is(err, ErrInvalidRefreshToken) && !errors.Is(err, errReused) { // which is told as what it is
		if limited := s.throttle.BadToken(ctx, web.ClientNetwork(ctx)); limited != nil {
			return pass{}, limited
		}
	}
	if err != nil {
		return pass{}, err
	}
	p.exchange = x
	return p, nil
}

// admit returns a new access token for a session whose account still lets it go on.
//
// The token is issued first and the account is looked at then: whoever ends all sessions afterwards does so as of a later second than
// the token is of, and so takes it back.
func (s *Service) admit(ctx context.Context, x session) (signed string, c token.Claims, err error) {
	owner := Account{ID: x.account, Email: x.email, Role: x.role}
	for {
		if signed, c, err = s.issue(ctx, owner, x.id); err != nil {
			return "", token.Claims{}, err
		}
		a, err := s.accounts.Find(ctx, x.email, x.role)
		switch {
		case errors.Is(err, ErrNoAccount) || err == nil && a.ID != x.account:
			return "", token.Claims{}, refuseToken(errAccountGone)
		case err != nil:
			return "", token.Claims{}, err
		case !s.mayLogIn(a):
			return "", token.Claims{}, refuseToken(errAccountOff)
		case a.SessionEpoch != x.era:
			return "", token.Claims{}, refuseToken(errSignedOut)
		case !c.IssuedAt.Before(a.NotBefore):
			return signed, c, nil
		}
		owner = a // another instance's clock is ahead of ours: wait for it
	}
}
