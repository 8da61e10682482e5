package authsvc_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/authtest"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web/webtest"
)

func TestLogin(t *testing.T) {
	k := newKit(t)
	k.mustRegister(t, "John@Example.com", goodPassword, "user")
	john := k.account(t, "john@example.com", token.User)

	first := k.mustLogin(t, "john@example.com", goodPassword, "user")
	if first.Subject != john.ID || first.Email != "john@example.com" || first.Role != token.User ||
		len(first.Session) != 26 {
		t.Errorf("claims = %+v, want those of %v", first, john)
	}
	second := k.mustLogin(t, "JOHN@EXAMPLE.COM", goodPassword, "user")
	if second.Subject != john.ID || second.ID == first.ID || second.Session == first.Session {
		t.Errorf("a second login has claims %+v after %+v: want the same account in a session of its own", second,
			first)
	}
}

// Every endpoint ignores spaces around an email.
func TestEmailsWithSpacesAround(t *testing.T) {
	k := newKit(t)
	k.mustRegister(t, " Kim@Example.com ", goodPassword, "user")
	if a := k.account(t, "kim@example.com", token.User); a.EmailAsEntered != "Kim@Example.com" {
		t.Errorf("it is written as %q", a.EmailAsEntered)
	}
	for _, email := range []string{"kim@example.com ", "\tkim@example.com", "kim@example.com\r\n",
		"\u00a0kim@example.com"} {
		k.mustOpen(t, email, goodPassword, "user")
	}
	k.ask(t, post("/register", body("kim@example.com ", goodPassword, "user")), http.StatusConflict,
		authsvc.ErrTaken.Message)
	change := `{"email":"kim@example.com ","role":"user","current":"` + goodPassword + `","new":"another ` + goodPassword + `"}`
	k.ask(t, post("/password", change), http.StatusOK, "")
}

func TestLoginAnswerIsTheOriginals(t *testing.T) {
	k := newKit(t, withDemo)
	if err := k.service.SeedDemo(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		body string
		role token.Role
	}{
		{`{"email":"john@example.com","password":"password123","role":"user"}`, token.User},
		{`{"email":"rider@example.com","password":"password123","role":"raider"}`, token.Rider},
	} {
		w := k.ask(t, post("/login", c.body), http.StatusOK, `{"status":true,"message":"Login Successful","token":"eyJ`)
		if got := w.Header().Get("Content-Type"); got != "application/json" {
			t.Errorf("Content-Type = %q", got)
		}
		if got := w.Header().Get("Cache-Control"); got != "no-store" {
			t.Errorf("a token was sent with Cache-Control %q", got)
		}
	}
	w := k.ask(t, post("/login", `{"email":"john@example.com","password":"password123","role":"admin"}`),
		http.StatusBadRequest, "")
	if w.Body.String() != "Invalid role" {
		t.Errorf("an unknown role = %q", w.Body)
	}
}

func TestRiderIsRaider(t *testing.T) {
	for _, c := range []struct{ register, login string }{{"rider", "raider"}, {"raider", "rider"}, {"rider", "rider"}} {
		k := newKit(t)
		k.mustRegister(t, "jo@example.com", goodPassword, c.register)
		if got := k.mustLogin(t, "jo@example.com", goodPassword, c.login).Role; got != "raider" {
			t.Errorf("registered as %s, logged in as %s: role %q", c.register, c.login, got)
		}
	}
}

func TestRolesAreTheOnesThereAre(t *testing.T) {
	k := newKit(t)
	k.mustRegister(t, "john@example.com", goodPassword, "user")
	k.hashes.take()
	for _, role := range []string{"", "service", "admin", "User", "RAIDER", " user", "user ", "user,raider",
		"\u202euser"} {
		for _, path := range []string{"/login", "/register"} {
			// The role comes first.
			for _, password := range []string{goodPassword, "wrong", strings.Repeat("x", 200)} {
				w := k.ask(t, post(path, body("john@example.com", password, role)), http.StatusBadRequest, "")
				if w.Body.String() != "Invalid role" {
					t.Errorf("%s with role %q = %q", path, role, w.Body)
				}
			}
		}
	}
	k.ask(t, post("/login", `{"email":"john@example.com","password":"x"}`), http.StatusBadRequest, "Invalid role")
	for _, path := range []string{"/login", "/register", "/password"} {
		r := post(path, `{"email":"john@example.com","role":"pilot"}`)
		r.Header.Set("Accept", "application/json")
		k.ask(t, r, http.StatusBadRequest, `"detail":"Invalid role. The role must be user or raider.","code":"invalid_role"`)
	}
	wantCosts(t, k.hashes.take())
}

// A sentence names a field as clients send it, whatever the structs here look like.
func TestFieldsAreThoseOfTheRequest(t *testing.T) {
	k := newKit(t)
	for _, path := range []string{"/login", "/register", "/password"} {
		for _, field := range []string{"email", "role"} {
			w := k.ask(t, post(path, `{"`+field+`":5}`), http.StatusBadRequest, "")
			if want := `Field "` + field + `" must be text.`; w.Body.String() != want {
				t.Errorf("%s: %s, want %s", path, w.Body, want)
			}
		}
	}
}

// All refusals have the same answer and take the same work.
func TestRefusalsAreAlike(t *testing.T) {
	store := new(authtest.Accounts)
	if err := newKit(t, withStore(store), withDemo).service.SeedDemo(t.Context()); err != nil {
		t.Fatal(err)
	}
	k := newKit(t, withStore(store))
	k.mustRegister(t, "kim@example.com", goodPassword, "user")
	k.mustRegister(t, "kim@example.com", "another one entirely", "raider")
	k.hashes.take()

	var first string
	for _, c := range []struct{ name, body string }{
		{"wrong password", body("kim@example.com", "wrong password", "user")},
		{"empty password", body("kim@example.com", "", "user")},
		{"no password", `{"email":"kim@example.com","role":"user"}`},
		{"password null", `{"email":"kim@example.com","password":null,"role":"user"}`},
		{"one character", body("kim@example.com", "x", "user")},
		{"as long as can be", body("kim@example.com", strings.Repeat("é", authsvc.MaxPassword), "user")},
		{"the right password and more", body("kim@example.com", goodPassword+"x", "user")},
		{"the right password in upper case", body("kim@example.com", strings.ToUpper(goodPassword), "user")},
		{"the right password with a space", body("kim@example.com", goodPassword+" ", "user")},
		{"the other role's password", body("kim@example.com", "another one entirely", "user")},
		{"unknown account", body("tim@example.com", goodPassword, "user")},
		{"unknown account, empty password", body("tim@example.com", "", "user")},
		{"account of the other role only", body("john@example.com", "password123", "raider")},
		{"demo account, the demo being off", body("john@example.com", "password123", "user")},
		{"demo rider, the demo being off", body("rider@example.com", "password123", "raider")},
		{"no email", `{"password":"correct horse battery","role":"user"}`},
		{"empty email", body("", goodPassword, "user")},
		{"not an email", body("' OR 1=1 --", goodPassword, "user")},
		{"an email that is too long", body(strings.Repeat("k", 300)+"@example.com", goodPassword, "user")},
		{"Kelvin sign for k", body("\u212aim@example.com", goodPassword, "user")},
		{"dotless i for i", body("k\u0131m@example.com", goodPassword, "user")},
		{"full-width k", body("\uff4bim@example.com", goodPassword, "user")},
		{"a space inside", body("kim @example.com", goodPassword, "user")},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := k.ask(t, post("/login", c.body), http.StatusUnauthorized, "Invalid credentials")
			if w.Body.String() != "Invalid credentials" {
				t.Errorf("body = %q", w.Body)
			}
			got := sameForAll(w)
			if first == "" {
				first = got
			}
			if got != first {
				t.Errorf("the answer is another than to a wrong password:\n%s\nwant\n%s", got, first)
			}
			wantCosts(t, k.hashes.take(), lightCost)

			r := post("/login", c.body)
			r.Header.Set("Accept", "application/problem+json")
			w = k.ask(t, r, http.StatusUnauthorized, `"code":"invalid_credentials"`)
			if !strings.Contains(w.Body.String(), `"detail":"Invalid credentials"`) {
				t.Errorf("problem = %s", w.Body)
			}
			wantCosts(t, k.hashes.take(), lightCost)
		})
	}
	k.mustLogin(t, "kim@example.com", goodPassword, "user")
	wantCosts(t, k.hashes.take(), lightCost)
}

// The dummy hash has the configured cost.
func TestUnknownAccountsCostWhatNewOnesCost(t *testing.T) {
	dearer := authsvc.HashCost{Memory: authsvc.MinMemory + 1024, Iterations: 3, Parallelism: 2}
	k := newKit(t, func(_ *authsvc.Config, p *authsvc.HasherConfig) { p.Cost = dearer })
	k.mustRegister(t, "kim@example.com", goodPassword, "user")
	k.ask(t, post("/login", body("kim@example.com", "wrong password", "user")), http.StatusUnauthorized, "")
	k.ask(t, post("/login", body("tim@example.com", "wrong password", "user")), http.StatusUnauthorized, "")
	wantCosts(t, k.hashes.take(), dearer, dearer, dearer)
}

func TestLongPasswordIsNotHashed(t *testing.T) {
	k := newKit(t)
	long := strings.Repeat("é", authsvc.MaxPassword+1)
	for _, path := range []string{"/login", "/register"} {
		k.ask(t, post(path, body("kim@example.com", long, "user")), http.StatusBadRequest, "too long")
	}
	wantCosts(t, k.hashes.take())
}

// badBodies are bodies that every service refuses with a sentence.
func badBodies() []badBody {
	json := "application/json"
	return []badBody{
		{"empty", json, "", 400},
		{"white space", json, " \n", 400},
		{"not JSON", json, "email=kim", 400},
		{"cut off", json, `{"email":"kim@example.com"`, 400},
		{"null", json, `null`, 400},
		{"a list", json, `[{"email":"kim@example.com","password":"correct horse battery","role":"user"}]`, 400},
		{"text", json, `"kim"`, 400},
		{"two objects", json, body("kim@example.com", goodPassword, "user") + `{}`, 400},
		{"trailing garbage", json, body("kim@example.com", goodPassword, "user") + `x`, 400},
		{"unknown field", json, `{"email":"kim@example.com","password":"correct horse battery","role":"user","admin":true}`, 400},
		{"role twice", json, `{"email":"kim@example.com","password":"correct horse battery","role":"user","role":"raider"}`, 400},
		{"role twice by escape", json, `{"email":"kim@example.com","password":"correct horse battery","role":"user","r\u006fle":"raider"}`, 400},
		{"ROLE", json, `{"email":"kim@example.com","password":"correct horse battery","ROLE":"user"}`, 400},
		{"NUL in the email", json, `{"email":"kim\u0000@example.com","password":"correct horse battery","role":"user"}`, 400},
		{"NUL in the password", json, `{"email":"kim@example.com","password":"correct\u0000 horse battery","role":"user"}`, 400},
		{"invalid UTF-8", json, "{\"email\":\"kim@example.com\",\"password\":\"correct horse \xff\",\"role\":\"user\"}", 400},
		{"a number for a password", json, `{"email":"kim@example.com","password":12345678,"role":"user"}`, 400},
		{"an object for an email", json, `{"email":{"$ne":null},"password":"correct horse battery","role":"user"}`, 400},
		{"a list for a role", json, `{"email":"kim@example.com","password":"correct horse battery","role":["user"]}`, 400},
		{"deep", json, strings.Repeat(`{"email":`, 5000) + strings.Repeat(`}`, 5000), 400},
		{"too large", json, `{"email":"` + strings.Repeat("k", 70<<10) + `"}`, 413},
		{"too large white space", json, strings.Repeat(" ", 70<<10) + body("kim@example.com", goodPassword, "user"), 413},
		{"no media type", "", body("kim@example.com", goodPassword, "user"), 415},
		{"a form", "application/x-www-form-urlencoded", body("kim@example.com", goodPassword, "user"), 415},
		{"text", "text/plain", body("kim@example.com", goodPassword, "user"), 415},
		{"broken media type", "application/json;;", body("kim@example.com", goodPassword, "user"), 415},
		{"latin 1", "application/json; charset=iso-8859-1", body("kim@example.com", goodPassword, "user"), 415},
		{"other JSON", "application/merge-patch+json", body("kim@example.com", goodPassword, "user"), 415},
	}
}

type badBody struct {
	name, mediaType, body string
	status                int
}

func (b badBody) request(path string, chunked bool) *http.Request {
	var from io.Reader = strings.NewReader(b.body)
	if chunked {
		from = io.MultiReader(from) // of a length that the server does not know
	}
	r := httptest.NewRequest(http.MethodPost, path, from)
	if b.mediaType != "" {
		r.Header.Set("Content-Type", b.mediaType)
	}
	return r
}

func TestBadBodies(t *testing.T) {
	for _, path := range []string{"/login", "/register"} {
		store := new(authtest.Accounts)
		k := newKit(t, withStore(store))
		for _, b := range badBodies() {
			t.Run(path[1:]+" "+b.name, func(t *testing.T) {
				for _, chunked := range []bool{false, true} {
					w := k.ask(t, b.request(path, chunked), b.status, "")
					if w.Body.Len() == 0 || bytes.HasSuffix(w.Body.Bytes(), []byte("\n")) {
						t.Errorf("body = %q, want a sentence without a line break", w.Body)
					}
				}
			})
		}
		wantCosts(t, k.hashes.take())
		if store.Len() != 0 {
			t.Errorf("%s: %d accounts were made", path, store.Len())
		}
	}
}

func TestStoreAwayIsNotAWrongPassword(t *testing.T) {
	away := newKit(t, withStore(brokenStore{bus.ErrUnavailable}))
	broken := newKit(t, withStore(brokenStore{errors.New("account record k5 is broken: its secret cause")}))
	for _, path := range []string{"/login", "/register"} {
		r := post(path, body("kim@example.com", goodPassword, "user"))
		w := away.ask(t, r, http.StatusServiceUnavailable, "Please try again")
		if w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: 503 without Retry-After", path)
		}
		w = broken.do(post(path, body("kim@example.com", goodPassword, "user")))
		if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s with a broken record = %d %s", path, w.Code, w.Body)
		}
	}
	wantCosts(t, away.hashes.take())
}

func TestRoutesMatchOpenAPI(t *testing.T) {
	k := newKit(t)
	webtest.RoutesMatchOpenAPI(t, k.routes, "openapi.yaml")
	webtest.QueriesMatchOpenAPI(t, k.handler, "openapi.yaml", k.kim(t).Token, "POST /login", "GET /public-key")
}

func TestNewNamesAllThatIsMissing(t *testing.T) {
	s, err := authsvc.New(authsvc.Config{})
	if s != nil || err == nil {
		t.Fatalf("New = %v, %v", s, err)
	}
	for _, name := range []string{"Accounts", "Issuer", "Keys", "Hasher"} {
		if !strings.Contains(err.Error(), "authsvc: "+name+" is required") {
			t.Errorf("New: %v: does not name %s", err, name)
		}
	}
}
