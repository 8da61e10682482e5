package authsvc

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/example/pillion/authsvc/session"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

// ErrCrossOrigin refuses a cookie in a request from another site, or of unknown origin.
var ErrCrossOrigin = fault.New(fault.Forbidden, "cross_origin",
	"A request with the refresh cookie must come from a page of this origin. Send it from there, or keep the token yourself.")

const (
	cookieName = "pillion_refresh"
	// secureCookieName is the cookie's name over HTTPS. Browsers accept a name with this prefix
	// only from an HTTPS answer, so nobody on the network can plant one through an unprotected
	// request.
	secureCookieName = "__Secure-" + cookieName
)

// overHTTPS reports whether the client uses HTTPS, with this server or with a proxy. A proxy
// shows in the Origin that browsers send with every POST. Lying gains nothing: it affects the
// liar's own cookie.
func overHTTPS(r *http.Request) bool {
	return r.TLS != nil || strings.HasPrefix(r.Header.Get("Origin"), "https://")
}

// nameOfCookie returns the name of the cookie of a role, or of the one cookie that all roles share
// if role is "".
func nameOfCookie(r *http.Request, role token.Role) string {
	name := cookieName
	if overHTTPS(r) {
		name = secureCookieName
	}
	if role != "" {
		name += "_" + string(role)
	}
	return name
}

// hasRefreshCookie reports whether a request has a refresh cookie of any role.
func hasRefreshCookie(r *http.Request) bool {
	return slices.ContainsFunc([]token.Role{"", token.User, token.Rider}, func(role token.Role) bool {
		return len(r.CookiesNamed(nameOfCookie(r, role))) > 0
	})
}

// mostCookies bounds the refresh cookies of one request that are looked at.
const mostCookies = 4

// refreshCookies returns the values of the refresh cookies of a role, as in nameOfCookie, the
// newest generation first. There are several after the cookies' path was changed: a browser sends
// one of each path, and only their sessions tell which is good.
func refreshCookies(r *http.Request, role token.Role) []string {
	var values []string
	for _, c := range r.CookiesNamed(nameOfCookie(r, role)) {
		values = append(values, c.Value)
	}
	slices.SortStableFunc(values, func(a, b string) int {
		one, _ := session.ParseToken(a)
		other, _ := session.ParseToken(b)
		return cmp.Compare(other.Generation, one.Generation)
	})
	return values[:min(len(values), mostCookies)]
}

// cookies carry refresh tokens to browsers. A browser sends them back to this origin only, below a
// path, and shows them to no script.
type cookies struct{ path string }

// cookiePath matches the paths that can stand in a cookie, and in a browser's address bar,
// unescaped.
var cookiePath = regexp.MustCompile(`^(/|(/[A-Za-z0-9._~-]+)+/?)$`)

// checkCookiePath returns an error if the path cannot be that of a cookie.
func checkCookiePath(path string) error {
	if !cookiePath.MatchString(path) {
		return fmt.Errorf("authsvc: the path of cookies is %q: give one like / or /auth", path)
	}
	return nil
}

// set sends a refresh token in the cookie of a role, as in nameOfCookie. Its life is rounded down
// to whole seconds.
func (c cookies) set(w http.ResponseWriter, r *http.Request, role token.Role, value string, life time.Duration) {
	c.send(w, r, role, value, max(int(life/time.Second), 1))
}

// clear makes a browser forget the refresh token in the cookie of a role.
func (c cookies) clear(w http.ResponseWriter, r *http.Request, role token.Role) {
	c.send(w, r, role, "", -1)
}

func (c cookies) send(w http.ResponseWriter, r *http.Request, role token.Role, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure if possible: over plain HTTP a browser would drop such a cookie
		Name: nameOfCookie(r, role), Value: value, Path: c.path, MaxAge: maxAge,
		HttpOnly: true, Secure: overHTTPS(r), SameSite: http.SameSiteStrictMode,
	})
}

// requireSameOrigin returns ErrCrossOrigin unless the browser says that the request comes from a
// page of this origin. net/http's protection also passes requests that say nothing, because no
// browser sends those; but without a browser there should be no cookie.
func requireSameOrigin(r *http.Request) error {
	if r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "" {
		return ErrCrossOrigin.Because(errors.New("neither Sec-Fetch-Site nor Origin"))
	}
	return refuseCrossOrigin(r)
}

// refuseCrossOrigin returns ErrCrossOrigin if the browser says that the request comes from a page
// of another origin. It is enough for a logout, which returns no secrets.
func refuseCrossOrigin(r *http.Request) error {
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return ErrCrossOrigin.Because(err)
	}
	return nil
}
