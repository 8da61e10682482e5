package authsvc

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"pillion/fault"
)

// ErrCrossOrigin refuses a cookie that came with a request of another site, or of nobody knows whom.
var ErrCrossOrigin = fault.New(fault.Forbidden, "cross_origin",
	"A refresh with a cookie must come from a page of this very origin. Send the request from there, or keep the token yourself.")

const (
	refreshPath = "/refresh"
	cookieName  = "pillion_refresh"
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

// refreshCookie returns the value of the refresh cookie, and whether there is one.
func refreshCookie(r *http.Request) (value string, ok bool) {
	if c := r.CookiesNamed(nameOfCookie(r)); len(c) > 0 {
		return c[0].Value, true
	}
	return "", false
}

// setRefreshCookie sends a refresh token to a browser, which gives it back to POST /refresh of this origin only, and shows it to no
// script. life is in whole seconds, rounded down.
func setRefreshCookie(w http.ResponseWriter, r *http.Request, value string, life time.Duration) {
	sendCookie(w, r, value, max(int(life/time.Second), 1))
}

// clearRefreshCookie lets a browser forget its refresh token.
func clearRefreshCookie(w http.ResponseWriter, r *http.Request) { sendCookie(w, r, "", -1) }

func sendCookie(w http.ResponseWriter, r *http.Request, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure wherever it can be: over plain HTTP a browser would drop such a cookie
		Name: nameOfCookie(r), Value: value, Path: refreshPath, MaxAge: maxAge,
		HttpOnly: true, Secure: overHTTPS(r), SameSite: http.SameSiteStrictMode,
	})
}

// requireSameOrigin returns ErrCrossOrigin unless the browser says that the request comes from a page of this origin. The protection
// of net/http also lets requests pass that say nothing, because those are no browser's; a cookie without a browser is not for us.
func requireSameOrigin(r *http.Request) error {
	if r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "" {
		return ErrCrossOrigin.Because(errors.New("neither Sec-Fetch-Site nor Origin"))
	}
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return ErrCrossOrigin.Because(err)
	}
	return nil
}
