package authsvc

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
)

// doneAnswer is the answer to an action that returns no data.
type doneAnswer struct {
	Status  bool   `json:"status"`
	Message string `json:"message"`
}

func done(message string) doneAnswer { return doneAnswer{Status: true, Message: message} }

// registerAnswer also says whether an operator must approve the account before its owner can log
// in.
type registerAnswer struct {
	doneAnswer
	Pending bool `json:"pending,omitempty"`
}

// register creates an account.
func (s *Service) register(_ http.ResponseWriter, r *http.Request, try *attempt) (any, error) {
	var c credentials
	if err := web.DecodeJSON(r, &c); err != nil {
		return nil, err
	}
	role, err := roleOf(c.Role)
	if err != nil {
		return nil, err
	}
	try.role = role
	email, err := ParseEmail(c.Email)
	if err != nil {
		return nil, err
	}
	try.email = email
	if err := s.c.Hasher.CheckNew(c.Password, c.Email); err != nil {
		return nil, err
	}
	ctx := r.Context()
	if err := s.c.Throttle.Registration(ctx, web.ClientNetwork(ctx)); err != nil {
		return nil, err
	}
	a, err := s.createAccount(ctx, Account{
		Email: email, EmailAsEntered: strings.TrimSpace(c.Email), Role: role, Pending: s.c.ApproveRiders &&
			role == token.Rider,
	}, c.Password)
	if err != nil {
		return nil, err
	}
	try.account = a.ID
	return registerAnswer{done("Registration Successful"), a.Pending}, nil
}

// createAccount completes a, stores it and returns it, or returns ErrTaken. It looks for the
// account before it hashes the password, so that taken pairs and an unavailable store cost no
// hash. The store decides between simultaneous requests.
func (s *Service) createAccount(ctx context.Context, a Account, password string) (Account, error) {
	switch _, err := s.c.Accounts.Find(ctx, a.Email, a.Role); {
	case err == nil:
		return Account{}, ErrTaken
	case !errors.Is(err, ErrNoAccount):
		return Account{}, err
	}
	hash, err := s.c.Hasher.Hash(ctx, password)
	if err != nil {
		return Account{}, err
	}
	a.ID, a.Hash = s.c.NewID(), hash
	a.Created = s.c.Now().UTC().Truncate(time.Microsecond) // every store keeps microseconds
	if err := s.c.Accounts.Create(ctx, a); err != nil {
		return Account{}, err
	}
	return a, nil
}
