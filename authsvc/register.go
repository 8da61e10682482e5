package authsvc

import (
	"context"
	"errors"
	"net/http"
	"time"

	"pillion/web"
)

func (s *Service) register(w http.ResponseWriter, r *http.Request) error {
	var try attempt
	err := s.tryRegister(r, &try)
	s.record(w, r, registrations, try, err)
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusCreated, doneAnswer{Status: true, Message: "Registration Successful"})
}

func (s *Service) tryRegister(r *http.Request, try *attempt) error {
	var c credentials
	if err := web.DecodeJSON(r, &c); err != nil {
		return err
	}
	role, err := roleOf(c.Role)
	if err != nil {
		return err
	}
	try.role = role
	email, err := ParseEmail(c.Email)
	if err != nil {
		return err
	}
	try.email = email
	if err := s.passwords.CheckNew(c.Password); err != nil {
		return err
	}
	if err := s.guard.register(r.Context(), web.ClientNetwork(r.Context())); err != nil {
		return err
	}
	a, err := s.createAccount(r.Context(), Account{Email: email, Typed: c.Email, Role: role}, c.Password)
	if err != nil {
		return err
	}
	try.account = a.ID
	return nil
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
