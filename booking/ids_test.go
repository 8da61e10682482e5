package booking_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/example/pillion/booking"
)

func TestNewID(t *testing.T) {
	seen := make(map[string]bool)
	letters := make(map[rune]bool)
	for range 1000 {
		id := booking.NewID()
		if !booking.ValidID(id) || seen[id] {
			t.Fatalf("%q is invalid or not new", id)
		}
		seen[id] = true
		for _, r := range id {
			letters[r] = true
		}
	}
	if len(letters) != 32 {
		t.Errorf("a thousand ids use %d letters, want 32", len(letters))
	}
}

func TestDeriveID(t *testing.T) {
	seen := make(map[string][]string)
	for _, parts := range [][]string{
		nil, {""}, {"", ""}, {"ab"}, {"a", "b"}, {"ab", ""}, {"", "ab"}, {"b", "a"},
		{"\x00\x00\x00\x00\x00\x00\x00\x01a"}, {"a\x00\x00\x00\x00\x00\x00\x00\x01b"},
	} {
		id := booking.DeriveID(parts...)
		if !booking.ValidID(id) {
			t.Errorf("%q derives the invalid %q", parts, id)
		}
		if other, ok := seen[id]; ok {
			t.Errorf("%q and %q derive the same id", parts, other)
		}
		seen[id] = parts
	}
	// Written down, as ids derived from an Idempotency-Key today must be the same after every
	// update. The hash is of 00000000 00000007 "booking" 00000000 00000001 "k".
	if got, want := booking.DeriveID("booking", "k"), "jbefiwrns5co524nn4ekbaya54"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestValidID(t *testing.T) {
	good := "abcdefghijklmnopqrstuvwxyz"
	for id, want := range map[string]bool{
		good: true, strings.Repeat("7", 26): true, strings.Repeat("2", 26): true,
		"": false, good[1:]: false, good + "a": false, strings.ToUpper(good): false,
		good[:25] + "1": false, good[:25] + "8": false, good[:25] + "0": false, good[:25] + ".": false, good[:25] + "*": false,
		good[:25] + ">": false, good[:25] + " ": false, good[:25] + "\x00": false, good[:24] + "\u00e9": false,
	} {
		if got := booking.ValidID(id); got != want {
			t.Errorf("%q: %v", id, got)
		}
	}
}

// A command's proof is a token: it shows nowhere, however a command is printed.
func TestProofNeverShows(t *testing.T) {
	const secret = "eyJhbGciOiJSUzI1NiJ9"
	c := booking.Command{ID: "command", Actor: rider, Proof: secret}
	type holder struct {
		Command booking.Command
		Pointer *booking.Command
		Any     any
		List    []booking.Command
		Map     map[string]booking.Command
	}
	h := holder{c, &c, c, []booking.Command{c}, map[string]booking.Command{"c": c}}
	show := map[string]string{"String": c.String(), "GoString": c.GoString(), "LogValue": c.LogValue().String()}
	// All verbs but %p, which asks nobody how to print a struct. Vet does not let it through.
	for _, verb := range strings.Split("v +v #v s q x X d t b o O e g c U T 10v -30s 010d", " ") {
		show["%"+verb] = fmt.Sprintf("%"+verb, c)
		show["%"+verb+" in a struct"] = fmt.Sprintf("%"+verb, h)
		show["%"+verb+" of a pointer"] = fmt.Sprintf("%"+verb, &c)
	}
	for name, handler := range map[string]func(w *strings.Builder) slog.Handler{
		"text": func(w *strings.Builder) slog.Handler { return slog.NewTextHandler(w, nil) },
		"JSON": func(w *strings.Builder) slog.Handler { return slog.NewJSONHandler(w, nil) },
	} {
		var w strings.Builder
		log := slog.New(handler(&w))
		log.Info("command", "command", c, "pointer", &c, "struct", h, "list", []booking.Command{c})
		log.With("command", c).WithGroup("g").Info("command", slog.Any("any", c))
		show["slog as "+name] = w.String()
	}
	for how, s := range show {
		// In hexadecimal it would be no secret either.
		if strings.Contains(s, secret) || strings.Contains(strings.ToLower(s), fmt.Sprintf("%x", secret)) {
			t.Errorf("%s shows the proof: %s", how, s)
		}
	}
	for _, how := range []string{"String", "GoString", "LogValue", "%v", "%+v", "%#v", "slog as text", "slog as JSON"} {
		if !strings.Contains(show[how], "command") || !strings.Contains(show[how], "rider") ||
			!strings.Contains(show[how], "raider") {
			t.Errorf("%s does not show who did what: %s", how, show[how])
		}
	}
}
