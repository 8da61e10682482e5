package authsvc_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/example/pillion/authsvc/authtest"
)

// The bucket contains no refresh token.
func TestSecretsAreNotStored(t *testing.T) {
	k := newKit(t)
	store := k.config.Sessions.(*authtest.Sessions)
	now := k.kim(t)
	for range 3 {
		next := k.mustRefresh(t, now.Refresh)
		record, _, err := store.Get(t.Context(), store.Keys()[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, old := range []tokens{now, next} {
			raw, err := base64.RawURLEncoding.DecodeString(old.Refresh[strings.LastIndex(old.Refresh, ".")+1:])
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{string(raw[:32]), base64.StdEncoding.EncodeToString(raw[:32]),
				base64.RawURLEncoding.EncodeToString(raw[:30]), old.Token} {
				if strings.Contains(string(record), secret) {
					t.Errorf("a secret is in the record %s", record)
				}
			}
		}
		now = next
	}
	if strings.Contains(k.log.String(), now.Refresh[30:]) {
		t.Error("a refresh token is in the log")
	}
}

// A forged token is refused, always with the same answer, and does not end the session that it
// names.
func TestForgedRefreshTokens(t *testing.T) {
	k := newKit(t)
	a := k.kim(t)
	b := k.mustOpen(t, "kim@example.com", goodPassword, "user")
	a2 := k.mustRefresh(t, a.Refresh)
	part := func(s string) (session, secret string) {
		return s[:26], s[strings.LastIndex(s, ".")+1:]
	}
	session, secret := part(a2.Refresh)
	otherSession, otherSecret := part(b.Refresh)
	_, oldSecret := part(a.Refresh)
	flip := func(i int) string {
		raw, err := base64.RawURLEncoding.DecodeString(secret)
		if err != nil {
			t.Fatal(err)
		}
		raw[i] ^= 1
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	k.hashes.take()
	var first string
	for _, c := range []struct{ name, token string }{
		{"empty", ""},
		{"a word", "x"},
		{"an access token", a.Token},
		{"dots", ".."},
		{"four parts", a2.Refresh + ".x"},
		{"cut short", a2.Refresh[:len(a2.Refresh)-1]},
		{"one too long", a2.Refresh + "A"},
		{"64 KiB", strings.Repeat("A", 60<<10)},
		{"white space before", " " + a2.Refresh},
		{"white space after", a2.Refresh + " "},
		{"line break inside", session + ".2." + secret[:32] + `\n` + secret[33:]},
		{"upper case session", strings.ToUpper(session) + ".2." + secret},
		{"unknown session", strings.Repeat("a", 26) + ".2." + secret},
		{"session with a wildcard", ">" + session[1:] + ".2." + secret},
		{"session with a path", "../" + session[3:] + ".2." + secret},
		{"another's session", otherSession + ".1." + secret},
		{"another's secret", session + ".2." + otherSecret},
		{"an old secret as the present one", session + ".2." + oldSecret},
		{"the present secret as an old one", session + ".1." + secret},
		{"the present secret as a later one", session + ".3." + secret},
		{"generation 0", session + ".0." + secret},
		{"generation -1", session + ".-1." + secret},
		{"generation +2", session + ".+2." + secret},
		{"generation 02", session + ".02." + secret},
		{"generation 0x2", session + ".0x2." + secret},
		{"no generation", session + ".." + secret},
		{"huge generation", session + ".99999999999999999999." + secret},
		{"secret in standard base64", session + ".2.+/" + secret[2:]},
		{"secret with padding", session + ".2." + secret[:62] + "=="},
		{"all zero", session + ".2." + strings.Repeat("A", 64)},
		{"first bit of the secret", session + ".2." + flip(0)},
		{"last bit of the secret", session + ".2." + flip(31)},
		{"first bit of the tag", session + ".2." + flip(32)},
		{"last bit of the tag", session + ".2." + flip(47)},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := k.ask(t, refreshWith(c.token), http.StatusUnauthorized, "")
			if got := sameForAll(w); first == "" {
				first = got
			} else if got != first {
				t.Errorf("the answer is another than to no token at all:\n%s\nwant\n%s", got, first)
			}
			if w.Body.String() != "Invalid refresh token" {
				t.Errorf("body = %q", w.Body)
			}
		})
	}
	if got := k.revoked.take(); got != nil {
		t.Errorf("forgeries revoked %v", got)
	}
	wantCosts(t, k.hashes.take())
	k.mustRefresh(t, a2.Refresh) // both sessions are as they were
	k.mustRefresh(t, b.Refresh)
}

func TestBadRefreshBodies(t *testing.T) {
	k := newKit(t)
	good := k.kim(t).Refresh
	for _, c := range []struct {
		name, mediaType, body string
		status                int
	}{
		{"empty", "application/json", "", 400},
		{"no JSON", "application/json", "x", 400},
		{"a list", "application/json", `["` + good + `"]`, 400},
		{"a number", "application/json", `{"refresh_token":1}`, 400},
		{"another field", "application/json", `{"refresh_token":"` + good + `","x":1}`, 400},
		{"another case", "application/json", `{"Refresh_Token":"` + good + `"}`, 400},
		{"twice", "application/json", `{"refresh_token":"` + good + `","refresh_token":"` + good + `"}`, 400},
		{"trailing", "application/json", `{"refresh_token":"` + good + `"}{}`, 400},
		{"too large", "application/json", `{"refresh_token":"` + strings.Repeat("x", 70<<10) + `"}`, 413},
		{"a form", "application/x-www-form-urlencoded", `{"refresh_token":"` + good + `"}`, 415},
		{"no type", "", `{"refresh_token":"` + good + `"}`, 415},
		{"nothing in it", "application/json", `{}`, 401},
		{"null", "application/json", `{"refresh_token":null}`, 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := post("/refresh", c.body)
			r.Header.Del("Content-Type")
			if c.mediaType != "" {
				r.Header.Set("Content-Type", c.mediaType)
			}
			k.ask(t, r, c.status, "")
		})
	}
	k.mustRefresh(t, good)
}

// FuzzRefresh sends any text as a refresh token. Only the token that was given out is accepted.
func FuzzRefresh(f *testing.F) {
	k := newKit(f)
	if w := k.do(post("/register", body("kim@example.com", goodPassword, "user"))); w.Code != http.StatusCreated {
		f.Fatal(w.Body)
	}
	kim := tokensOf(f, k.do(post("/login", body("kim@example.com", goodPassword, "user"))))
	present := tokensOf(f, k.do(refreshWith(kim.Refresh)))
	f.Add(present.Refresh[:27] + "2." + strings.Repeat("A", 64))
	f.Add(strings.Replace(present.Refresh, ".2.", ".1.", 1))
	f.Add(kim.Token)
	f.Add("")
	f.Fuzz(func(t *testing.T, sent string) {
		if sent == present.Refresh || sent == kim.Refresh {
			t.Skip("a good token is not a forged one")
		}
		w := k.do(post("/refresh", `{"refresh_token":`+strconv.Quote(sent)+`}`))
		if w.Code != http.StatusUnauthorized && w.Code != http.StatusBadRequest &&
			w.Code != http.StatusRequestEntityTooLarge {
			t.Fatalf("%q = %d %s", sent, w.Code, w.Body)
		}
		if got := k.revoked.take(); got != nil {
			t.Fatalf("%q revoked %v", sent, got)
		}
	})
}

// A session's record contains the key of its tags, but not the secret of its tokens.
func TestWhoReadsTheStoreCannotRefresh(t *testing.T) {
	k := newKit(t)
	kim := k.mustRefresh(t, k.kim(t).Refresh)
	id := kim.Refresh[:26]
	value, _, err := k.config.Sessions.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var record struct{ Mark, Current, Salt []byte }
	if err := json.Unmarshal(value, &record); err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string][]byte{"nothing": make([]byte, 32), "the hash": record.Current,
		"the salt": record.Salt, "the mark": record.Mark} {
		h := hmac.New(sha256.New, record.Mark) // as authsvc does it
		h.Write([]byte("pillion refresh tag\x00"))
		h.Write([]byte{0, 0, 0, 0, 0, 0, 0, 2})
		h.Write(secret)
		k.wantNoRefresh(t, id+".2."+base64.RawURLEncoding.EncodeToString(append(secret[:32:32], h.Sum(nil)[:16]...)))
		if lines := k.log.Lines(t, "refresh"); lines[len(lines)-1]["reason"] != "forged token" {
			t.Errorf("%s: %v", name, lines[len(lines)-1])
		}
	}
	k.mustRefresh(t, kim.Refresh)
}
