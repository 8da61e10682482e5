package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/example/pillion/token"
)

// TestOriginalAnswers makes the calls of the original guide and compares the answers byte by byte.
func TestOriginalAnswers(t *testing.T) {
	t.Parallel()
	p := newPorts(t)
	data := t.TempDir()
	pillion(t, p, data, "--jwt-expiry", "15m")
	auth, user, rider := "http://"+p.auth, "http://"+p.user, "http://"+p.rider
	john := `{"email":"john@example.com","password":"password123","role":"user"}`

	a := mustCall(t, "POST", auth+"/login", john)
	if a.status != 200 || !strings.HasPrefix(a.body, `{"status":true,"message":"Login Successful","token":"eyJ`) {
		t.Fatalf("login: %d %s", a.status, a.body)
	}
	userToken := "Bearer " + a.field("token")
	raiderToken := "Bearer " + login(t, p, "rider@example.com", "raider")

	a = mustCall(t, "GET", auth+"/public-key", "")
	if a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") ||
		!strings.HasPrefix(a.body, "-----BEGIN PUBLIC KEY-----\n") {
		t.Errorf("public key: %d %v\n%s", a.status, a.header, a.body)
	}
	expired := expiredToken(t, filepath.Join(data, "keys", "private.key"))

	for _, c := range []struct {
		name, url, body string
		headers         []string
		status          int
		want            string // all of a text, or the beginning of JSON
	}{
		{"another role", auth + "/login", `{"email":"john@example.com","password":"password123","role":"admin"}`, nil, 400, "Invalid role"},
		{"wrong password", auth + "/login", `{"email":"john@example.com","password":"password124","role":"user"}`, nil, 401, "Invalid credentials"},
		{"book", user + "/book", `{}`, []string{"Authorization", userToken}, 200, `{"success":true,"message":"Booking successful","user":"john@example.com"`},
		{"book with a raider's token", user + "/book", `{}`, []string{"Authorization", raiderToken}, 403, "Only users can book rides"},
		{"book without a header", user + "/book", `{}`, nil, 401, "Missing Authorization header"},
		{"book with nonsense", user + "/book", `{}`, []string{"Authorization", "Bearer invalid.token.here"}, 403, "Invalid token"},
		{"book with an expired token", user + "/book", `{}`, []string{"Authorization", "Bearer " + expired}, 403, "Invalid token"},
		{"accept with a user's token", rider + "/accept-booking", `{}`, []string{"Authorization", userToken}, 403, "Only raiders can accept bookings"},
		{"accept", rider + "/accept-booking", `{}`, []string{"Authorization", raiderToken}, 200, `{"success":true,"message":"Booking accepted","raider":"rider@example.com"`},
		{"accept without a header", rider + "/accept-booking", `{}`, nil, 401, "Missing Authorization header"},
		{"accept with nonsense", rider + "/accept-booking", `{}`, []string{"Authorization", "Bearer invalid.token.here"}, 403, "Invalid token"},
		{"book with curl's form type", user + "/book", `{}`, []string{"Authorization", userToken, "Content-Type", "application/x-www-form-urlencoded"}, 200, `{"success":true`},
		{"book with no body", user + "/book", ``, []string{"Authorization", userToken}, 200, `{"success":true`},
	} {
		a := mustCall(t, "POST", c.url, c.body, c.headers...)
		ok := a.body == c.want
		if strings.HasPrefix(c.want, "{") {
			ok = strings.HasPrefix(a.body, c.want)
		}
		if a.status != c.status || !ok {
			t.Errorf("%s: %d %q, want %d %q", c.name, a.status, a.body, c.status, c.want)
		}
	}
}

// expiredToken returns a token of the system's own key that expired a second ago.
func expiredToken(t testing.TB, keyFile string) string {
	t.Helper()
	pem, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	key, err := jwt.ParseRSAPrivateKeyFromPEM(pem)
	if err != nil {
		t.Fatal(err)
	}
	issued := time.Now().Add(-time.Minute)
	issuer, err := token.NewIssuer(token.IssuerConfig{Key: key, Life: 59 * time.Second,
		Now: func() time.Time { return issued }})
	if err != nil {
		t.Fatal(err)
	}
	signed, _, err := issuer.Issue(token.Grant{Subject: strings.Repeat("a", 26), Email: "john@example.com",
		Role: token.User})
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestStopsInOrder(t *testing.T) {
	t.Parallel()
	p := newPorts(t)
	prog := pillion(t, p, t.TempDir())
	if a := mustCall(t, "GET", "http://"+p.ops+"/healthz", ""); a.status != http.StatusOK {
		t.Errorf("healthz: %d", a.status)
	}
	prog.Stop(t)
}
