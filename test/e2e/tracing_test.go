package e2e

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
)

// TestTraceOfARide has three services send their spans to a collector, and walks a whole ride along
// them: down each request's tree, and along the links from a message to all who work on it, and
// from each event to the one before. The walk goes on where usersvc was killed in between.
func TestTraceOfARide(t *testing.T) {
	t.Parallel() // mostly waits
	c := newCollector(t)
	k := newKillable(t, 10*time.Minute, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.url, "OTEL_BSP_SCHEDULE_DELAY=20",
		"OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test")
	user := "Bearer " + login(t, k.ports, "john@example.com", "user")
	rider := "Bearer " + login(t, k.ports, "rider@example.com", "raider")
	usersvc, ridersvc := "http://"+k.ports.user, "http://"+k.ports.rider
	wait.Until(t, "the collector has the logins", func() bool {
		return len(c.all(func(s span) bool { return s.service == "authsvc" && s.Name == "POST /login" })) == 2
	})

	const stranger, theirs = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	book := func(key string) answer {
		t.Helper()
		a := mustCall(t, "POST", usersvc+"/book", "{}", "Authorization", user, "Idempotency-Key", key,
			"traceparent", "00-"+stranger+"-"+theirs+"-01")
		if a.status != http.StatusOK {
			t.Fatalf("book: %d %s", a.status, a.body)
		}
		return a
	}
	// request returns the server's span of an answer.
	request := func(a answer, service, name string) span {
		t.Helper()
		s := c.one(name, func(s span) bool {
			return s.service == service && s.trace() == a.header.Get("X-Request-Id") && s.Name == name
		})
		if len(s.ParentSpanId) > 0 {
			t.Errorf("%s is part of another trace", name)
		}
		return s
	}
	// sent returns the span that has sent an event of a booking.
	sent := func(event, id string) span {
		t.Helper()
		return c.one("send "+event, func(s span) bool {
			return s.Name == "send ledger.booking.*.*."+event && s.attributes["messaging.message.conversation_id"] == id
		})
	}
	processed := func(s span, service, consumer string) span {
		t.Helper()
		name := "process " + strings.TrimPrefix(s.Name, "send ")
		return c.one(name+" by "+consumer+" of "+service, func(p span) bool {
			return p.service == service && p.Name == name && p.attributes["messaging.consumer.group.name"] == consumer && p.follows(s)
		})
	}
	everybody := func(s span, extra ...[2]string) {
		t.Helper()
		for _, who := range append(extra, [2]string{"usersvc", "pass"}, [2]string{"ridersvc", "pass"},
			[2]string{"usersvc", "feed"}, [2]string{"usersvc", "timers"}, [2]string{"ridersvc", "releases"}) {
			processed(s, who[0], who[1])
		}
	}

	// attended waits until the schedulers attend to each event. When one begins, it looks at all
	// bookings at once, and no span says so.
	rehearsals := 0
	attended := func(usersvc string) {
		t.Helper()
		works := func(service, consumer, instance string) bool {
			return len(c.all(func(s span) bool {
				return s.service == service && s.attributes["messaging.consumer.group.name"] == consumer &&
					strings.HasPrefix(s.Name, "process ledger.booking.") && (instance == "" || s.instance == instance)
			})) > 0
		}
		wait.Until(t, "the schedulers attend to each event", func() bool {
			rehearsals++
			book(fmt.Sprint("rehearsal-", rehearsals))
			return works("usersvc", "timers", usersvc) && works("ridersvc", "releases", "")
		})
	}

	attended("")
	first := book("first")
	id := first.field("booking_id")
	booked := request(first, "usersvc", "POST /book")
	if len(booked.Links) != 1 || fmt.Sprintf("%x-%x", booked.Links[0].TraceId, booked.Links[0].SpanId) != stranger+"-"+theirs {
		t.Errorf("the stranger's trace is not linked to: %v", booked.Links)
	}
	last := sent("requested", id)
	if !last.under(booked) {
		t.Error("requested is not sent below the request")
	}
	everybody(last, [2]string{"ridersvc", "offers"})

	// All in memory is lost, and the retry finds the booking in the ledger. The new usersvc takes
	// the stranger for a proxy.
	k.running["usersvc"].Kill()
	k.env = append(k.env, "TRUSTED_PROXIES=127.0.0.0/8")
	k.start("usersvc")
	k.ready()
	again := book("first")
	retried := c.one("the retry", func(s span) bool {
		return s.service == "usersvc" && s.Name == "POST /book" && s.trace() == stranger
	})
	if again.field("booking_id") != id || retried.instance == booked.instance {
		t.Errorf("the retry is answered with %s by %s", again.body, retried.instance)
	}
	if hex.EncodeToString(retried.ParentSpanId) != theirs ||
		again.header.Get("X-Request-Id") != stranger {
		t.Errorf("the proxy's trace does not go on: %v, X-Request-Id %s", retried, again.header.Get("X-Request-Id"))
	}
	if len(retried.Links) != 1 || !retried.leads(last) {
		t.Errorf("the retry is not linked to the first try alone: %v", retried.Links)
	}
	c.one("the replay of the new usersvc", func(s span) bool {
		return s.Name == "replay the ledger" && s.instance == retried.instance &&
			strings.Contains(s.attributes["messaging.batch.message_count"], fmt.Sprint("int_value:", rehearsals+1))
	})
	attended(retried.instance)

	for _, step := range []struct{ event, base, bearer, path, body string }{
		{"accepted", ridersvc, rider, "/accept-booking", `{"booking_id":"` + id + `"}`},
		{"arrived", ridersvc, rider, "/bookings/{id}/arrive", ""},
		{"started", ridersvc, rider, "/bookings/{id}/start", `{"start_code":"` + first.field("start_code") + `"}`},
		{"completed", ridersvc, rider, "/bookings/{id}/complete", ""},
		{"rated", usersvc, user, "/bookings/{id}/rate", `{"stars":5}`},
	} {
		a := mustCall(t, "POST", step.base+strings.Replace(step.path, "{id}", id, 1), step.body, "Authorization", step.bearer)
		if a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", step.event, a.status, a.body)
		}
		service := map[string]string{usersvc: "usersvc", ridersvc: "ridersvc"}[step.base]
		s := sent(step.event, id)
		if !s.under(request(a, service, "POST "+step.path)) || !s.leads(last) {
			t.Errorf("%s is not sent below its request, or not linked to the event before: %v", step.event, s.Links)
		}
		if step.event == "accepted" {
			everybody(s, [2]string{"ridersvc", "offers"})
		} else {
			everybody(s)
		}
		last = s
	}

	checkErrorTrace(t, c, k, user)
}

// checkErrorTrace asks for a booking that does not exist, and finds the trace in the problem, in
// the log and at the collector.
func checkErrorTrace(t *testing.T, c *collector, k *killable, bearer string) {
	t.Helper()
	url := "http://" + k.ports.user + "/bookings/" + strings.Repeat("a", 26)
	plain := mustCall(t, "GET", url, "", "Authorization", bearer)
	problem := mustCall(t, "GET", url, "", "Authorization", bearer, "Accept", "application/json")
	trace := problem.field("trace_id")
	if plain.body != problem.field("detail") || len(plain.header.Get("X-Request-Id")) != 32 {
		t.Errorf("the sentence: %s, X-Request-Id %s", plain.body, plain.header.Get("X-Request-Id"))
	}
	if trace == "" || trace != problem.header.Get("X-Request-Id") || trace != problem.field("instance") {
		t.Errorf("the problem: %s, X-Request-Id %s", problem.body, problem.header.Get("X-Request-Id"))
	}
	c.one("the request that failed", func(s span) bool {
		return s.trace() == trace && s.Name == "GET /bookings/{id}" && s.attributes["http.response.status_code"] == "int_value:404"
	})
	logged := false
	for line := range strings.Lines(k.running["usersvc"].Log.String()) {
		var entry map[string]any
		logged = logged || json.Unmarshal([]byte(line), &entry) == nil && entry["msg"] == "request" &&
			entry["trace_id"] == trace && entry["code"] == "booking_not_found"
	}
	if !logged {
		t.Error("the log does not know the trace")
	}
}

// TestNoSpanIsLost books a thousand times as fast as it can be done, and stops the system. Every
// booking's spans have arrived.
func TestNoSpanIsLost(t *testing.T) {
	t.Parallel()
	const bookings, clients = 1000, 16
	c := newCollector(t)
	p := newPorts(t)
	cmd := proctest.Command(t.Context(), "pillion", "--demo", "--data", t.TempDir(), "--auth-addr", p.auth,
		"--user-addr", p.user, "--rider-addr", p.rider, "--ops-addr", p.ops, "--nats-addr", p.nats, "--sync=1s",
		"--book-limit=0", "--open-bookings=0", "--request-limit=0")
	cmd.Env = append(cmd.Env, "LOG_FORMAT=json", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="+c.url+"/v1/traces",
		"OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=1", "OTEL_SERVICE_NAME=city")
	system := proctest.Run(t, "pillion", cmd)
	system.Ready(t)
	bearer := "Bearer " + login(t, p, "john@example.com", "user")
	var work sync.WaitGroup
	for range clients {
		work.Go(func() {
			for range bookings / clients {
				if a, err := call(t.Context(), "POST", "http://"+p.user+"/book", "{}", "Authorization", bearer); err != nil ||
					a.status != http.StatusOK {
					t.Errorf("book: %d %s %v", a.status, a.body, err)
				}
			}
		})
	}
	work.Wait()
	want := bookings / clients * clients
	wait.Until(t, "all have passed, and are on the feed", func() bool {
		_, metrics := proctest.Get(t, "http://"+p.ops+"/metrics")
		return strings.Contains(metrics, fmt.Sprintf("\npillion_events_verified_total{event=\"requested\"} %d\n", want)) &&
			strings.Contains(metrics, "\npillion_feed_lag 0\n")
	})
	system.Stop(t)
	for _, part := range []struct{ name, consumer string }{
		{"POST /book", ""}, {"send ledger.booking.*.*.requested", ""},
		{"process ledger.booking.*.*.requested", "pass"}, {"process ledger.booking.*.*.requested", "feed"},
	} {
		got := len(c.all(func(s span) bool {
			return s.service == "city" && s.Name == part.name && s.attributes["messaging.consumer.group.name"] == part.consumer
		}))
		if got != want {
			t.Errorf("%d spans %s %s of %d bookings", got, part.name, part.consumer, want)
		}
	}
}
