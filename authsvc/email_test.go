package authsvc_test

import (
	"errors"
	"net/mail"
	"strings"
	"testing"

	"github.com/example/pillion/authsvc"
)

func TestParseEmail(t *testing.T) {
	for _, c := range []struct {
		typed string
		want  authsvc.Email
	}{
		{"john@example.com", "john@example.com"},
		{"JOHN.Doe+Tag@EXAMPLE.Com", "john.doe+tag@example.com"},
		{"o'brien_{x}|y~z^w@a-b.example", "o'brien_{x}|y~z^w@a-b.example"},
		{"john@localhost", "john@localhost"},
		{"1@2", "1@2"},
		{strings.Repeat("K", 64) + "@" + strings.Repeat("d", 63) + ".com", authsvc.Email(strings.Repeat("k", 64) + "@" + strings.Repeat("d", 63) + ".com")},

		{" john@example.com", "john@example.com"}, {"john@example.com ", "john@example.com"}, {"\tjohn@example.com\r\n", "john@example.com"},
		{"\u00a0john@example.com\u3000", "john@example.com"}, {strings.Repeat(" ", 300) + "john@example.com", "john@example.com"},

		{"", ""}, {"@", ""}, {"john", ""}, {"john@", ""}, {"@example.com", ""}, {"a@b@c", ""},
		{".john@example.com", ""}, {"john.@example.com", ""}, {"jo..hn@example.com", ""},
		{"john@.com", ""}, {"john@example.", ""}, {"john@exam..ple", ""}, {"john@-a.com", ""}, {"john@a-.com", ""}, {"john@a_b.com", ""},
		{"jo hn@example.com", ""}, {"john\t@example.com", ""}, {"john @example.com", ""}, {"john@ example.com", ""}, {" ", ""}, {"\u200bjohn@example.com", ""},
		{"john\x7f@example.com", ""}, {"john\x00@example.com", ""},
		{`"john"@example.com`, ""}, {"John <john@example.com>", ""}, {"john(comment)@example.com", ""}, {"john@[127.0.0.1]", ""},
		{"john@example.com,kim@example.com", ""}, {"john;@example.com", ""}, {`jo\hn@example.com`, ""},
		{"\u212aim@example.com", ""}, {"k\u0131m@example.com", ""}, {"kim@ex\u00e4mple.com", ""}, {"kim\xff@example.com", ""},
		{strings.Repeat("k", 65) + "@example.com", ""}, {"k@" + strings.Repeat("d", 64) + ".com", ""},
		{strings.Repeat("k", 64) + "@" + strings.Repeat("d.", 95), ""},
	} {
		got, err := authsvc.ParseEmail(c.typed)
		if got != c.want || (c.want == "") != errors.Is(err, authsvc.ErrInvalidEmail) {
			t.Errorf("ParseEmail(%q) = %q, %v, want %q", c.typed, got, err, c.want)
		}
	}
}

func TestMasked(t *testing.T) {
	for email, want := range map[authsvc.Email]string{"john@example.com": "j***@example.com", "j@b": "j***@b",
		"": "***", "@x": "***"} {
		if got := email.Masked(); got != want {
			t.Errorf("Masked(%q) = %q, want %q", email, got, want)
		}
	}
}

// Every accepted text is one plain address to the standard library too, and parsing it again
// changes nothing.
func FuzzParseEmail(f *testing.F) {
	for _, seed := range []string{"john@example.com", "J.D+x@A.b", "\u212aim@example.com", `"a b"@c`, "a@b@c",
		"a@[::1]", "a@b\r\n", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		email, err := authsvc.ParseEmail(typed)
		if err != nil {
			if email != "" {
				t.Fatalf("%q besides %v", email, err)
			}
			return
		}
		if typed = strings.TrimSpace(typed); !strings.EqualFold(typed, string(email)) || len(typed) != len(email) ||
			len(email) > authsvc.MaxEmail {
			t.Fatalf("ParseEmail(%q) = %q", typed, email)
		}
		if again, err := authsvc.ParseEmail(string(email)); again != email || err != nil {
			t.Fatalf("ParseEmail(%q) = %q, %v", email, again, err)
		}
		if a, err := mail.ParseAddress(string(email)); err != nil || a.Address != string(email) || a.Name != "" {
			t.Fatalf("net/mail reads %q as %v, %v", email, a, err)
		}
	})
}
