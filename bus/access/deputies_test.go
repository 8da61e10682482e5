package access_test

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token/tokentest"
)

// targets are subjects at which an answer would do harm: a client that may not publish there could
// name them as the reply subject of a request, and let somebody with more rights write there.
func targets() []string {
	all := []string{
		"ledger.booking." + b + ".2.accepted", "ledger.booking." + b + ".1.requested",
		"ledger.rider." + tokentest.Rita + "." + b + ".engaged",
		"timer.set.99", "timer.due.99", "quarantine.99", "audit.auth.login",
		"booking." + b + ".2.accepted", "rider." + tokentest.Rita + "." + b + ".engaged", "kv.KEYS.jwks",
		"feed.booking." + b + ".2.accepted", "feed.user." + tokentest.Ulla + "." + b + ".2.accepted",
		"feed.rider." + tokentest.Rita + "." + b + ".2.accepted",
		"feed.rider." + tokentest.Rita + ".open." + b + ".7.open", "fleet.position." + tokentest.Rita,
		"auth.service-token", "auth.jwks", "auth.order", "rides.of-user", "rides.of-rider", "$SRV.PING",
		"$JS.API.STREAM.CREATE.MORE", "$JS.API.CONSUMER.CREATE.BOOKINGS.more", "$JS.API.STREAM.LEADER.STEPDOWN.BOOKINGS",
		"$JS.ACK.TIMERS.timers.1.1.1.1.0", "$JS.ACK.TIMERS.releases.1.1.1.1.0", "$JS.API.CONSUMER.DELETE.TIMERS.timers",
		"$SYS.REQ.USER.AUTH", "$SYS.REQ.SERVER.PING.KICK",
		"_INBOX.x", "_INBOX_" + tokentest.Ulla + ".x",
	}
	for _, who := range []string{access.Authsvc, access.Usersvc, access.Ridersvc, access.Callout} {
		all = append(all, "_INBOX_"+who+".x")
	}
	streams := []string{bus.LedgerStream, bus.QuarantineStream, bus.AuditStream, bus.TimersStream}
	for _, bucket := range bus.Buckets() {
		streams = append(streams, bus.BucketStream(bucket))
		all = append(all, "$KV."+bucket+".jwks")
	}
	for _, s := range streams {
		all = append(all, "$JS.API.STREAM.DELETE."+s, "$JS.API.STREAM.PURGE."+s, "$JS.API.STREAM.UPDATE."+s,
			"$JS.API.STREAM.MSG.DELETE."+s)
	}
	return all
}

// dangerous returns headers that NATS obeys, and by which a message could do more than its subject
// says.
func dangerous(target string) []nats.Header {
	return []nats.Header{
		nil,
		{"Nats-Rollup": {"sub"}},
		{"Nats-Schedule": {"@at 2020-01-01T00:00:00Z"}, "Nats-Schedule-Target": {target}},
		{"Nats-Trace-Dest": {target}},
		{"Nats-Expected-Stream": {"KV_KEYS"}},
		{"Nats-Batch-Id": {"x"}, "Nats-Batch-Sequence": {"1"}, "Nats-Batch-Commit": {"1"}},
		{"Nats-Request-Info": {`{"acc":"PILLION","user":"operator"}`}},
		{"KV-Operation": {"PURGE"}},
	}
}

// requestBody returns a body with which a request to a subject is answered. Where its content does
// not matter, it says whose it is.
func requestBody(who, subject string) string {
	switch {
	case strings.Contains(subject, ".MSG.NEXT."):
		return `{"batch":1,"no_wait":true}`
	case strings.Contains(subject, ".MSG.GET."), strings.Contains(subject, ".DIRECT.GET."):
		return `{"seq":1}`
	case strings.HasPrefix(subject, "$JS.API."):
		return ""
	}
	return `{"by":"` + who + `"}`
}

// concrete returns a subject that a pattern matches.
func concrete(pattern string) string {
	pattern = strings.ReplaceAll(pattern, ">", "x")
	tokens := strings.Split(pattern, ".")
	for i, token := range tokens {
		if token == "*" {
			tokens[i] = b
		}
	}
	return strings.Join(tokens, ".")
}

// An overheard message has come to somebody who listens.
type overheard struct {
	subject string
	by      string // whose message it is, from its body; empty: an answer of the server
}

// A listener collects what is overheard.
type listener struct {
	mu    sync.Mutex
	heard []overheard
}

func (o *listener) listen(t *testing.T, nc *nats.Conn, subjects ...string) {
	t.Helper()
	for _, subject := range subjects {
		if _, err := nc.Subscribe(subject, func(m *nats.Msg) {
			o.mu.Lock()
			defer o.mu.Unlock()
			var body struct{ By string }
			_ = json.Unmarshal(m.Data, &body)
			o.heard = append(o.heard, overheard{m.Subject, body.By})
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.FlushTimeout(wait.Patience); err != nil {
		t.Fatal(err)
	}
}

// stored returns all that is stored: for each stream the subjects of its messages, by sequence.
func stored(t *testing.T, js jetstream.JetStream) map[string]map[uint64]string {
	t.Helper()
	all := map[string]map[uint64]string{}
	streams := js.ListStreams(t.Context())
	for info := range streams.Info() {
		all[info.Config.Name] = map[uint64]string{}
		s, err := js.Stream(t.Context(), info.Config.Name)
		if err != nil {
			t.Fatal(err)
		}
		for seq := max(info.State.FirstSeq, 1); seq <= info.State.LastSeq; seq++ {
			if m, err := s.GetMsg(t.Context(), seq); err == nil {
				all[info.Config.Name][seq] = m.Subject
			}
		}
	}
	if err := streams.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// A deputy with more rights writes nowhere for somebody with fewer. Each client publishes to each
// subject that it may publish to, and names as the reply subject, one after the other, all that it
// may not publish to, with each header that NATS obeys. Nothing may be stored, changed or heard but
// on its own subjects.
func TestWalkOfDeputies(t *testing.T) {
	bustest.Setup{Closed: true, Watch: true}.Sizes(t, func(t *testing.T, e *bustest.Env) {
		at := crowd(t, e)
		heard := &listener{}
		heard.listen(t, at[access.Operator], "feed.>", "fleet.>", "booking.>", "rider.>", "kv.>", "_INBOX.>")
		heard.listen(t, at[access.Watcher], "booking.>")
		heard.listen(t, at[user], "_INBOX_"+tokentest.Ulla+".>")
		heard.listen(t, at[access.Authsvc], "auth.service-token", "_INBOX_authsvc.x")
		heard.listen(t, at[access.Usersvc], "rides.of-user", "_INBOX_usersvc.x")
		heard.listen(t, at[access.Ridersvc], "rides.of-rider", "_INBOX_ridersvc.x")
		js := e.ConnectAs(t, access.Operator).JetStream()
		// Something to be lost in each stream, and to be fetched.
		for _, subject := range []string{"audit.auth.login", "quarantine.1", "$KV.KEYS.jwks", "$KV.ACCOUNTS.a",
			"$KV.SESSIONS.a", "$KV.REVOCATIONS.s.x", "$KV.LIMITS.a", "$KV.FAMILIAR.a", "$KV.RIDERS.a",
			"ledger.booking." + b + ".9.operator_cancelled"} {
			if _, err := js.Publish(t.Context(), subject, []byte("{}")); err != nil {
				t.Fatalf("%s: %v", subject, err)
			}
		}
		for _, g := range access.Table() {
			if g.Who != access.Operator { // whose rights are everybody's deputy's
				walk(t, at[g.Who], g, js, heard)
			}
		}
	})
}

// settled returns when the server has done what a client has asked for: the answers to requests of
// its own come after that. A server drops requests when too many wait.
func settled(t *testing.T, nc *nats.Conn, g access.Grant) {
	t.Helper()
	for _, pattern := range g.Publish {
		for _, call := range []string{".STREAM.INFO.", ".STREAM.MSG.GET.", ".DIRECT.GET."} {
			if !strings.Contains(pattern, call) {
				continue
			}
			if _, err := nc.Request(pattern, []byte(requestBody(g.Who, pattern)), wait.Patience); err != nil {
				t.Fatalf("%s asks %s: %v", g.Who, pattern, err)
			}
		}
	}
	if err := nc.FlushTimeout(wait.Patience); err != nil {
		t.Fatal(err)
	}
}

func walk(t *testing.T, nc *nats.Conn, g access.Grant, js jetstream.JetStream, heard *listener) {
	t.Helper()
	// An answer goes back into the asker's account. What the asker hears there itself concerns
	// nobody else. Watchers share one account.
	may := func(g access.Grant, subject string) bool {
		return slices.ContainsFunc(slices.Concat(g.Publish, g.Subscribe),
			func(p string) bool { return covers(p, subject) })
	}
	own := func(subject string) bool { return may(g, subject) }
	before := stored(t, js)
	heard.mu.Lock()
	heard.heard = nil
	heard.mu.Unlock()
	cells := 0
	for i, target := range targets() {
		if own(target) {
			continue
		}
		for j, pattern := range g.Publish {
			subject := concrete(pattern)
			if strings.Contains(subject, ".PURGE.") {
				continue // its own cache
			}
			for k, header := range dangerous(target) {
				if !wait.Long() && k != (i+j)%len(dangerous(target)) {
					continue // one after the other
				}
				cells++
				if err := nc.PublishMsg(&nats.Msg{Subject: subject, Reply: target, Header: header,
					Data: []byte(requestBody(g.Who, subject))}); err != nil {
					t.Fatal(err)
				}
			}
		}
		settled(t, nc, g)
	}
	after := stored(t, js)
	t.Logf("%s: %d cells", g.Who, cells)
	for stream, messages := range before {
		if after[stream] == nil {
			t.Errorf("%s has deleted stream %s", g.Who, stream)
		}
		for seq, subject := range messages {
			if _, there := after[stream][seq]; !there && !own(subject) {
				t.Errorf("%s has removed %s from %s", g.Who, subject, stream)
			}
		}
	}
	for stream, messages := range after {
		if before[stream] == nil {
			t.Errorf("%s has made stream %s", g.Who, stream)
		}
		for seq, subject := range messages {
			if _, there := before[stream][seq]; !there && !own(subject) {
				t.Errorf("%s has stored %s in %s", g.Who, subject, stream)
			}
		}
	}
	heard.mu.Lock()
	defer heard.mu.Unlock()
	for _, m := range heard.heard {
		of := g
		for _, other := range access.Table() {
			if m.by == other.Who {
				of = other // whose message may have come late
			}
		}
		subject, from := m.subject, m.subject // what is republished is stored under another subject
		for live, stream := range map[string]string{"booking.": "ledger.", "rider.": "ledger.", "kv.": "$KV"} {
			if rest, ok := strings.CutPrefix(subject, live); ok {
				from = stream + live + rest
				if stream == "$KV" {
					from = stream + "." + rest
				}
			}
		}
		if !may(of, subject) && !may(of, from) && !may(of, "feed."+subject) {
			t.Errorf("%s is heard on %s", of.Who, subject)
		}
	}
}
