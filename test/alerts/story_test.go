package alerts

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
)

// TestStory lets a Prometheus with our configuration scrape the system. After a ride no alert's
// expression returns anything, and every panel's query returns something. Then the conditions of
// seven alerts come true, and their expressions return that. How long each has to last is not
// awaited: promtool tests it.
func TestStory(t *testing.T) {
	t.Parallel()
	program := tool(t, "prometheus")
	if !wait.Long() {
		t.Skip("it takes half a minute; set PILLION_LONG=1")
	}
	// Sessions whose refresh token is used twice end at once.
	p, data, certs := system(t, "--refresh-grace=0")
	second := proctest.Start(t, "usersvc", "--user-addr=127.0.0.1:0", "--ops-addr=127.0.0.1:0",
		"--nats-url="+strings.Replace(p.At["nats"], "nats://", "tls://", 1), "--nats-ca="+certs+"/ca.crt",
		"--service-key="+data+"/services/usersvc.nk")
	second.Ready(t)
	ride(t, p)
	s := scrape(t, program, p, second)
	for _, q := range queries(t) {
		wait.Until(t, q.from+" shows something: "+q.expr, func() bool { return len(s.query(t, q.expr)) > 0 })
	}
	for _, a := range alerts(t) {
		if slow := regexp.MustCompile(`slo="(latency|feed)"`); slow.MatchString(a.Expr) {
			continue // this machine may be
		}
		if found := s.query(t, a.Expr); len(found) > 0 {
			t.Errorf("%s fires without a reason: %v", a.Alert, found)
		}
	}

	sprayPasswords(t, p)
	reuseRefreshToken(t, p)
	sendUnknownKeys(t, p)
	writeToLedger(t, p, data, certs)
	for _, name := range []string{"PillionPasswordSpraying", "PillionRefreshReused", "PillionUnknownKeys"} {
		s.fires(t, name, nil)
	}
	s.fires(t, "PillionEventsRefused", map[string]string{"reason": "subject"})

	p.Kill() // and NATS with it
	gone, left := strings.TrimPrefix(p.At["ops"], "http://"), strings.TrimPrefix(second.At["ops"], "http://")
	s.fires(t, "PillionInstanceDown", map[string]string{"instance": gone})
	s.fires(t, "PillionNotReady", map[string]string{"instance": left, "check": "nats"})
	s.fires(t, "PillionStreamWithoutLeader", map[string]string{"stream": bus.LedgerStream})
}

// sprayPasswords tries a wrong password once at each of many accounts.
func sprayPasswords(t *testing.T, p *proctest.Program) {
	t.Helper()
	for i := range 40 {
		send(t, http.StatusUnauthorized, http.MethodPost, p.At["authsvc"]+"/login", "",
			fmt.Sprintf(`{"email":"victim%d@example.com","password":"Summer2026!","role":"user"}`, i))
	}
}

func reuseRefreshToken(t *testing.T, p *proctest.Program) {
	t.Helper()
	_, refresh := login(t, p, "john@example.com", "user")
	body := fmt.Sprintf(`{"refresh_token":%q}`, refresh)
	send(t, http.StatusOK, http.MethodPost, p.At["authsvc"]+"/refresh", "", body)
	send(t, http.StatusUnauthorized, http.MethodPost, p.At["authsvc"]+"/refresh", "", body)
}

// sendUnknownKeys sends tokens that are good but for their key.
func sendUnknownKeys(t *testing.T, p *proctest.Program) {
	t.Helper()
	foreign := tokentest.New(t).Token(token.User, tokentest.Ulla, "ulla@example.com")
	for range 15 {
		send(t, http.StatusForbidden, http.MethodPost, p.At["usersvc"]+"/book", foreign, "{}")
	}
}

// writeToLedger writes what nobody may have said, with the stolen key of a service.
func writeToLedger(t *testing.T, p *proctest.Program, data, certs string) {
	t.Helper()
	key, err := bus.LoadOrCreateServiceKey(access.KeyFile(filepath.Join(data, "services"), access.Usersvc))
	if err != nil {
		t.Fatal(err)
	}
	thief := bustest.ConnectTo(t, bus.Config{URL: strings.Replace(p.At["nats"], "nats://", "tls://", 1),
		CA: certs + "/ca.crt", Key: key, Inbox: access.Usersvc})
	subject := "ledger.booking." + booking.NewID() + ".x.requested"
	if _, err := thief.JetStream().Publish(t.Context(), subject, []byte("{}")); err != nil {
		t.Fatal(err)
	}
}

// A scraper is a Prometheus that scrapes programs every pace.
type scraper struct{ url string }

// pace is longer than a scrape takes, which runs the checks of readiness: they wait for a second
// where NATS does not answer.
const pace = "3s"

// scrape starts a Prometheus with our configuration, but for its pace and its targets, and waits
// until it has scraped them.
func scrape(t *testing.T, program string, targets ...*proctest.Program) scraper {
	t.Helper()
	dir := t.TempDir()
	for _, file := range glob(t, rulesDir, "*.yml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(file) == "prometheus.yml" {
			text = []byte(strings.ReplaceAll(string(text), "_interval: 15s", "_interval: "+pace))
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var addrs []string
	for _, p := range targets {
		addrs = append(addrs, fmt.Sprintf("%q", strings.TrimPrefix(p.At["ops"], "http://")))
	}
	list := "- targets: [" + strings.Join(addrs, ", ") + "]\n"
	if err := os.WriteFile(filepath.Join(dir, "targets.yml"), []byte(list), 0o644); err != nil {
		t.Fatal(err)
	}
	addr := bustest.FreeAddr(t)
	cmd := exec.Command(program, "--config.file="+dir+"/prometheus.yml", "--storage.tsdb.path="+dir+"/tsdb",
		"--web.listen-address="+addr)
	proctest.Run(t, "prometheus", cmd)
	s := scraper{"http://" + addr}
	wait.Until(t, "Prometheus has scraped all of them twice", func() bool {
		return len(s.query(t, `count_over_time(up{job="pillion"}[1m]) > 1 and up == 1`)) == len(targets)
	})
	return s
}

// query returns the labels of the series that an expression returns now; none while Prometheus does
// not answer yet.
func (s scraper) query(t *testing.T, expr string) (found []map[string]string) {
	t.Helper()
	client := http.Client{Timeout: wait.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(s.url + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if resp.StatusCode == http.StatusServiceUnavailable { // it is starting
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Status != "success" {
		t.Fatalf("query %s: %s %s %v", expr, resp.Status, answer.Error, err)
	}
	for _, r := range answer.Data.Result {
		found = append(found, r.Metric)
	}
	return found
}

// fires waits until an alert's expression returns a series with these labels.
func (s scraper) fires(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	for _, a := range alerts(t) {
		if a.Alert != name {
			continue
		}
		began := time.Now()
		wait.Until(t, fmt.Sprintf("%s fires for %v", name, labels), func() bool {
			for _, found := range s.query(t, a.Expr) {
				same := true
				for l, want := range labels {
					same = same && found[l] == want
				}
				if same {
					t.Logf("%s after %v: %v", name, time.Since(began).Round(time.Millisecond), found)
					return true
				}
			}
			return false
		})
		return
	}
	t.Fatalf("there is no alert %s", name)
}
