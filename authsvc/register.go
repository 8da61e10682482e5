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

// registerAnswer says besides whether somebody has to approve the account before its owner can log in.
type registerAnswer struct {
	doneAnswer
	Pending bool `json:"pending,omitempty"`
}

func (s *Service) register(w http.ResponseWriter, r *http.Request) error {
	var try attempt
	pending, err := s.tryRegister(r, &try)
	s.record(w, r, registrations, try, err)
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusCreated, registerAnswer{doneAnswer: doneAnswer{Status: true, Message: "Registration Successful"}, Pending: pending})
}

func (s *Service) tryRegister(r *http.Request, try *attempt) (pending bool, err error) {
	var c credentials
	if err := web.DecodeJSON(r, &c); err != nil {
		return false, err
	}
	role, err := roleOf(c.Role)
	if err != nil {
		return false, err
	}
	try.role = role
	email, err := ParseEmail(c.Email)
	if err != nil {
		return false, err
	}
	try.email = email
	if err := s.passwords.CheckNew(c.Password); err != nil {
		return false, err
	}
	if err := s.throttle.Registration(r.Context(), web.ClientNetwork(r.Context())); err != nil {
		return false, err
	}
	pending = s.approveRiders && role == token.Rider
	a, err := s.createAccount(r.Context(), Account{Email: email, EmailAsEntered: strings.TrimSpace(c.Email), Role: role, Pending: pending}, c.Password)
	if err != nil {
		return false, err
	}
	try.account = a.ID
	return pending, nil
}

// createAccount completes a, stores it and returns it, or says ErrTaken. It looks before it hashes: who asks for what is taken, or
// asks while the store is away, costs nothing. That two may find the pair free at once is the store's to settle.
func (s *Service) createAccount(ctx context.Context, a Account, password string) (Account, error) {
	switch _, err := s.accounts.Find(ctx, a.Email, a.Role); {
	case err == nil:
		return Account{}, ErrTaken
	case !errors.Is(err, ErrNoAccount):
		return Account{}, err
	}
	hash, err := s.passwords.Hash(ctx, password)
	if err != nil {
		return Account{}, err
	}
	a.ID, a.Hash = s.newID(), hash
	a.Created = s.now().UTC().Truncate(time.Microsecond) // what any store can keep
	if err := s.accounts.Create(ctx, a); err != nil {
		return Account{}, err
	}
	return a, nil
}
