package authsvc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/example/pillion/authsvc/session"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/retry"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
)

// loginBody is the body of POST /login.
type loginBody struct {
	credentials
	Cookie bool `json:"cookie"` // the refresh token is to travel as a cookie
	// RoleCookie asks for a cookie of the role, beside that of the other role
	RoleCookie bool `json:"role_cookie"`
}

// login begins a session.
func (s *Service) login(w http.ResponseWriter, r *http.Request, try *attempt) (any, error) {
	var b loginBody
	if err := web.DecodeJSON(r, &b); err != nil {
		return nil, err
	}
	role, err := roleOf(b.Role) // before the credentials, as in the original
	if err != nil {
		return nil, err
	}
	try.role = role
	if err := s.c.Hasher.CheckLength(b.Password); err != nil {
		return nil, err
	}
	b.Cookie = b.Cookie || b.RoleCookie
	pair, err := s.beginSession(r.Context(), b, role, try)
	if err != nil {
		return nil, err
	}
	if !b.RoleCookie {
		role = ""
	}
	return s.handOut(w, r, role, "Login Successful", pair), nil
}

// mostLogins bounds how often a login starts over because all sessions of its account were ended
// meanwhile.
const mostLogins = 3

// errAccountBusy says that all sessions of an account are ended again and again.
var errAccountBusy = fault.New(fault.Unavailable, "account_busy",
	"Your account is being changed right now. Please try again.").After(time.Second)

// beginSession begins a session for the owner of the credentials.
//
// While the password is hashed it may be changed, or all sessions may be ended. So beginSession
// looks at the account again after it has issued the token: an earlier end of the session epoch
// shows then, and a later one revokes the token. The session belongs to the epoch that it was
// authenticated in, and ends with it.
func (s *Service) beginSession(ctx context.Context, b loginBody, role token.Role, try *attempt) (tokenPair, error) {
	id := s.c.NewID()
	for range mostLogins {
		a, err := s.authenticate(ctx, b.credentials, role, try)
		if err != nil {
			return tokenPair{}, err
		}
		s.rehash(ctx, a, b.Password)
		access, claims, err := s.issue(ctx, a, id)
		if err != nil {
			return tokenPair{}, err
		}
		now, err := s.c.Accounts.Find(ctx, a.Email, a.Role)
		if err != nil && !errors.Is(err, ErrNoAccount) {
			return tokenPair{}, err
		}
		if err != nil || now.ID != a.ID || now.SessionEpoch != a.SessionEpoch || !s.mayLogIn(now) {
			continue
		}
		try.session = id
		owner := session.Owner{Account: a.ID, Email: string(a.Email), Role: a.Role, Epoch: a.SessionEpoch}
		x, first, err := s.sessions.Begin(ctx, id, owner, b.Cookie)
		if err != nil {
			return tokenPair{}, err
		}
		return tokenPair{access: access, claims: claims, refresh: first, session: x}, nil
	}
	return tokenPair{}, errAccountBusy
}

// longestEpochWait is how far ahead an account's session epoch may begin: the rest of its second,
// and the difference between two clocks.
const longestEpochWait = time.Second + token.ClockLeeway

// issue returns an access token for a session of the account. It waits until the account's session
// epoch has begun, at most until the next second: only then do tokens differ from revoked ones.
func (s *Service) issue(ctx context.Context, a Account, sessionID string) (signed string, c token.Claims, err error) {
	for wait := a.NotBefore.Sub(s.c.Now()); wait > 0; wait = a.NotBefore.Sub(s.c.Now()) {
		if wait > longestEpochWait {
			return "", token.Claims{},
				errAccountBusy.Because(fmt.Errorf("the session epoch of account %s begins %v from now", a.ID, wait))
		}
		if !retry.Sleep(ctx, wait) {
			return "", token.Claims{}, errAccountBusy.Because(context.Cause(ctx))
		}
	}
	signed, c, err = s.c.Issuer.Issue(token.Grant{Subject: a.ID, Email: string(a.Email), Role: a.Role,
		Session: sessionID})
	if err != nil {
		return "", token.Claims{}, fmt.Errorf("issue token: %w", err)
	}
	return signed, c, nil
}

// mayLogIn reports whether the account's owner may log in.
func (s *Service) mayLogIn(a Account) bool { return !a.Disabled && !a.Pending && (!a.Demo || s.c.Demo) }

// authenticate returns the account of the credentials. Errors: throttle.ErrLimited, before
// anything else; ErrInvalidCredentials, after one hash whatever is wrong; ErrPending, for the
// right password of an account that is waiting for approval.
func (s *Service) authenticate(ctx context.Context, c credentials, role token.Role, try *attempt) (Account, error) {
	reservation, err := s.c.Throttle.Reserve(ctx, web.ClientNetwork(ctx), ownerOf(c.Email, role))
	if err != nil {
		return Account{}, err
	}
	try.reservation = reservation
	a, known, err := s.lookUp(ctx, c.Email, role, try)
	match := false
	if err == nil {
		// An unknown account has no hash, but costs one.
		match, err = s.c.Hasher.Verify(ctx, c.Password, a.Hash)
	}
	switch {
	case err != nil:
		s.settle(ctx, reservation.Withdraw)
		return Account{}, err
	case !known:
		return Account{}, try.refuse("unknown account")
	case !match:
		return Account{}, try.refuse("wrong password")
	case a.Demo && !s.c.Demo:
		return Account{}, try.refuse("demo account, and the demo is off")
	case a.Disabled:
		return Account{}, try.refuse("disabled account")
	case a.Reset != "":
		return Account{}, try.refuse("password was reset")
	}
	s.settle(ctx, reservation.Succeeded)
	if a.Pending {
		return Account{}, ErrPending
	}
	return a, nil
}

// settle reports the outcome of a try to the throttle. If that fails, somebody may have to wait
// without need, so the error is only logged.
func (s *Service) settle(ctx context.Context, outcome func(context.Context) error) {
	if err := outcome(context.WithoutCancel(ctx)); err != nil {
		s.c.Log.LogAttrs(ctx, slog.LevelWarn, "cannot uncount a login attempt", slog.Any("error", err))
	}
}

// lookUp returns the account and whether it exists. Text that is no email address belongs to
// nobody.
func (s *Service) lookUp(ctx context.Context, typed string, role token.Role, try *attempt,
) (a Account, known bool, err error) {
	email, err := ParseEmail(typed)
	if err != nil {
		return Account{}, false, nil //nolint:nilerr // it is an answer: nobody has this address
	}
	try.email = email
	a, err = s.c.Accounts.Find(ctx, email, role)
	if errors.Is(err, ErrNoAccount) {
		return Account{}, false, nil
	}
	if err != nil {
		return Account{}, false, err
	}
	try.account = a.ID
	return a, true, nil
}

// rehash hashes the password again if its hash cost less than a new one would. The caller has just
// verified the password. A failure is left for the next login.
func (s *Service) rehash(ctx context.Context, a Account, password string) {
	if !s.c.Hasher.Outdated(a.Hash) {
		return
	}
	hash, err := s.c.Hasher.Hash(ctx, password)
	if err == nil {
		a.Hash = hash
		err = s.c.Accounts.Replace(ctx, a)
	}
	if err != nil {
		s.c.Log.LogAttrs(ctx, slog.LevelWarn, "cannot rehash a password", slog.String("account", a.ID),
			slog.Any("error", err))
	}
}
