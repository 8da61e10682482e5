package authsvc_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/example/pillion/authsvc"
)

// A browser says what a request shows of its origin.
type browser struct {
	https  bool   // TLS ends here
	origin string // what it sends
	site   string // likewise
}

func (b browser) send(r *http.Request) *http.Request {
	if b.https {
		r.TLS = new(tls.ConnectionState)
	}
	if b.origin != "" {
		r.Header.Set("Origin", b.origin)
	}
	if b.site != "" {
		r.Header.Set("Sec-Fetch-Site", b.site)
	}
	return r
}

func cookieBody() string {
	return strings.Replace(body("kim@example.com", goodPassword, "user"), "{", `{"cookie":true,`, 1)
}

// theCookie returns the only cookie of an answer.
func theCookie(t *testing.T, w *httptest.ResponseRecorder) *http.Cookie {
	t.Helper()
	cookies := w.Result().Cookies()
	if len(cookies) != 1 {
		t.Fatalf("%d cookies in %d %s, want one", len(cookies), w.Code, w.Body)
	}
	return cookies[0]
}

func withCookie(c *http.Cookie, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/refresh", strings.NewReader(body))
	r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
	return r
}

func TestCookies(t *testing.T) {
	for _, c := range []struct {
		name    string
		browser browser
		cookie  string
		secure  bool
	}{
		{"over HTTPS", browser{https: true, site: "same-origin"}, "__Secure-pillion_refresh", true},
		{"over HTTPS, an older browser", browser{https: true, origin: "https://example.com"}, "__Secure-pillion_refresh", true},
		{"over HTTPS, behind a proxy", browser{origin: "https://example.com", site: "same-origin"}, "__Secure-pillion_refresh", true},
		{"over HTTP", browser{origin: "http://example.com"}, "pillion_refresh", false},
		{"over HTTP, a newer browser", browser{origin: "http://example.com", site: "same-origin"}, "pillion_refresh", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t)
				k.mustRegister(t, "kim@example.com", goodPassword, "user")
				w := k.ask(t, c.browser.send(post("/login", cookieBody())), http.StatusOK,
					`{"status":true,"message":"Login Successful","token":"`)
				seen := make(map[string]bool)
				for life := 7 * 24 * time.Hour; life > 6*24*time.Hour; life -= 6 * time.Hour {
					got := theCookie(t, w)
					if got.Name != c.cookie || got.Secure != c.secure || !got.HttpOnly ||
						got.SameSite != http.SameSiteStrictMode ||
						got.Path != "/" || got.Domain != "" || got.MaxAge != int(life/time.Second) {
						t.Errorf("cookie = %v, with %v to live", got, life)
					}
					if a := tokensOf(t, w); strings.Contains(w.Body.String(), "refresh") || a.ExpiresIn != 60 ||
						seen[got.Value] || got.Value == "" {
						t.Errorf("answer = %s, cookie %s", w.Body, got.Value)
					} else {
						k.mustVerify(t, a.Token)
					}
					seen[got.Value] = true
					after(6 * time.Hour)
					w = k.ask(t, c.browser.send(withCookie(got, "")), http.StatusOK,
						`{"status":true,"message":"Refresh Successful","token":"`)
				}
			})
		})
	}
}

// A cookie counts only in a request from a page of this origin.
func TestCookiesOfOtherSites(t *testing.T) {
	k := newKit(t)
	k.mustRegister(t, "kim@example.com", goodPassword, "user")
	home := browser{origin: "http://example.com"}
	cookie := theCookie(t, k.ask(t, home.send(post("/login", cookieBody())), http.StatusOK, ""))
	for _, c := range []struct {
		name string
		browser
	}{
		{"another site", browser{origin: "https://evil.example", site: "cross-site"}},
		{"another site, an older browser", browser{origin: "http://evil.example"}},
		{"a sibling", browser{origin: "http://www.example.com", site: "same-site"}},
		{"a sibling, an older browser", browser{origin: "http://www.example.com"}},
		{"another port", browser{origin: "http://example.com:8080"}},
		{"a sandbox", browser{origin: "null"}},
		{"another site that says it is this one", browser{origin: "http://example.com", site: "cross-site"}},
		{"nonsense", browser{origin: "http://example.com", site: "same-origin, cross-site"}},
		{"nobody knows where", browser{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := withCookie(cookie, "{}")
			// As if over HTTPS.
			r.AddCookie(&http.Cookie{Name: "__Secure-" + cookie.Name, Value: cookie.Value})
			w := k.ask(t, c.send(r), http.StatusForbidden, authsvc.ErrCrossOrigin.Message)
			if len(w.Result().Cookies()) != 0 {
				t.Error("and a cookie was sent")
			}
		})
	}
	k.ask(t, home.send(withCookie(cookie, "{}")), http.StatusOK, "") // it is still good
}

// The token of a cookie is refused in a body, and the reverse.
func TestCookiesStayCookies(t *testing.T) {
	k := newKit(t)
	plain := k.kim(t)
	home := browser{origin: "http://example.com"}
	cookie := theCookie(t, k.ask(t, home.send(post("/login", cookieBody())), http.StatusOK, ""))

	k.wantNoRefresh(t, cookie.Value)
	w := k.ask(t, home.send(withCookie(&http.Cookie{Name: cookie.Name, Value: plain.Refresh}, "")),
		http.StatusUnauthorized, "Invalid refresh token")
	if gone := theCookie(t, w); gone.MaxAge != -1 || gone.Value != "" || gone.Path != "/" || gone.Name != cookie.Name {
		t.Errorf("a cookie that is not good is answered with %v", gone)
	}
	// One in the body is meant, whatever the browser adds.
	r := home.send(withCookie(cookie, `{"refresh_token":"`+plain.Refresh+`"}`))
	if again := tokensOf(t, k.ask(t, r, http.StatusOK, "")); again.Refresh == "" {
		t.Error("a token in the body was not answered with one")
	}
	k.ask(t, home.send(withCookie(cookie, `{"refresh_token":""}`)), http.StatusOK, "")
	for name, bad := range map[string]string{"no JSON": "x", "another field": `{"token":"x"}`, "trailing": "{}{}"} {
		if w := k.ask(t, home.send(withCookie(cookie, bad)), http.StatusBadRequest, ""); w.Body.Len() == 0 {
			t.Errorf("%s: no sentence", name)
		}
	}
}

func TestLogoutClearsTheCookie(t *testing.T) {
	for _, path := range []string{"/logout", "/logout-all"} {
		k := newKit(t)
		k.mustRegister(t, "kim@example.com", goodPassword, "user")
		home := browser{https: true, site: "same-origin"}
		w := k.ask(t, home.send(post("/login", cookieBody())), http.StatusOK, "")
		cookie, access := theCookie(t, w), tokensOf(t, w).Token
		gone := theCookie(t, k.ask(t, home.send(bearing(path, access)), http.StatusOK, "Logout Successful"))
		if gone.Name != cookie.Name || gone.MaxAge != -1 || gone.Path != "/" || !gone.Secure {
			t.Errorf("%s answers with %v", path, gone)
		}
		k.ask(t, home.send(withCookie(cookie, "")), http.StatusUnauthorized, "Invalid refresh token")
	}
}

// A cookie comes back to every path that accepts it, also behind a proxy that strips a prefix.
func TestCookiePath(t *testing.T) {
	for _, path := range []string{"/", "/auth", "/a-b/c.d/"} {
		k := newKit(t, func(c *authsvc.Config, _ *authsvc.HasherConfig) { c.CookiePath = path })
		k.mustRegister(t, "kim@example.com", goodPassword, "user")
		home := browser{https: true, site: "same-origin"}
		cookie := theCookie(t, k.ask(t, home.send(post("/login", cookieBody())), http.StatusOK, ""))
		next := theCookie(t, k.ask(t, home.send(withCookie(cookie, "")), http.StatusOK, ""))
		gone := theCookie(t, k.ask(t, home.send(cookieTo("/logout", next)), http.StatusOK, "Logout Successful"))
		if cookie.Path != path || next.Path != path || gone.Path != path || gone.MaxAge != -1 {
			t.Errorf("with %s the cookies are %v, %v and %v", path, cookie, next, gone)
		}
	}
	for _, path := range []string{"auth", "//", "/a;Domain=evil.example", "/a b", "/a?b", "/\u00e4", "/a//b"} {
		c := newKit(t).config
		c.CookiePath, c.Registerer = path, nil
		if _, err := authsvc.New(c); err == nil || !strings.Contains(err.Error(), "cookies") {
			t.Errorf("with %q: %v", path, err)
		}
	}
}

// After an upgrade a browser may have cookies of two paths. It sends both, in any order.
func TestCookiesOfTwoPaths(t *testing.T) {
	k := newKit(t)
	k.mustRegister(t, "kim@example.com", goodPassword, "user")
	home := browser{origin: "http://example.com"}
	login := func() *http.Cookie {
		return theCookie(t, k.ask(t, home.send(post("/login", cookieBody())), http.StatusOK, ""))
	}
	both := func(a, b *http.Cookie) *http.Cookie {
		r := withCookie(a, "")
		r.AddCookie(&http.Cookie{Name: b.Name, Value: b.Value})
		return theCookie(t, k.ask(t, home.send(r), http.StatusOK, "Refresh Successful"))
	}
	old := login()
	now := both(old, old)
	for range 3 { // the old one is sent first: its path was longer
		now = both(old, now)
	}
	k.ask(t, home.send(cookieTo("/logout", now)), http.StatusOK, "Logout Successful")
	fresh := login() // and a cookie of a session that is over does not keep it from going on
	for range 3 {
		fresh = both(now, fresh)
	}
}

func cookieTo(path string, c *http.Cookie) *http.Request {
	r := withCookie(c, "")
	r.URL.Path = path
	return r
}

// A browser keeps a cookie for each role, if the logins ask for it: each refresh and logout names
// the one that counts.
func TestCookieOfEachRole(t *testing.T) {
	k := newKit(t)
	home := browser{origin: "http://example.com"}
	login := func(role string) *http.Cookie {
		k.mustRegister(t, "kim@example.com", goodPassword, role)
		asked := strings.Replace(body("kim@example.com", goodPassword, role), "{", `{"role_cookie":true,`, 1)
		return theCookie(t, k.ask(t, home.send(post("/login", asked)), http.StatusOK, ""))
	}
	user, rider := login("user"), login("raider")
	if user.Name != "pillion_refresh_user" || rider.Name != "pillion_refresh_raider" {
		t.Fatalf("the cookies are %v and %v", user, rider)
	}
	both := func(path, body string, status int) *httptest.ResponseRecorder {
		t.Helper()
		r := withCookie(user, body)
		r.URL.Path = path
		r.AddCookie(&http.Cookie{Name: rider.Name, Value: rider.Value})
		return k.ask(t, home.send(r), status, "")
	}
	for range 2 {
		w := both("/refresh", `{"role":"raider"}`, http.StatusOK)
		if c := k.mustVerify(t, tokensOf(t, w).Token); c.Role != "raider" {
			t.Errorf("the refresh of the rider gives a token of %s", c.Role)
		}
		rider = theCookie(t, w)
		user = theCookie(t, both("/refresh", `{"role":"user"}`, http.StatusOK))
		if rider.Name != "pillion_refresh_raider" || user.Name != "pillion_refresh_user" {
			t.Errorf("the next cookies are %v and %v", user, rider)
		}
	}
	both("/refresh", `{"role":"king"}`, http.StatusBadRequest)
	both("/refresh", "{}", http.StatusUnauthorized) // that would be the cookie that all roles share
	r := withCookie(rider, `{"role":"raider"}`)
	k.ask(t, browser{origin: "http://evil.example"}.send(r), http.StatusForbidden, authsvc.ErrCrossOrigin.Message)
	if gone := theCookie(t, both("/logout", `{"role":"raider"}`, http.StatusOK)); gone.Name != rider.Name ||
		gone.MaxAge != -1 {
		t.Errorf("the logout of the rider answers with %v", gone)
	}
	both("/refresh", `{"role":"raider"}`, http.StatusUnauthorized)
	both("/refresh", `{"role":"user"}`, http.StatusOK)
}
