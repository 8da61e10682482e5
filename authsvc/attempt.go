package authsvc

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/example/pillion/authsvc/throttle"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
)

// An attempt is what is known of somebody's try to log in, to register, and so on: for the log, and never for the client.
type attempt struct {
	email       Email // empty where what was typed is none: people type passwords there
	role        token.Role
	account     string // its id, where there is one
	session     string // its id, where there is one
	again       bool   // the answer was given before
	reason      string // of a refusal
	reservation *throttle.Reservation
}

// refuse notes why, and returns what the client is told, which is always the same.
func (a *attempt) refuse(reason string) error {
	a.reason = reason
	return ErrInvalidCredentials
}

// A result is how an attempt ended: a metric label.
type result string

const (
	success     result = "success"
	refused     result = "refused"     // invalid credentials
	taken       result = "taken"       // registrations only
	repeat      result = "repeated"    // refreshes only: the answer of the one before was lost
	reuse       result = "reused"      // refreshes only: the token was used before, and its session has been ended
	invalid     result = "invalid"     // the request itself was not right
	limited     result = "limited"     // tried too often
	busy        result = "busy"        // too many passwords are waiting
	unavailable result = "unavailable" // the account store is away
	gone        result = "gone"        // the client left before it was answered
	failed      result = "error"       // ours
)

func resultOf(err error) result {
	switch {
	case err == nil:
		return success
	case errors.Is(err, errReused):
		return reuse
	case errors.Is(err, ErrInvalidCredentials), errors.Is(err, ErrInvalidRefreshToken), errors.Is(err, ErrCrossOrigin), errors.Is(err, ErrDemoPassword), errors.Is(err, ErrDemoAccount), errors.Is(err, ErrPending):
		return refused
	case errors.Is(err, ErrTaken):
		return taken
	case errors.Is(err, context.Canceled):
		return gone
	case errors.Is(err, ErrBusy):
		return busy
	}
	switch fault.KindOf(err) {
	case fault.Conflict: // a ride is under way
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

// A action is what somebody attempted.
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

type metrics map[action]*prometheus.CounterVec

func newMetrics(r prometheus.Registerer) metrics {
	f := promauto.With(r)
	counter := func(name, help string, own ...result) *prometheus.CounterVec {
		v := f.NewCounterVec(prometheus.CounterOpts{Namespace: "pillion", Name: name, Help: help}, []string{"result"})
		for _, r := range append(own, success, invalid, limited, busy, unavailable, gone, failed) { // at zero from the start, so that the first of a kind shows as a rise
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

// record counts one attempt, logs it and offers it to the audit trail, before it is answered. The cause of an error is not in it: whoever writes the answer logs
// that, under the same request id.
func (s *Service) record(w http.ResponseWriter, r *http.Request, what action, a attempt, err error) {
	res, level := resultOf(err), slog.LevelInfo
	switch {
	case res == reuse:
		level = slog.LevelWarn
	case a.again && res == success:
		res = repeat
	}
	s.metrics[what].WithLabelValues(string(res)).Inc()
	attrs := make([]slog.Attr, 0, 7)
	add := func(name, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(name, value))
		}
	}
	if err != nil && a.reason == "" {
		a.reason = reasonOf(err)
	}
	add("request_id", w.Header().Get("X-Request-Id")) // which the router has set
	add("result", string(res))
	add("reason", a.reason)
	add("account", a.account)
	add("session", a.session)
	add("role", string(a.role))
	if a.email != "" {
		add("email", a.email.Masked())
	}
	s.log.LogAttrs(r.Context(), level, string(what), attrs...)
	e := Entry{
		V: 1, What: what.what(res), Result: string(res), Reason: a.reason, Account: a.account, Session: a.session, Role: string(a.role),
		Request: w.Header().Get("X-Request-Id"),
	}
	if a.email != "" {
		e.Email = a.email.Masked()
	}
	if from := web.ClientAddress(r.Context()); from.IsValid() {
		e.Client = from.String()
	}
	s.audit(r.Context(), e)
}

// reasonOf returns why somebody was refused, in a few words: our own, and nothing that they sent.
func reasonOf(err error) string {
	f := fault.From(err)
	if errors.Is(f, ErrInvalidRefreshToken) && f.Cause != nil {
		return f.Cause.Error()
	}
	return f.Code
}
