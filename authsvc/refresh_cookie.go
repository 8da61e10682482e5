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

	"github.com/example/pillion/internal/fault"
)

// ErrCrossOrigin refuses a cookie that came with a request of another site, or of nobody knows whom.
var ErrCrossOrigin = fault.New(fault.Forbidden, "cross_origin",
	"A request with the refresh cookie must come from a page of this very origin. Send it from there, or keep the token yourself.")

const (
	cookieName = "pillion_refresh"
	// secureCookieName is the cookie's name over HTTPS. Browsers take a name with this prefix only from an HTTPS answer, so nobody
	// on the network can plant one through an unprotected request.
	secureCookieName = "__Secure-" + cookieName
)

// overHTTPS reports whether the client speaks HTTPS: with us, or with a proxy before us, which shows in the origin that browsers
// send with every POST. Nobody gains by a lie about it: it decides about a cookie of the liar's own.
func overHTTPS(r *http.Request) bool {
	return r.TLS != nil || strings.HasPrefix(r.Header.Get("Origin"), "https://")
}

func nameOfCookie(r *http.Request) string {
	if overHTTPS(r) {
		return secureCookieName
	}
	return cookieName
}

// mostCookies is how many refresh cookies of one request are looked at.
const mostCookies = 4

// refreshCookies returns the values of the refresh cookies. There are several where the cookies'
// path was another one before: a browser sends those of each path, and which of them is good, only
// a look at their sessions tells. Of one session, the latest comes first.
func refreshCookies(r *http.Request) []string {
	var values []string
	for _, c := range r.CookiesNamed(nameOfCookie(r)) {
		values = append(values, c.Value)
	}
	slices.SortStableFunc(values, func(a, b string) int {
		one, _ := parseRefreshToken(a)
		other, _ := parseRefreshToken(b)
		return cmp.Compare(other.generation, one.generation)
	})
	return values[:min(len(values), mostCookies)]
}

// cookies are refresh tokens on their way to browsers, which give them back to this origin only,
// below a path, and show them to no script.
type cookies struct{ path string }

// cookiePath is what can stand in a cookie, and in a browser's address, as it is.
var cookiePath = regexp.MustCompile(`^(/|(/[A-Za-z0-9._~-]+)+/?)$`)

// newCookies returns cookies for a path, which is how the paths begin that browsers know of
// /refresh and /logout: / where it is empty.
func newCookies(path string) (cookies, error) {
	path = cmp.Or(path, "/")
	if !cookiePath.MatchString(path) {
		return cookies{}, fmt.Errorf("authsvc: the path of cookies is %q: give one like / or /auth", path)
	}
	return cookies{path}, nil
}

// set sends a refresh token. life is in whole seconds, rounded down.
func (c cookies) set(w http.ResponseWriter, r *http.Request, value string, life time.Duration) {
	c.send(w, r, value, max(int(life/time.Second), 1))
}

// clear lets a browser forget its refresh token.
func (c cookies) clear(w http.ResponseWriter, r *http.Request) { c.send(w, r, "", -1) }

func (c cookies) send(w http.ResponseWriter, r *http.Request, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure wherever it can be: over plain HTTP a browser would drop such a cookie
		Name: nameOfCookie(r), Value: value, Path: c.path, MaxAge: maxAge,
		HttpOnly: true, Secure: overHTTPS(r), SameSite: http.SameSiteStrictMode,
	})
}

// requireSameOrigin returns ErrCrossOrigin unless the browser says that the request comes from a page of this origin. The protection
// of net/http also lets requests pass that say nothing, because those are no browser's; a cookie without a browser is not for us.
func requireSameOrigin(r *http.Request) error {
	if r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "" {
		return ErrCrossOrigin.Because(errors.New("neither Sec-Fetch-Site nor Origin"))
	}
	return refuseCrossOrigin(r)
}

// refuseCrossOrigin returns ErrCrossOrigin where the browser says that the request comes from a page
// of another origin. It is enough for a logout, which gives nothing away.
func refuseCrossOrigin(r *http.Request) error {
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return ErrCrossOrigin.Because(err)
	}
	return nil
}
