package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
	"github.com/example/pillion/web"
)

const onlyUsers = "Only users can book rides"

// guarded returns a router with one route for users, which answers with the caller.
func guarded(j *wait.Journal, v web.TokenVerifier) chi.Router {
	r := web.NewRouter(web.RouterConfig{Service: "test", Log: j.Logger()})
	r.With(web.Require(v, token.User, onlyUsers)).Post("/book", func(w http.ResponseWriter, r *http.Request) {
		claims, raw := web.Caller(r.Context())
		_, _ = io.WriteString(w, claims.Subject+" "+raw)
	})
	return r
}

func TestRequire(t *testing.T) {
	a := tokentest.New(t)
	user := a.Token(token.User, tokentest.Ulla, "ulla@example.com")
	rider := a.Token(token.Rider, tokentest.Rita, "rita@example.com")
	past := time.Now().Add(-time.Hour)
	expired := a.Raw(a.Private, a.Header(), a.Claims("user", tokentest.Ulla, "ulla@example.com", past,
		past.Add(time.Minute)))
	const (
		missing   = "Missing Authorization header"
		notBearer = "Authorization must be: Bearer <token>"
		oneOnly   = "Send exactly one Authorization header, with exactly one token: Bearer <token>"
		invalid   = "Invalid token"

		plain     = "Bearer"
		badToken  = `Bearer error="invalid_token"`
		badHeader = `Bearer error="invalid_request"`
	)
	for _, c := range []struct {
		name          string
		authorization []string
		target        string
		status        int
		body          string
		authenticate  string
	}{
		{"good", []string{"Bearer " + user}, "", 200, "", ""},
		{"lower case", []string{"bearer " + user}, "", 200, "", ""},
		{"upper case", []string{"BEARER " + user}, "", 200, "", ""},
		{"two spaces", []string{"Bearer  " + user}, "", 200, "", ""},
		{"spaces around", []string{" Bearer " + user + " "}, "", 200, "", ""},
		{"none", nil, "", 401, missing, plain},
		{"in the query only", nil, "?access_token=" + user + "&token=" + user, 401, missing, plain},
		{"empty header", []string{""}, "", 401, notBearer, plain},
		{"blank header", []string{"  "}, "", 401, notBearer, plain},
		{"Basic", []string{"Basic dXNlcjpwYXNz"}, "", 401, notBearer, plain},
		{"Basic with a token", []string{"Basic " + user}, "", 401, notBearer, plain},
		{"BearerX", []string{"BearerX " + user}, "", 401, notBearer, plain},
		{"no space", []string{"Bearer" + user}, "", 401, notBearer, plain},
		{"colon", []string{"Bearer: " + user}, "", 401, notBearer, plain},
		{"bare token", []string{user}, "", 401, notBearer, plain},
		{"no token", []string{"Bearer"}, "", 401, notBearer, plain},
		{"empty token", []string{"Bearer "}, "", 401, notBearer, plain},
		{"only spaces", []string{"Bearer    "}, "", 401, notBearer, plain},
		{"kelvin-like scheme", []string{"ßearer " + user}, "", 401, notBearer, plain},
		{"two headers", []string{"Bearer " + user, "Bearer " + user}, "", 400, oneOnly, badHeader},
		{"two headers, one Basic", []string{"Basic x", "Bearer " + user}, "", 400, oneOnly, badHeader},
		{"two headers, one empty", []string{"", "Bearer " + user}, "", 400, oneOnly, badHeader},
		{"two tokens", []string{"Bearer " + user + ", Bearer " + user}, "", 400, oneOnly, badHeader},
		{"two tokens without a space", []string{"Bearer " + user + ",Bearer"}, "", 400, oneOnly, badHeader},
		{"something behind", []string{"Bearer " + user + " x"}, "", 400, oneOnly, badHeader},
		{"tab", []string{"Bearer\t" + user}, "", 400, oneOnly, badHeader},
		{"tab behind the space", []string{"Bearer \t" + user}, "", 400, oneOnly, badHeader},
		{"tab inside", []string{"Bearer " + user[:9] + "\t" + user[9:]}, "", 400, oneOnly, badHeader},
		{"not a token", []string{"Bearer invalid.token.here"}, "", 403, invalid, badToken},
		{"quoted", []string{`Bearer "` + user + `"`}, "", 403, invalid, badToken},
		{"expired", []string{"Bearer " + expired}, "", 403, invalid, badToken},
		{"another key", []string{"Bearer " + a.Raw(a.Other, a.Header(), a.Claims("user", tokentest.Ulla, "", time.Now(), time.Now().Add(time.Minute)))}, "", 403, invalid, badToken},
		{"12 KiB", []string{"Bearer " + strings.Repeat("a", 12<<10)}, "", 403, invalid, badToken},
		{"wrong role", []string{"Bearer " + rider}, "", 403, onlyUsers, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var j wait.Journal
			r := request("POST", "/book"+c.target, "")
			r.Header["Authorization"] = c.authorization
			if c.authorization == nil {
				delete(r.Header, "Authorization")
			}
			got := answer(guarded(&j, a.Verifier()), r)
			if c.status == 200 {
				c.body = tokentest.Ulla + " " + user
			}
			if got.Code != c.status || got.Body.String() != c.body ||
				got.Header().Get("WWW-Authenticate") != c.authenticate {
				t.Errorf("got %d %q %q, want %d %q %q", got.Code, got.Body, got.Header().Get("WWW-Authenticate"),
					c.status, c.body, c.authenticate)
			}
			if strings.Contains(j.String(), user) {
				t.Error("the token is in the log")
			}
		})
	}
	for _, f := range a.Forgeries() {
		if strings.Trim(f.Token, " ") != f.Token {
			continue // spaces around a token are HTTP's and not the token's
		}
		var j wait.Journal
		r := request("POST", "/book", "")
		r.Header["Authorization"] = []string{"Bearer " + f.Token}
		if got := answer(guarded(&j, a.Verifier()), r); got.Code == 200 || got.Code >= 500 {
			t.Errorf("%s is answered with %d", f.Name, got.Code)
		}
	}
}

// What net/http makes of headers on a real connection: it trims them, and joins folded lines.
func TestRequireOverTheWire(t *testing.T) {
	a := tokentest.New(t)
	user := a.Token(token.User, tokentest.Ulla, "ulla@example.com")
	var j wait.Journal
	srv := httptest.NewServer(guarded(&j, a.Verifier()))
	defer srv.Close()
	for _, c := range []struct {
		name, headers string
		status        string
	}{
		{"good", "Authorization: Bearer " + user, "200"},
		{"spaces and tabs around", "Authorization: \t Bearer " + user + " \t ", "200"},
		{"name in lower case", "authorization: Bearer " + user, "200"},
		{"twice", "Authorization: Bearer " + user + "\r\nauthorization: Bearer " + user, "400"},
		{"empty", "Authorization:", "401"},
		{"tab", "Authorization: Bearer\t" + user, "400"},
		{"NUL", "Authorization: Bearer \x00" + user, "400"},
		{"space before the colon", "Authorization : Bearer " + user, "400"},
		{"too large", "Authorization: Bearer " + strings.Repeat("a", 2<<20), "431"},
	} {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		// Writing in the background: a server that refuses a header does not read it to its end.
		wrote := make(chan struct{})
		go func() {
			defer close(wrote)
			_, _ = io.WriteString(conn,
				"POST /book HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n"+c.headers+"\r\n\r\n")
		}()
		line, err := bufio.NewReader(conn).ReadString('\n')
		_ = conn.Close()
		<-wrote
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 "+c.status+" ") {
			t.Errorf("%s: %q, %v, want %s", c.name, line, err, c.status)
		}
	}
}

// A verifier of one answer.
type verdict struct{ err error }

func (v verdict) Verify(context.Context, string) (token.Claims, error) {
	return token.Claims{Subject: tokentest.Ulla, Role: token.User}, v.err
}

func TestRequireWithoutKeys(t *testing.T) {
	keys := token.NewRemoteKeys(func(context.Context) (*token.KeySet, error) { return nil, errors.New("no authsvc") },
		time.Minute, time.Now)
	v, err := token.NewVerifier(token.Config{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	a := tokentest.New(t)
	var j wait.Journal
	got := answer(guarded(&j, v), request("POST", "/book", "", "Authorization",
		"Bearer "+a.Token(token.User, tokentest.Ulla, "ulla@example.com")))
	if got.Code != 503 || got.Header().Get("Retry-After") != "1" || strings.Contains(got.Body.String(), "Invalid") ||
		got.Header().Get("WWW-Authenticate") != "" {
		t.Errorf("%d %s %v", got.Code, got.Body, got.Header())
	}
}

// TestExpiredToken checks that an expired token has a code of its own, so that an app knows that it
// must refresh. The sentence, and the codes of all other invalid tokens, stay the same.
func TestExpiredToken(t *testing.T) {
	a := tokentest.New(t)
	tok := func(issued, expires time.Duration) string {
		now := time.Now()
		return a.Raw(a.Private, a.Header(), a.Claims("user", tokentest.Ulla, "ulla@example.com", now.Add(issued),
			now.Add(expires)))
	}
	for _, c := range []struct{ name, raw, code string }{
		{"expired", tok(-time.Hour, -time.Minute), "token_expired"},
		{"not yet valid", tok(time.Hour, time.Hour+time.Minute), "invalid_token"},
		{"no token", "invalid.token.here", "invalid_token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var j wait.Journal
			r := request("POST", "/book", "", "Authorization", "Bearer "+c.raw, "Accept", "application/json")
			got := answer(guarded(&j, a.Verifier()), r)
			var p struct{ Detail, Code string }
			if err := json.Unmarshal(got.Body.Bytes(), &p); err != nil || got.Code != 403 || p.Code != c.code ||
				p.Detail != "Invalid token" || got.Header().Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
				t.Errorf("%d %s, want 403 with the code %s (%v)", got.Code, got.Body, c.code, err)
			}
		})
	}
}

func TestCaller(t *testing.T) {
	if claims, raw := web.Caller(t.Context()); claims != (token.Claims{}) || raw != "" {
		t.Errorf("without Require there is a caller: %v", claims)
	}
	// Require works outside of a router as well.
	h := web.Require(verdict{}, token.User, onlyUsers)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if claims, raw := web.Caller(r.Context()); claims.Subject != tokentest.Ulla || raw != "x" {
			t.Errorf("Caller = %v, %q", claims, raw)
		}
	}))
	if got := answer(h, request("GET", "/", "", "Authorization", "Bearer x")); got.Code != 200 {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	h = web.Require(verdict{err: token.ErrInvalid}, token.User,
		onlyUsers)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the handler was reached with a token that does not verify")
	}))
	if got := answer(h, request("GET", "/", "", "Authorization", "Bearer x")); got.Code != 403 {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}
