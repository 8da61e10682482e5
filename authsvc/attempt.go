package authsvc

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/example/pillion/authsvc/session"
	"github.com/example/pillion/authsvc/throttle"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
)

// An attempt is what the service knows about one request to log in, to register, and so on. It is
// for the log and the audit trail; clients see none of it.
type attempt struct {
	email       Email // empty if the client sent no address: people type passwords there
	role        token.Role
	account     string // an id; empty if there is no such account
	session     string // an id; empty if there is no session
	repeated    bool   // the same answer was given before
	reason      string // of a refusal
	reservation *throttle.Reservation
	unrecorded  bool // the request shows no valid token, so it is nobody's attempt
}

// attemptOf returns the attempt of a verified caller.
func attemptOf(c token.Claims) attempt {
	return attempt{email: Email(c.Email), role: c.Role, account: c.Subject, session: c.Session}
}

// refuse notes the reason and returns the refusal, which is the same for every reason.
func (a *attempt) refuse(reason string) error {
	a.reason = reason
	return ErrInvalidCredentials
}

// A handler performs one action for a request and returns the answer's body. It notes in the
// attempt what it finds out, and may set headers.
type handler func(w http.ResponseWriter, r *http.Request, try *attempt) (answer any, err error)

// audited returns the HTTP handler of an action. It counts, logs and audits each attempt before it
// answers, with that status on success.
func (s *Service) audited(what action, status int, handle handler) http.HandlerFunc {
	return web.Handle(func(w http.ResponseWriter, r *http.Request) error {
		var try attempt
		answer, err := handle(w, r, &try)
		if !try.unrecorded {
			s.record(w, r, what, try, err)
		}
		if err != nil {
			return err
		}
		return web.WriteJSON(w, status, answer)
	})
}

// record counts, logs and audits an attempt. It omits the cause of an error: the answer's writer
// logs that, with the same request id.
func (s *Service) record(w http.ResponseWriter, r *http.Request, what action, a attempt, err error) {
	res, level := resultOf(err), slog.LevelInfo
	switch {
	case res == reuse:
		level = slog.LevelWarn
	case a.repeated && res == success:
		res = repeat
	}
	s.metrics[what].WithLabelValues(string(res)).Inc()
	if what == logins && res == refused && a.reservation.First() {
		s.tried.Inc()
	}
	e := Entry{
		V: 1, What: what.entry(res), Result: string(res), Reason: a.reason, Account: a.account, Session: a.session,
		Role: string(a.role), Request: w.Header().Get("X-Request-Id"), // set by the router
	}
	if err != nil && e.Reason == "" {
		e.Reason = reasonOf(err)
	}
	if a.email != "" {
		e.Email = a.email.Masked()
	}
	if from := web.ClientAddress(r.Context()); from.IsValid() {
		e.Client = from.String()
	}
	attrs := make([]slog.Attr, 0, 7)
	for _, field := range [][2]string{
		{"request_id", e.Request}, {"result", e.Result}, {"reason", e.Reason}, {"account", e.Account},
		{"session", e.Session}, {"role", e.Role}, {"email", e.Email},
	} {
		if field[1] != "" {
			attrs = append(attrs, slog.String(field[0], field[1]))
		}
	}
	s.c.Log.LogAttrs(r.Context(), level, string(what), attrs...)
	s.c.Audit(r.Context(), e)
}

// reasonOf returns the reason of a refusal in a few words. They are the service's own words, and
// none that the client sent.
func reasonOf(err error) string {
	f := fault.From(err)
	if errors.Is(f, session.ErrInvalidToken) && f.Cause != nil {
		return f.Cause.Error()
	}
	return f.Code
}
