package authsvc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/example/pillion/authsvc/throttle"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
)

// loginBody is the body of POST /login.
type loginBody struct {
	credentials
	Cookie bool `json:"cookie"` // whether the refresh token is to travel as a cookie
}

func (s *Service) login(w http.ResponseWriter, r *http.Request) error {
	var try attempt
	p, err := s.tryLogin(r, &try)
	s.record(w, r, logins, try, err)
	if err != nil {
		return err
	}
	return s.handOut(w, r, "Login Successful", p)
}

func (s *Service) tryLogin(r *http.Request, try *attempt) (pass, error) {
	var b loginBody
	if err := web.DecodeJSON(r, &b); err != nil {
		return pass{}, err
	}
	role, err := roleOf(b.Role) // before the credentials, as in the original
	if err != nil {
		return pass{}, err
	}
	try.role = role
	if err := s.passwords.CheckLength(b.Password); err != nil {
		return pass{}, err
	}
	return s.open(r.Context(), b, role, try)
}

// mostTurns bounds how often a login begins again because all sessions of its account were ended in the meantime.
const mostTurns = 3

// errRestless is that all sessions of an account are ended again and again.
var errRestless = fault.New(fault.Unavailable, "account_busy", "Your account is being changed at the moment. Please try again.").After(time.Second)

// open begins a session for whom the credentials are of.
//
// Hashing takes long enough for the password to be changed, or for all sessions to be ended. So the account is looked at again after
// the token was issued: what ended its era before that is seen, and what ends it later takes the token back. The session itself is of
// the era that it was let in by, and cannot outlive it.
func (s *Service) open(ctx context.Context, b loginBody, role token.Role, try *attempt) (pass, error) {
	id := s.newID()
	for range mostTurns {
		a, err := s.authenticate(ctx, b.credentials, role, try)
		if err != nil {
			return pass{}, err
		}
		s.rehash(ctx, a, b.Password)
		var p pass
		if p.signed, p.claims, err = s.issue(ctx, a, id); err != nil {
			return pass{}, err
		}
		now, err := s.accounts.Find(ctx, a.Email, a.Role)
		if err != nil && !errors.Is(err, ErrNoAccount) {
			return pass{}, err
		}
		if err != nil || now.ID != a.ID || now.SessionEpoch != a.SessionEpoch || !s.mayLogIn(now) {
			continue
		}
		try.session = id
		p.exchange, err = s.sessions.begin(ctx, id, a, b.Cookie)
		return p, err
	}
	return pass{}, errRestless
}

// longestWait is how far ahead the first second of an account's era may be: its own second, and what clocks may differ by.
const longestWait = time.Second + token.ClockLeeway

// issue returns an access token in a session of the account. It waits until tokens of the account's present era can be told from those
// that were taken back, which is until the next second.
func (s *Service) issue(ctx context.Context, a Account, session string) (signed string, c token.Claims, err error) {
	for {
		wait := a.NotBefore.Sub(s.now())
		if wait <= 0 {
			break
		}
		if wait > longestWait {
			return "", token.Claims{}, errRestless.Because(fmt.Errorf("account %s begins %v from now", a.ID, wait))
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return "", token.Claims{}, errRestless.Because(context.Cause(ctx))
		}
	}
	signed, c, err = s.issuer.Issue(token.Grant{Subject: a.ID, Email: string(a.Email), Role: a.Role, Session: session})
	if err != nil {
		return "", token.Claims{}, fmt.Errorf("issue token: %w", err)
	}
	return signed, c, nil
}

// mayLogIn reports whether the account lets anybody in at all.
func (s *Service) mayLogIn(a Account) bool { return !a.Disabled && !a.Pending && (!a.Demo || s.demo) }

// authenticate returns the account that the credentials are of, or ErrInvalidCredentials, or before
// anything else ErrLimited. Every way to that refusal costs one hash: that of the account, or a
// dummy where there is none. An account that waits for approval is ErrPending, for the right
// password.
func (s *Service) authenticate(ctx context.Context, c credentials, role token.Role, try *attempt) (Account, error) {
	t, err := s.throttle.Reserve(ctx, web.ClientNetwork(ctx), ownerOf(c.Email, role))
	if err != nil {
		return Account{}, err
	}
	try.reservation = t
	a, known, err := s.lookUp(ctx, c.Email, role, try)
	match := false
	if err == nil {
		match, err = s.passwords.Verify(ctx, c.Password, a.Hash) // empty for nobody
	}
	switch {
	case err != nil: // nothing was found out
		s.settle(ctx, t.Withdraw)
		return Account{}, err
	case !known:
		return Account{}, try.refuse("unknown account")
	case !match:
		return Account{}, try.refuse("wrong password")
	case a.Demo && !s.demo:
		return Account{}, try.refuse("demo account, and the demo is off")
	case a.Disabled:
		return Account{}, try.refuse("disabled account")
	case a.Reset != "":
		return Account{}, try.refuse("password was reset")
	}
	s.settle(ctx, t.Succeeded)
	if a.Pending {
		return Account{}, ErrPending
	}
	return a, nil
}

// settle tells the guard what became of a try. If it cannot be told, somebody may have to wait who need not.
func (s *Service) settle(ctx context.Context, outcome func(context.Context) error) {
	if err := outcome(context.WithoutCancel(ctx)); err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "counted a try that was none", slog.Any("error", err))
	}
}

// lookUp returns the account, if there is one. What is no email address is nobody's.
func (s *Service) lookUp(ctx context.Context, typed string, role token.Role, try *attempt) (a Account, known bool, err error) {
	email, err := ParseEmail(typed)
	if err != nil {
		return Account{}, false, nil //nolint:nilerr // it is an answer: nobody has this address
	}
	try.email = email
	a, err = s.accounts.Find(ctx, email, role)
	if errors.Is(err, ErrNoAccount) {
		return Account{}, false, nil
	}
	if err != nil {
		return Account{}, false, err
	}
	try.account = a.ID
	return a, true, nil
}

// ownerOf returns whose counters a try for a typed email counts in.
func ownerOf(typed string, role token.Role) throttle.Owner {
	if email, err := ParseEmail(typed); err == nil {
		typed = string(email)
	}
	return throttle.Owner{Email: typed, Role: role}
}
