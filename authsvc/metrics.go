package authsvc

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/example/pillion/authsvc/session"
	"github.com/example/pillion/internal/fault"
)

// An action is what a client attempts, as the log names it.
type action string

const (
	logins          action = "login"
	registrations   action = "registration"
	refreshes       action = "refresh"
	logouts         action = "logout"
	logoutsAll      action = "logout of all sessions"
	passwordChanges action = "password change"
	deletions       action = "account deletion"
)

// A result is how an attempt ended, as a metric label.
type result string

const (
	success result = "success"
	refused result = "refused"  // invalid credentials
	taken   result = "taken"    // registrations only
	repeat  result = "repeated" // refreshes only: the previous answer was lost
	// reuse is for refreshes only: the token was used before, so its session was ended.
	reuse       result = "reused"
	invalid     result = "invalid"     // the request was malformed
	limited     result = "limited"     // too many tries
	busy        result = "busy"        // too many passwords are waiting
	unavailable result = "unavailable" // a store is unavailable
	gone        result = "gone"        // the client left before the answer
	failed      result = "error"       // a fault of the service
)

func resultOf(err error) result {
	switch {
	case err == nil:
		return success
	case errors.Is(err, session.ErrReused):
		return reuse
	case errors.Is(err, ErrInvalidCredentials), errors.Is(err, session.ErrInvalidToken), errors.Is(err, ErrCrossOrigin),
		errors.Is(err, ErrDemoPassword), errors.Is(err, ErrDemoAccount), errors.Is(err, ErrPending):
		return refused
	case errors.Is(err, ErrTaken):
		return taken
	case errors.Is(err, context.Canceled):
		return gone
	case errors.Is(err, ErrBusy):
		return busy
	}
	switch fault.KindOf(err) {
	case fault.Conflict: // the account has a ride
		return refused
	case fault.Exhausted:
		return limited
	case fault.Unavailable:
		return unavailable
	case fault.Malformed, fault.Invalid, fault.TooLarge, fault.UnsupportedMedia:
		return invalid
	}
	return failed
}

// metrics has one counter for each action.
type metrics map[action]*prometheus.CounterVec

func newMetrics(r prometheus.Registerer) metrics {
	f := promauto.With(r)
	counter := func(name, help string, own ...result) *prometheus.CounterVec {
		v := f.NewCounterVec(prometheus.CounterOpts{Namespace: "pillion", Name: name, Help: help}, []string{"result"})
		// Each starts at zero, so that the first attempt shows as an increase.
		for _, r := range append(own, success, invalid, limited, busy, unavailable, gone, failed) {
			v.WithLabelValues(string(r))
		}
		return v
	}
	return metrics{
		logins:          counter("logins_total", "Attempts to log in, by result.", refused),
		registrations:   counter("registrations_total", "Attempts to register, by result.", taken),
		refreshes:       counter("refreshes_total", "Uses of a refresh token, by result.", refused, repeat, reuse),
		logouts:         counter("logouts_total", "Logouts of one session, by result.", refused),
		logoutsAll:      counter("logouts_all_total", "Logouts of all sessions of an account, by result.", refused),
		passwordChanges: counter("password_changes_total", "Attempts to change a password, by result.", refused),
		deletions:       counter("account_deletions_total", "Attempts to delete an account, by result.", refused),
	}
}
