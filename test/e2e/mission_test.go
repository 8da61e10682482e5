package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/nats-io/nats.go"

	"github.com/example/pillion/internal/wait"
)

// A natsTool is a client for watching and publishing on NATS. key is the file of an nkey, or "" for
// a client without credentials.
type natsTool interface {
	request(t *testing.T, subject string) string
	// watch subscribes, and returns the output in the format of nats sub.
	watch(t *testing.T, key, subject string) *wait.Journal
	publish(t *testing.T, key, subject, authorization, body string)
}

// TestMission shows Pillion's purpose with public tools: events carry the token of their author,
// the public key verifies it, the demo feed contains no token, and a forged event has no effect.
func TestMission(t *testing.T) {
	t.Parallel()
	p := newPorts(t)
	data := t.TempDir()
	pillion(t, p, data)
	url := "nats://" + p.nats
	t.Run("nats.go", func(t *testing.T) { mission(t, p, data, library{url}) })
	t.Run("nats CLI", func(t *testing.T) {
		program, err := exec.LookPath("nats")
		if err != nil {
			if os.Getenv("PILLION_README") != "" {
				t.Fatal("make check needs the nats CLI")
			}
			t.Skip("there is no nats CLI here; make check builds one")
		}
		mission(t, p, data, cli{program, url, t.TempDir()})
	})
}

func mission(t *testing.T, p ports, data string, tool natsTool) {
	key := func(who string) string { return filepath.Join(data, "services", who+".nk") }
	stored, told := tool.watch(t, key("operator"), "booking.>"), tool.watch(t, "", "booking.>")

	user, raider := login(t, p, "john@example.com", "user"), login(t, p, "rider@example.com", "raider")
	book := func() string {
		return mustCall(t, "POST", "http://"+p.user+"/book", "{}", "Authorization", "Bearer "+user).field("booking_id")
	}
	// The CLI reports its subscription before the server has it.
	wait.Until(t, "both are watching", func() bool {
		book()
		return strings.Contains(stored.String(), "Received on") && strings.Contains(told.String(), "Received on")
	})
	id := book()
	requested := "booking." + id + ".1.requested"
	headers, body := shown(t, stored, requested)

	pem := tool.request(t, "auth.public-key")
	public, err := jwt.ParseRSAPublicKeyFromPEM([]byte(pem))
	if err != nil {
		t.Fatalf("auth.public-key answers %q: %v", pem, err)
	}
	raw, ok := strings.CutPrefix(headers["Authorization"], "Bearer ")
	if !ok {
		t.Fatalf("the event carries no token: %v", headers)
	}
	claims := jwt.MapClaims{}
	parsed, err := jwt.ParseWithClaims(raw, claims, func(*jwt.Token) (any, error) { return public, nil },
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithExpirationRequired(), jwt.WithAudience("pillion-ledger"))
	if err != nil {
		t.Fatalf("the token of the event does not verify: %v", err)
	}
	if parsed.Header["typ"] != "event+jwt" || claims["role"] != "user" || claims["sub"] != body["actor"] ||
		claims["email"] != nil {
		t.Errorf("the token is of %v, and the event of %v", claims, body["actor"])
	}
	// It proves the event, and opens nothing.
	for _, url := range []string{p.user + "/book", p.rider + "/accept-booking", p.auth + "/logout"} {
		if a := mustCall(t, "POST", "http://"+url, "{}", "Authorization", "Bearer "+raw); a.status != 403 ||
			a.body != "Invalid token" {
			t.Errorf("%s with the token of the event: %d %s", url, a.status, a.body)
		}
	}
	if nc, err := nats.Connect("nats://"+p.nats, nats.Token(raw)); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("NATS with the token of the event: %v", err)
		if err == nil {
			nc.Close()
		}
	}

	watched, seen := shown(t, told, requested)
	if watched["ce-id"] != headers["ce-id"] || seen["booking_id"] != id || seen["event"] != "requested" {
		t.Errorf("without a credential one sees %v %v, and the event is %v", watched, seen, headers)
	}

	// With ridersvc's stolen key, and without a rider's token, nobody can take the booking.
	accepted := fmt.Sprintf(
		`{"v":2,"booking_id":%q,"actor":%q,"role":"raider","command_id":"aaaaaaaaaaaaaaaaaaaaaaaaaa"}`, id,
		claims["sub"])
	for n, authorization := range []string{"Bearer " + forged(t, claims["sub"]), "Bearer " + user} {
		subject := fmt.Sprintf("booking.%s.%d.accepted", id, n+2)
		tool.publish(t, key("ridersvc"), "ledger."+subject, authorization, accepted)
		shown(t, stored, subject) // it is stored
	}
	tool.publish(t, "", requested, "Bearer "+user, "{}")           // may not be said by anybody
	tool.publish(t, "", "ledger."+requested, "Bearer "+user, "{}") // nor this
	is := func(state string) {
		t.Helper()
		if a := mustCall(t, "GET", "http://"+p.user+"/bookings/"+id, "", "Authorization",
			"Bearer "+user); a.field("state") != state {
			t.Errorf("the booking is %d %s, want %s", a.status, a.body, state)
		}
	}
	is("open")
	if a := mustCall(t, "POST", "http://"+p.rider+"/accept-booking", fmt.Sprintf(`{"booking_id":%q}`, id),
		"Authorization", "Bearer "+raider); a.status != 200 {
		t.Errorf("accept after forgeries: %d %s", a.status, a.body)
	}
	is("accepted")
	shown(t, told, "booking."+id+".4.accepted")
	if said := told.String(); strings.Contains(said, "Authorization") || strings.Contains(said, "eyJ") ||
		strings.Count(said, id+".") != 2 {
		t.Errorf("without a credential one sees more than the two events, or a token:\n%s", said)
	}
	mustCall(t, "POST", "http://"+p.user+"/bookings/"+id+"/cancel", "{}", "Authorization",
		"Bearer "+user) // the raider is free again
}

// shown waits for an event in the output, and returns its headers and its body.
func shown(t *testing.T, at *wait.Journal, subject string) (map[string]string, map[string]any) {
	t.Helper()
	event := regexp.MustCompile(`Received on "` + regexp.QuoteMeta(subject) + `".*\n((?:.+\n)*)\n(.+)\n`)
	var m []string
	wait.Until(t, subject+" is shown", func() bool {
		m = event.FindStringSubmatch(at.String())
		return m != nil
	})
	headers, body := map[string]string{}, map[string]any{}
	for line := range strings.Lines(m[1]) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		headers[name] = value
	}
	if err := json.Unmarshal([]byte(m[2]), &body); err != nil {
		t.Fatalf("%s is %s: %v", subject, m[2], err)
	}
	return headers, body
}

// forged returns a raider's token with the signature of another key.
func forged(t *testing.T, subject any) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	raw, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": "pillion", "aud": "pillion", "sub": subject, "email": "rider@example.com", "role": "raider",
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	}).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// cli is the nats CLI, with its own home folder.
type cli struct{ program, url, home string }

func (c cli) command(t *testing.T, key string, args ...string) *exec.Cmd {
	all := []string{"-s", c.url}
	if key != "" {
		all = append(all, "--nkey", key)
	}
	cmd := exec.CommandContext(t.Context(), c.program, append(all, args...)...)
	cmd.Env = []string{"HOME=" + c.home, "PATH=" + os.Getenv("PATH")}
	return cmd
}

func (c cli) request(t *testing.T, subject string) string {
	t.Helper()
	out, err := c.command(t, "", "req", subject, "").Output()
	if err != nil {
		t.Fatalf("nats req %s: %v", subject, err)
	}
	return string(out)
}

func (c cli) watch(t *testing.T, key, subject string) *wait.Journal {
	t.Helper()
	out := new(wait.Journal)
	cmd := c.command(t, key, "sub", subject)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // killed with the test's context
	return out
}

func (c cli) publish(t *testing.T, key, subject, authorization, body string) {
	t.Helper()
	if out, err := c.command(t, key, "pub", subject, body, "-H",
		"Authorization:"+authorization).CombinedOutput(); err != nil {
		// a client without the permission gets an error
		t.Logf("nats pub %s: %v %s", subject, err, out)
	}
}

// library uses nats.go, if there is no CLI.
type library struct{ url string }

func (l library) connect(t *testing.T, key string) *nats.Conn {
	t.Helper()
	var opts []nats.Option
	if key != "" {
		proof, err := nats.NkeyOptionFromSeed(key)
		if err != nil {
			t.Fatal(err)
		}
		opts = append(opts, proof)
	}
	nc, err := nats.Connect(l.url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func (l library) request(t *testing.T, subject string) string {
	t.Helper()
	m, err := l.connect(t, "").Request(subject, nil, 10*time.Second)
	if err != nil {
		t.Fatalf("request %s: %v", subject, err)
	}
	return string(m.Data)
}

func (l library) watch(t *testing.T, key, subject string) *wait.Journal {
	t.Helper()
	out, nc := new(wait.Journal), l.connect(t, key)
	if _, err := nc.Subscribe(subject, func(m *nats.Msg) {
		var b strings.Builder
		fmt.Fprintf(&b, "Received on %q\n", m.Subject)
		for name, values := range m.Header {
			fmt.Fprintf(&b, "%s: %s\n", name, values[0])
		}
		fmt.Fprintf(&b, "\n%s\n\n", m.Data)
		_, _ = out.Write([]byte(b.String()))
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return out
}

func (l library) publish(t *testing.T, key, subject, authorization, body string) {
	t.Helper()
	nc := l.connect(t, key)
	if err := nc.PublishMsg(&nats.Msg{Subject: subject, Header: nats.Header{"Authorization": {authorization}},
		Data: []byte(body)}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}
