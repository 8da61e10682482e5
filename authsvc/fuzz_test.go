package authsvc_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/example/pillion/authsvc"
)

// FuzzLogin sends any body to /login. No body may be answered with 500 or log in. Only one
// well-formed object with the known fields may reach the password check.
func FuzzLogin(f *testing.F) {
	f.Add(body("john@example.com", "password123", "user"))
	f.Add(body("rider@example.com", "", "rider"))
	f.Add(body("\u212aim@example.com", goodPassword, "service"))
	f.Add(`{}`)
	f.Add(`{"role":"user"}`)
	f.Add(`{"role":"user","role":"raider"}`)
	f.Add(`{"email":null,"password":null,"role":"user"}`)
	for _, b := range badBodies() {
		if len(b.body) < 1<<10 {
			f.Add(b.body)
		}
	}
	k := newKit(f, func(_ *authsvc.Config, p *authsvc.HasherConfig) { p.Queue = 1 << 10 })
	f.Fuzz(func(t *testing.T, sent string) {
		w := k.do(post("/login", sent))
		switch w.Code {
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		case http.StatusUnauthorized:
			if w.Body.String() != "Invalid credentials" {
				t.Fatalf("401 %q", w.Body)
			}
			var fields map[string]*string
			if err := json.Unmarshal([]byte(sent), &fields); err != nil || !utf8.ValidString(sent) {
				t.Fatalf("%q was taken: %v", sent, err)
			}
			for name := range fields {
				if !slices.Contains([]string{"email", "password", "role"}, name) {
					t.Fatalf("%q was taken with the field %q", sent, name)
				}
			}
			if role := fields["role"]; role == nil || !slices.Contains([]string{"user", "raider", "rider"}, *role) {
				t.Fatalf("%q was taken without a role that may log in", sent)
			}
			if p := fields["password"]; p != nil && utf8.RuneCountInString(*p) > authsvc.MaxPassword {
				t.Fatalf("a password of %d characters was hashed", utf8.RuneCountInString(*p))
			}
		default:
			t.Fatalf("%q = %d %s", sent, w.Code, w.Body)
		}
	})
}
