package authsvc

import (
	"context"
	"errors"
	"net/http"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
)

// refreshBody is the body of POST /refresh. It may be empty if there is a cookie.
type refreshBody struct {
	RefreshToken string `json:"refresh_token"`
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
	refresh refreshToken
	session session // as it is stored now
}

// handOut returns the answer with a pair of tokens. The refresh token of a session with cookies goes
// into a cookie only.
func (s *Service) handOut(w http.ResponseWriter, r *http.Request, message string, p tokenPair) tokenAnswer {
	answer := tokenAnswer{Status: true, Message: message, Token: p.access, ExpiresIn: int64(p.claims.ExpiresAt.Sub(p.claims.IssuedAt).Seconds())}
	if p.session.cookie {
		s.cookies.set(w, r, p.refresh.text(), p.session.ends.Sub(s.now()))
	} else {
		answer.RefreshToken = p.refresh.text()
	}
	return answer
}

// refresh exchanges a refresh token for the next pair of tokens.
func (s *Service) refresh(w http.ResponseWriter, r *http.Request, try *attempt) (any, error) {
	presented, inCookie, err := refreshTokensOf(r)
	var pair tokenPair
	if err == nil {
		pair, err = s.exchange(r.Context(), presented, inCookie, try)
	}
	if err != nil {
		if inCookie && errors.Is(err, ErrInvalidRefreshToken) {
			s.cookies.clear(w, r)
		}
		return nil, err
	}
	return s.handOut(w, r, "Refresh Successful", pair), nil
}

// refreshTokensOf returns the refresh tokens of a request, and whether they came in cookies. The first
// good one counts. A token in the body goes before cookies, which browsers send by themselves.
func refreshTokensOf(r *http.Request) (presented []string, inCookie bool, err error) {
	cookies := refreshCookies(r)
	inCookie = len(cookies) > 0
	decode := web.DecodeJSON
	if inCookie {
		decode = web.DecodeOptional
	}
	var b refreshBody
	if err := decode(r, &b); err != nil {
		return nil, inCookie, err
	}
	if b.RefreshToken != "" || !inCookie {
		return []string{b.RefreshToken}, false, nil
	}
	return cookies, true, requireSameOrigin(r)
}

// exchange exchanges the first good token of a request.
func (s *Service) exchange(ctx context.Context, presented []string, inCookie bool, try *attempt) (pair tokenPair, err error) {
	for _, p := range presented {
		t, ok := parseRefreshToken(p)
		if !ok {
			err = refuseToken(errNotAToken)
			continue
		}
		if pair, err = s.exchangeOne(ctx, t, inCookie, try); !errors.Is(err, ErrInvalidRefreshToken) {
			return pair, err
		}
	}
	return tokenPair{}, err
}

// exchangeOne exchanges a refresh token for the next pair of tokens. Errors: ErrInvalidRefreshToken
// with the reason as its cause. After any other error the client can send the same token again, and
// gets the same successor.
func (s *Service) exchangeOne(ctx context.Context, t refreshToken, inCookie bool, try *attempt) (tokenPair, error) {
	*try = attempt{session: t.session}
	u := &tokenUse{token: t, inCookie: inCookie, arrived: s.now()}
	err := retryUntilDone(ctx, func() error {
		for {
			// Of several simultaneous uses one is stored. The others load the session again and find that
			// their token is the one before the current one.
			if err := s.use(ctx, u, try); !errors.Is(err, bus.ErrStale) {
				return err
			}
		}
	})
	s.sessions.extendGrace(ctx, u, err)
	if err != nil {
		return tokenPair{}, s.refuseUse(ctx, t, err)
	}
	try.repeated = u.repeated
	return u.pair, nil
}

// use loads the session, decides what the token is good for, and stores the session's next state over
// the very revision that it decided on. It issues an access token before it stores, and only once.
func (s *Service) use(ctx context.Context, u *tokenUse, try *attempt) error {
	have, revision, err := s.sessions.loadFor(ctx, u)
	if err != nil {
		return err
	}
	rotate, err := s.sessions.decide(u, have)
	if errors.Is(err, errEnded) || errors.Is(err, errReused) {
		try.account = have.account
	}
	if err != nil {
		return err
	}
	if u.pair.access == "" {
		try.account, try.role, try.email = have.account, have.role, have.email
		if err := s.throttle.Refresh(ctx, have.account); err != nil {
			return permanent(err)
		}
		if u.pair.access, u.pair.claims, err = s.issueNext(ctx, have); err != nil {
			return permanent(err)
		}
	}
	if rotate {
		return s.sessions.rotate(ctx, u, have, revision)
	}
	u.revision, u.pair.session = revision, have
	u.pair.refresh = u.token.successor(have.salt, have.tagKey)
	return nil
}

// refuseUse does what follows from a refusal, and returns the error for the client. A reused token ends
// the session: two parties have it, one of them is a thief, and nothing tells them apart.
func (s *Service) refuseUse(ctx context.Context, t refreshToken, err error) error {
	for _, ends := range []error{errReused, errEnded, errAccountGone, errEpochEnded} {
		if errors.Is(err, ends) {
			if _, failed := s.sessions.end(ctx, t.session, reasonOf(err)); failed != nil {
				return bus.ErrUnavailable.Because(errors.Join(err, failed))
			}
		}
	}
	if errors.Is(err, ErrInvalidRefreshToken) && !errors.Is(err, errReused) { // a reuse is answered as such
		if limited := s.throttle.BadToken(ctx, web.ClientNetwork(ctx)); limited != nil {
			return limited
		}
	}
	return err
}

// issueNext returns a new access token for a session, if its account still lets it continue.
//
// It issues the token first and looks at the account then. Whoever ends all sessions later does so as
// of a later second than the token's, and so revokes it.
func (s *Service) issueNext(ctx context.Context, x session) (signed string, c token.Claims, err error) {
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
		case a.SessionEpoch != x.epoch:
			return "", token.Claims{}, refuseToken(errEpochEnded)
		case !c.IssuedAt.Before(a.NotBefore):
			return signed, c, nil
		}
		owner = a // another instance's clock is ahead of this one's: wait for it
	}
}
