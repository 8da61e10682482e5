package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/bus"
)

// tokenShape matches what looks like a JWT.
var tokenShape = regexp.MustCompile(`eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+`)

// TestTokensAtRest takes a ride to its end, and throws every token that is stored anywhere, in
// NATS or in a file of its store, at every door: the HTTP routes, a refresh, a logout and NATS.
// None opens.
func TestTokensAtRest(t *testing.T) {
	t.Parallel()
	p, data := newPorts(t), t.TempDir()
	prog := pillion(t, p, data)
	user, rider := login(t, p, "john@example.com", "user"), login(t, p, "rider@example.com", "raider")
	do := func(addr, path, body, bearer string) answer {
		t.Helper()
		a := mustCall(t, "POST", "http://"+addr+path, body, "Authorization", "Bearer "+bearer)
		if a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, a.status, a.body)
		}
		return a
	}
	id := do(p.user, "/book", "{}", user).field("booking_id")
	ride := "/bookings/" + id
	do(p.rider, "/accept-booking", fmt.Sprintf(`{"booking_id":%q}`, id), rider)
	code := mustCall(t, "GET", "http://"+p.user+ride, "", "Authorization", "Bearer "+user).field("start_code")
	do(p.rider, ride+"/arrive", "{}", rider)
	do(p.rider, ride+"/start", fmt.Sprintf(`{"start_code":%q}`, code), rider)
	do(p.rider, ride+"/complete", "{}", rider)
	do(p.user, ride+"/rate", `{"stars":5}`, user)
	do(p.rider, ride+"/rate", `{"stars":5}`, rider)

	tokens, events := tokensIn(t, p, filepath.Join(data, "services", "operator.nk"))
	if events != 7 {
		t.Errorf("%d events carry a token, want 7", events)
	}
	checkDoors(t, p, ride, tokens)

	prog.Stop(t) // and everything is in the files
	var files []string
	err := filepath.WalkDir(data, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		files = append(files, tokenShape.FindAllString(string(text), -1)...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	files = slices.Compact(files)
	if len(files) < 2 {
		t.Errorf("the files have %d tokens, want those of the user and the rider at least", len(files))
	}
	pillion(t, p, data)
	checkDoors(t, p, ride, files)
}

// tokensIn returns all tokens in the streams and buckets of NATS, and how many events carry one.
func tokensIn(t *testing.T, p ports, operator string) (tokens []string, events int) {
	t.Helper()
	js, err := jetstream.New(library{"nats://" + p.nats}.connect(t, operator))
	if err != nil {
		t.Fatal(err)
	}
	streams := js.ListStreams(t.Context())
	for info := range streams.Info() {
		s, err := js.Stream(t.Context(), info.Config.Name)
		if err != nil {
			t.Fatal(err)
		}
		for seq := max(1, info.State.FirstSeq); seq <= info.State.LastSeq; seq++ {
			m, err := s.GetMsg(t.Context(), seq)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}
			if err != nil {
				t.Fatalf("read message %d of %s: %v", seq, info.Config.Name, err)
			}
			if info.Config.Name == bus.LedgerStream && m.Header.Get("ce-type") != "pillion.rider.engaged" &&
				tokenShape.MatchString(m.Header.Get("Authorization")) {
				events++
			}
			tokens = append(tokens, tokenShape.FindAllString(fmt.Sprint(m.Header, string(m.Data)), -1)...)
		}
	}
	if err := streams.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(tokens)
	return slices.Compact(tokens), events
}

// checkDoors checks that no token opens anything.
func checkDoors(t *testing.T, p ports, ride string, tokens []string) {
	t.Helper()
	tried := 0
	for _, d := range []document{
		{"../../authsvc/openapi.yaml", []string{"http://" + p.auth}, ""},
		{"../../usersvc/openapi.yaml", []string{"http://" + p.user}, "user"},
		{"../../ridersvc/openapi.yaml", []string{"http://" + p.rider}, "raider"},
	} {
		operations, err := d.operations()
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range operations {
			url := d.addrs[0] + strings.ReplaceAll(o.path, "/bookings/{id}", ride)
			if mustCall(t, o.method, url, "").status != http.StatusUnauthorized {
				continue // it asks for no token
			}
			for _, raw := range tokens {
				tried++
				if a := mustCall(t, o.method, url, "", "Authorization", "Bearer "+raw); a.status != http.StatusForbidden ||
					a.body != "Invalid token" {
					t.Errorf("%s with a stored token: %d %.200s", o, a.status, a.body)
				}
			}
		}
	}
	for _, raw := range tokens {
		body := fmt.Sprintf(`{"refresh_token":%q}`, raw)
		for _, path := range []string{"/refresh", "/logout", "/logout-all"} {
			if a := mustCall(t, "POST", "http://"+p.auth+path, body); a.status != http.StatusUnauthorized {
				t.Errorf("%s with a stored token: %d %s", path, a.status, a.body)
			}
		}
		nc, err := nats.Connect("nats://"+p.nats, nats.Token(raw))
		if err == nil {
			nc.Close()
		}
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("NATS with a stored token: %v", err)
		}
	}
	t.Logf("%d tokens, %d requests", len(tokens), tried)
	if tried < 20*len(tokens) || len(tokens) < 2 {
		t.Errorf("only %d requests were tried with %d tokens", tried, len(tokens))
	}
}
