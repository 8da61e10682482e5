package commands

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

// TestKeysForOperators lists keys, rotates them, and retires a compromised one beside the running
// system, which follows at once.
func TestKeysForOperators(t *testing.T) {
	t.Parallel() // mostly waits
	data := t.TempDir()
	p := proctest.Pillion(t, data, "--demo")
	type key struct {
		ID            string `json:"kid"`
		Stage         string
		ActiveFrom    time.Time `json:"active_from"`
		RetiredAt     time.Time `json:"retired_at"`
		CompromisedAt time.Time `json:"compromised_at"`
	}
	at := p.NATS(data, "operator")
	do := func(args ...string) []key {
		t.Helper()
		args = append([]string{"keys"}, append(append(args, "--json"), p.NATS(data, "operator")...)...)
		status, stdout, stderr := proctest.Finish(t, "authsvc", args...)
		if status != 0 || stderr != "" {
			t.Fatalf("%v: %d %s", args, status, stderr)
		}
		var keys []key
		for d := json.NewDecoder(strings.NewReader(stdout)); d.More(); {
			var k key
			if err := d.Decode(&k); err != nil {
				t.Fatal(err)
			}
			keys = append(keys, k)
		}
		return keys
	}
	with := func(keys []key, stage string) (found []key) {
		for _, k := range keys {
			if k.Stage == stage {
				found = append(found, k)
			}
		}
		return found
	}
	book := func(token string) (int, string) {
		return proctest.Call(t, http.MethodPost, p.At["usersvc"]+"/book",
			http.Header{"Authorization": {"Bearer " + token}}, "{}")
	}
	old := login(t, p)
	keys := do("rotate") // waits for the next key if that does not exist yet
	if len(with(keys, "active")) != 1 || keys[0].RetiredAt.IsZero() || !keys[0].RetiredAt.Equal(keys[1].ActiveFrom) {
		t.Fatalf("after the rotation: %+v", keys)
	}
	wait.Until(t, "the second key has taken over", func() bool {
		_, words := proctest.Get(t, p.At["authsvc"]+"/.well-known/jwks.json")
		return len(with(do("list"), "retired")) == 1 && strings.Contains(words, keys[1].ID)
	})
	if status, words := book(old); status != http.StatusOK {
		t.Errorf("book with a token of the retired key: %d %s", status, words)
	}
	newer := login(t, p)

	after := do("retire", keys[0].ID, "--as-of="+time.Now().Add(-time.Minute).UTC().Format(time.RFC3339))
	if bad := with(after, "compromised"); len(bad) != 1 || bad[0].ID != keys[0].ID {
		t.Errorf("after the retirement: %+v", after)
	}
	wait.Until(t, "its tokens stop working", func() bool {
		status, words := book(old)
		return status == http.StatusForbidden && words == "Invalid token"
	})
	if status, words := book(newer); status != http.StatusOK {
		t.Errorf("book with a token of the other key: %d %s", status, words)
	}
	if _, words := proctest.Get(t, p.At["authsvc"]+"/.well-known/jwks.json"); strings.Contains(words, keys[0].ID) {
		t.Errorf("a compromised key is published: %s", words)
	}

	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"keys", "retire", "nobody", at[0], at[1]}, 1, "There is no such key. List them with: authsvc keys list"},
		{[]string{"keys", "retire", "-lAjW0gQNlgEaTWw3rc6uzxDorz8xCLSgNMBhheyJhc", at[0], at[1]}, 1, "There is no such key. List them with: authsvc keys list"},
		{[]string{"keys", "retire", keys[1].ID, "--as-of=yesterday", at[0], at[1]}, 2, "--as-of must be a time such as"},
		{[]string{"keys", "retire", keys[1].ID, "--as-of=2100-01-01T00:00:00Z", at[0], at[1]}, 2, "in the future"},
		{[]string{"keys", "list", "--nats-url=nats://" + bustest.FreeAddr(t), at[1]}, 1, "NATS"},
	} {
		if status, stdout, stderr := proctest.Finish(t, "authsvc", c.args...); status != c.status || stdout != "" ||
			!strings.Contains(stderr, c.says) {
			t.Errorf("%v: %d %s%s, want %d and %q", c.args, status, stdout, stderr, c.status, c.says)
		}
	}
	if status, stdout, stderr := proctest.Finish(t, "authsvc", "keys", "list", at[0], at[1]); status != 0 ||
		!strings.HasPrefix(stdout, "KID ") || strings.Count(stdout, "\n") != len(do("list"))+2 || stderr != "" {
		t.Errorf("a table: %d %s%s", status, stdout, stderr)
	}
}
