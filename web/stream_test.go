package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/tmaxmax/go-sse"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
	"github.com/example/pillion/web"
)

// A mind is a verifier whose mind can be changed.
type mind struct {
	web.TokenVerifier
	err atomic.Pointer[error]
}

func (v *mind) Verify(ctx context.Context, raw string) (token.Claims, error) {
	if err := v.err.Load(); err != nil {
		return token.Claims{}, *err
	}
	return v.TokenVerifier.Verify(ctx, raw)
}

func (v *mind) say(err error) { v.err.Store(&err) }

// A theatre has one stream a request: it sends what it is given, to everybody.
type theatre struct {
	auth     *tokentest.Authority
	verifier *mind
	registry *prometheus.Registry
	journal  wait.Journal
	handler  http.Handler
	begun    chan *web.Stream // each stream that has begun
	events   chan []web.Event // to the one that takes it
	endings  chan web.Ending  // likewise
}

func newTheatre(t *testing.T, limits web.StreamLimits) *theatre {
	t.Helper()
	th := &theatre{
		auth: tokentest.New(t), registry: prometheus.NewRegistry(),
		begun: make(chan *web.Stream, 100), events: make(chan []web.Event), endings: make(chan web.Ending),
	}
	th.verifier = &mind{TokenVerifier: th.auth.Verifier()}
	// Streams go on for longer than other requests may take.
	config := web.RouterConfig{Patience: time.Millisecond, Service: "theatre", Log: th.journal.Logger(),
		Registerer: th.registry}
	r := web.NewRouter(config)
	streams := web.NewStreams(limits, th.verifier, config)
	r.With(web.Require(th.verifier, token.User, "no")).Get("/events",
		web.Handle(func(w http.ResponseWriter, r *http.Request) error {
			st, err := streams.Open(w, r)
			if err != nil {
				return err
			}
			defer st.Close()
			if err := st.Begin(); err != nil {
				return nil
			}
			th.begun <- st
			for {
				var err error
				select {
				case events := <-th.events:
					err = st.Send(events...)
				case e := <-th.endings:
					err = st.End(e)
				case <-st.Due():
					err = st.KeepAlive()
				case <-st.Over():
					err = st.Leave()
				}
				if err != nil {
					if st.Send(web.Event{Event: "late"}) == nil || st.KeepAlive() == nil || st.End(web.Restart) == nil ||
						st.Leave() == nil {
						t.Error("a stream that is over does not say so")
					}
					return nil
				}
			}
		}))
	th.handler = r
	return th
}

func (th *theatre) user(id string) string { return th.auth.Token(token.User, id, "a@example.com") }

// An answered is an answer whose body is closed after the test.
type answered struct {
	StatusCode int
	Header     http.Header
	Body       io.ReadCloser
}

// watch opens a stream at an address.
func (th *theatre) watch(t *testing.T, addr, bearer string) answered {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	a, _ := watchBy(t, client, "http://"+addr, bearer)
	return a
}

// watchBy opens a stream of a server by a client, and closes it when the test ends. It returns the
// version of HTTP, too.
func watchBy(t *testing.T, client *http.Client, server, bearer string) (a answered, version int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", server+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return answered{res.StatusCode, res.Header, res.Body}, res.ProtoMajor
}

// events reads a stream to its end, by somebody else's reader.
func events(t *testing.T, body io.Reader) []sse.Event {
	t.Helper()
	var all []sse.Event
	for e, err := range sse.Read(body, nil) {
		if err != nil {
			t.Fatalf("after %v: %v", all, err)
		}
		all = append(all, e)
	}
	return all
}

// last returns the end of a stream that must have one.
func last(t *testing.T, body io.Reader) (reason string, reconnect bool, id string) {
	t.Helper()
	all := events(t, body)
	if len(all) == 0 || all[len(all)-1].Type != "end" {
		t.Fatalf("the stream has no end: %v", all)
	}
	var v struct {
		Reason    string
		Reconnect bool
	}
	e := all[len(all)-1]
	if err := json.Unmarshal([]byte(e.Data), &v); err != nil {
		t.Fatal(err)
	}
	return v.Reason, v.Reconnect, e.LastEventID
}

// ended waits for the line of a stream in the log, and returns why it says that it has ended.
func (th *theatre) ended(t *testing.T) []any {
	t.Helper()
	return await(t, func() (all []any) {
		for _, line := range th.journal.Lines(t, "request") {
			if line["ended"] != nil {
				all = append(all, line["ended"])
			}
		}
		return all
	})
}

// short are the limits of a server that would cut a long answer at once.
var short = web.Limits{ReadHeader: time.Second, Read: 50 * time.Millisecond, Write: 50 * time.Millisecond,
	Idle: time.Second, Header: 16 << 10, Grace: 5 * time.Second}

func TestStream(t *testing.T) {
	th := newTheatre(t, web.StreamLimits{Heartbeat: 10 * time.Millisecond})
	s := serve(t, short, th.handler, &th.journal)
	res := th.watch(t, s.addr, th.user(tokentest.Ulla))
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" ||
		res.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	in := bufio.NewReader(res.Body)
	read := func(want string) {
		t.Helper()
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if line == ":\n" && want != line {
				if line, err = in.ReadString('\n'); line != "\n" || err != nil {
					t.Fatalf("a comment with %q, %v", line, err)
				}
				continue
			}
			if line != want {
				t.Fatalf("%q, want %q", line, want)
			}
			return
		}
	}
	read("retry: 3000\n")
	read("\n")
	// The server's limits would have ended it by now: it goes on for twenty heartbeats.
	for range 20 {
		read(":\n")
		read("\n")
	}
	th.events <- []web.Event{{ID: 7, Event: "first", Data: map[string]any{"a": "line\nand\r\nanother"}},
		{Event: "second", Data: 2}}
	for _, line := range []string{"id: 7\n", "event: first\n", `data: {"a":"line\nand\r\nanother"}` + "\n", "\n",
		"event: second\n", "data: 2\n", "\n"} {
		read(line)
	}
	if open := testutil.ToFloat64(gauge(t, th.registry)); open != 1 {
		t.Errorf("%v streams are open", open)
	}
	th.endings <- web.BookingOver
	if reason, again, id := last(t, in); reason != "booking_over" || again || id != "" {
		t.Errorf("%s, %v, %q", reason, again, id)
	}
	if got := th.ended(t); got[0] != "booking_over" {
		t.Errorf("the log says %v", got)
	}
	if err := testutil.GatherAndCompare(th.registry, strings.NewReader(`
# HELP pillion_streams_ended_total Streams that have ended, by reason.
# TYPE pillion_streams_ended_total counter
pillion_streams_ended_total{reason="booking_over",service="theatre"} 1
pillion_streams_ended_total{reason="client_gone",service="theatre"} 0
pillion_streams_ended_total{reason="restart",service="theatre"} 0
pillion_streams_ended_total{reason="shutting_down",service="theatre"} 0
pillion_streams_ended_total{reason="slow_reader",service="theatre"} 0
pillion_streams_ended_total{reason="token_expired",service="theatre"} 0
pillion_streams_ended_total{reason="token_revoked",service="theatre"} 0
pillion_streams_ended_total{reason="unavailable",service="theatre"} 0
# HELP pillion_streams_open Open streams.
# TYPE pillion_streams_open gauge
pillion_streams_open{service="theatre"} 0
`), "pillion_streams_ended_total", "pillion_streams_open"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(th.registry, "pillion_http_request_duration_seconds"); n != 0 || err != nil {
		t.Errorf("a stream is among the durations: %d, %v", n, err)
	}
}

// gauge returns the value of pillion_streams_open as a collector.
func gauge(t *testing.T, r *prometheus.Registry) prometheus.Collector {
	t.Helper()
	all, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "copy"})
	for _, f := range all {
		if f.GetName() == "pillion_streams_open" {
			g.Set(f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	return g
}

func TestStreamEndsWithItsToken(t *testing.T) {
	for _, c := range []struct {
		name   string
		err    error // nil: the token runs out
		reason string
	}{
		{"expired", nil, "token_expired"},
		{"revoked", token.ErrInvalid, "token_revoked"},
		{"cannot be judged", token.ErrNoRevocations, "unavailable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			limits := web.StreamLimits{Heartbeat: 10 * time.Millisecond}
			if c.err == nil {
				limits.Heartbeat = time.Hour // nobody looks before it has run out
			}
			th := newTheatre(t, limits)
			s := serve(t, web.DefaultLimits(), th.handler, &th.journal)
			issued, _, err := th.auth.Issuer(2 * time.Second).Issue(token.Grant{Subject: tokentest.Ulla,
				Email: "a@example.com", Role: token.User})
			if err != nil {
				t.Fatal(err)
			}
			res := th.watch(t, s.addr, issued)
			<-th.begun
			if c.err != nil {
				th.verifier.say(c.err)
			}
			if reason, again, _ := last(t, res.Body); reason != c.reason || !again {
				t.Errorf("%s, %v, want %s", reason, again, c.reason)
			}
		})
	}
}

// A client that is to begin again forgets where it was, as its kind does (EventSource sends no
// Last-Event-ID then).
func TestStreamRestarts(t *testing.T) {
	th := newTheatre(t, web.StreamLimits{})
	s := serve(t, web.DefaultLimits(), th.handler, &th.journal)
	res := th.watch(t, s.addr, th.user(tokentest.Ulla))
	<-th.begun
	th.events <- []web.Event{{ID: 7, Event: "first", Data: 1}}
	th.endings <- web.Restart
	if reason, again, id := last(t, res.Body); reason != "restart" || !again || id != "" {
		t.Errorf("%s, %v, %q", reason, again, id)
	}
}

func TestStreamsEndWhenTheServerStops(t *testing.T) {
	th := newTheatre(t, web.StreamLimits{Write: time.Minute})
	limits := web.DefaultLimits()
	limits.Grace = 10 * time.Second
	s := serve(t, limits, th.handler, &th.journal)
	block(t, th, s.dial(t)) // first: it takes what is for anybody
	var all []answered
	for i := range 5 {
		all = append(all, th.watch(t, s.addr, th.user(tokentest.Ulla[:25]+string(rune('a'+i)))))
		<-th.begun
	}
	if err := s.stopped(t); err != nil {
		t.Errorf("Serve = %v", err)
	}
	for _, res := range all {
		if reason, again, _ := last(t, res.Body); reason != "shutting_down" || !again {
			t.Errorf("%s, %v", reason, again)
		}
	}
	if strings.Contains(th.journal.String(), "aborted") || strings.Contains(th.journal.String(), "still running") {
		t.Errorf("%s", th.journal.String())
	}
}

// block opens a stream on conn that nobody reads, and brings it to where a write waits.
func block(t *testing.T, th *theatre, conn net.Conn) {
	t.Helper()
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	_, _ = fmt.Fprintf(conn, "GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n",
		th.user("blockblockblockblockblockb"))
	<-th.begun
	th.fill()
}

// fill sends events to a stream that nobody reads, until it takes no more.
func (th *theatre) fill() {
	big := strings.Repeat("x", 1<<20)
	for {
		select {
		case th.events <- []web.Event{{Event: "big", Data: big}}:
		case <-time.After(500 * time.Millisecond): // it takes no more
			return
		}
	}
}

func TestStreamDropsAReaderThatDoesNotRead(t *testing.T) {
	th := newTheatre(t, web.StreamLimits{Write: 100 * time.Millisecond})
	s := serve(t, web.DefaultLimits(), th.handler, &th.journal)
	conn := s.dial(t)
	block(t, th, conn)
	if got := th.ended(t); got[0] != "slow_reader" {
		t.Errorf("the log says %v", got)
	}
	// Its place is free, and others go on.
	res := th.watch(t, s.addr, th.user(tokentest.Ulla))
	<-th.begun
	th.endings <- web.SlowReader // who was too slow for a watch is told
	if reason, again, _ := last(t, res.Body); reason != "slow_reader" || !again {
		t.Errorf("%s, %v", reason, again)
	}
}

func TestStreamNoticesThatTheClientHasGone(t *testing.T) {
	th := newTheatre(t, web.StreamLimits{})
	s := serve(t, web.DefaultLimits(), th.handler, &th.journal)
	res := th.watch(t, s.addr, th.user(tokentest.Ulla))
	<-th.begun
	_ = res.Body.Close()
	if got := th.ended(t); got[0] != "client_gone" {
		t.Errorf("the log says %v", got)
	}
}

func TestStreamsAreLimited(t *testing.T) {
	th := newTheatre(t, web.StreamLimits{PerCaller: 2, Total: 3})
	s := serve(t, web.DefaultLimits(), th.handler, &th.journal)
	refused := func(bearer, sentence string, status int) {
		t.Helper()
		res := th.watch(t, s.addr, bearer)
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != status || res.Header.Get("Retry-After") == "" || string(body) != sentence {
			t.Errorf("%d %q, %v, Retry-After %q", res.StatusCode, body, err, res.Header.Get("Retry-After"))
		}
	}
	ulla, uwe := th.user(tokentest.Ulla), th.user("uweuweuweuweuweuweuweuweuw")
	first := th.watch(t, s.addr, ulla)
	th.watch(t, s.addr, ulla)
	refused(ulla, web.ErrTooManyStreams.Message, 429)
	th.watch(t, s.addr, uwe)
	refused(uwe, web.ErrStreamsFull.Message, 503)
	for range 3 {
		<-th.begun
	}
	_ = first.Body.Close()
	th.ended(t)
	th.watch(t, s.addr, uwe)
	<-th.begun
	refused(ulla, web.ErrStreamsFull.Message, 503)
}

// A HEAD request is answered and does not hold anything.
func TestStreamOfHeadersOnly(t *testing.T) {
	th := newTheatre(t, web.StreamLimits{})
	res := answer(th.handler, request("HEAD", "/events", "", "Authorization", "Bearer "+th.user(tokentest.Ulla)))
	if res.Code != 200 || res.Header().Get("Content-Type") != "text/event-stream" || res.Body.Len() > 0 {
		t.Errorf("%d %v %q", res.Code, res.Header(), res.Body)
	}
}

// What cannot be written ends the stream and is in the log.
func TestStreamCannotSayWhatIsNoJSON(t *testing.T) {
	th := newTheatre(t, web.StreamLimits{})
	s := serve(t, web.DefaultLimits(), th.handler, &th.journal)
	res := th.watch(t, s.addr, th.user(tokentest.Ulla))
	<-th.begun
	th.events <- []web.Event{{ID: 1, Event: "x", Data: make(chan int)}}
	if reason, _, _ := last(t, res.Body); reason != "unavailable" {
		t.Error(reason)
	}
	if len(th.journal.Lines(t, "request failed")) != 1 {
		t.Error(th.journal.String())
	}
}

func TestLastEventID(t *testing.T) {
	for _, c := range []struct {
		query   string
		headers []string
		id      uint64
		ok      bool
		err     error
	}{
		{"", nil, 0, false, nil},
		{"after=41", nil, 41, true, nil},
		{"after=0", nil, 0, true, nil},
		{"", []string{"Last-Event-ID", "42"}, 42, true, nil},
		// the address is that of the first time
		{"after=41", []string{"Last-Event-ID", "42"}, 42, true, nil},
		{"after=41", []string{"Last-Event-ID", ""}, 41, true, nil},
		{"", []string{"Last-Event-ID", ""}, 0, false, nil},
		{"", []string{"Last-Event-ID", "x"}, 0, false, web.ErrLastEventID},
		{"", []string{"Last-Event-ID", "-1"}, 0, false, web.ErrLastEventID},
		{"", []string{"Last-Event-ID", "1", "Last-Event-ID", "1"}, 0, false, web.ErrLastEventID},
		{"", []string{"Last-Event-ID", "18446744073709551616"}, 0, false, web.ErrLastEventID},
		{"after=", nil, 0, false, web.ErrLastEventID},
		{"after=x", []string{"Last-Event-ID", "42"}, 0, false, web.ErrLastEventID},
	} {
		r := httptest.NewRequest("GET", "/events?"+c.query, nil)
		for i := 0; i < len(c.headers); i += 2 {
			r.Header.Add(c.headers[i], c.headers[i+1])
		}
		id, ok, err := web.LastEventID(r)
		if id != c.id || ok != c.ok || !errors.Is(err, c.err) || c.err == nil && err != nil {
			t.Errorf("?%s %q: %d, %v, %v", c.query, c.headers, id, ok, err)
		}
		wrong := "Last-Event-ID"
		if c.query != "" {
			wrong = "after"
		}
		if c.err != nil && !strings.HasPrefix(fault.From(err).Message, wrong+" must") {
			t.Errorf("?%s %q: %v, want that %s is wrong", c.query, c.headers, err, wrong)
		}
	}
}
