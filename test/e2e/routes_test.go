package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/test/proctest"
	"github.com/example/pillion/web/webtest"
)

// Variables of TestAllRoutes: its seed, and how many requests it sends at least.
const (
	seedEnv     = "SEED"
	requestsEnv = "REQUESTS"
)

// TestAllRoutes sends random requests, good and bad, to every route of all services, at their ports
// and at the address of all of them, with logged-in accounts. None causes an internal error, and
// each answer matches the OpenAPI document. The long form goes on until each operation has
// succeeded. The same SEED gives the same requests, except for the bookings that they name, which
// depend on the answers.
func TestAllRoutes(t *testing.T) {
	t.Parallel()
	requests, most, seed := 600, 600, uint64(1)
	if wait.Long() {
		requests, most, seed = 8_000, 40_000, rand.Uint64()
	}
	if set := os.Getenv(requestsEnv); set != "" {
		var err error
		if requests, err = strconv.Atoi(set); err != nil {
			t.Fatal(err)
		}
		most = max(most, requests)
	}
	if set := os.Getenv(seedEnv); set != "" {
		var err error
		if seed, err = strconv.ParseUint(set, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d", seedEnv, seed)
	prog := proctest.Pillion(t, t.TempDir(), "--demo", "--login-limit=1000", "--address-limit=1000000",
		"--request-limit=0", "--book-limit=0", "--open-bookings=0", "--availability-limit=0", "--stream-limit=1000")
	town := &town{
		auth: prog.At["authsvc"], codes: make(map[string]string),
		seen: make(map[string]map[int]int), told: make(map[string]bool),
	}
	var operations []operation
	for _, d := range []document{
		{"../../authsvc/openapi.yaml", []string{prog.At["authsvc"], prog.At["all"] + "/auth"}, ""},
		{"../../usersvc/openapi.yaml", []string{prog.At["usersvc"], prog.At["all"] + "/user"}, "user"},
		{"../../ridersvc/openapi.yaml", []string{prog.At["ridersvc"], prog.At["all"] + "/rider"}, "raider"},
	} {
		more, err := d.operations()
		if err != nil {
			t.Fatal(err)
		}
		operations = append(operations, more...)
	}
	const visitors = 4
	var all sync.WaitGroup
	for i := range visitors {
		all.Go(func() {
			v := newVisitor(t, town, rand.New(rand.NewPCG(seed, uint64(i))))
			for n := 0; n < most/visitors && !town.enough() && (n < requests/visitors || town.lacks(operations)); n++ {
				v.visit(t, v.pick(operations))
			}
		})
	}
	all.Wait()
	for _, sign := range []string{"request panicked", "panic serving", "panic:"} {
		if strings.Contains(prog.Log.String(), sign) {
			t.Errorf("the log has %q", sign)
		}
	}
	sent, statuses := 0, make(map[int]int)
	for _, o := range operations {
		seen := town.seen[o.String()]
		for status, times := range seen {
			statuses[status] += times
			sent += times
		}
		if !succeeded(seen) && wait.Long() {
			t.Errorf("%s was never done, but answered with %v", o, seen)
		}
		t.Logf("%-40s %v", o, seen)
	}
	t.Logf("answers %v; %d logins again", statuses, town.renewals)
	if good := statuses[http.StatusOK] + statuses[http.StatusCreated]; 4*good < max(sent, requests) {
		t.Errorf("only %d of %d requests succeeded", good, max(sent, requests))
	}
}

// A town is the shared state of the visitors.
type town struct {
	auth string // the URL of authsvc

	mu       sync.Mutex
	people   []*account
	bookings []string          // ids, latest last
	codes    map[string]string // start codes by booking
	seen     map[string]map[int]int
	told     map[string]bool // number of failures
	renewals int
}

// An account is an account that a visitor has registered.
type account struct {
	role, email, password, access, refresh string
	booking                                string // the last booking that it was involved in
	over                                   bool   // its tokens are no longer taken
}

// somebody returns a copy of a random account.
func (w *town) somebody(r *rand.Rand) *account {
	w.mu.Lock()
	defer w.mu.Unlock()
	other := *one(r, w.people...)
	return &other
}

func (w *town) anyBooking(r *rand.Rand) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.bookings) == 0 {
		return ""
	}
	return one(r, w.bookings...)
}

// openBooking returns one of the latest bookings, which is probably open.
func (w *town) openBooking(r *rand.Rand) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.bookings) == 0 {
		return ""
	}
	return one(r, w.bookings[max(0, len(w.bookings)-8):]...)
}

func (w *town) code(booking string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if code, ok := w.codes[booking]; ok {
		return code
	}
	return "0000"
}

// enough reports whether there are so many failures that more would not help.
func (w *town) enough() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.told) >= 20
}

// lacks reports whether one of the operations has never succeeded.
func (w *town) lacks(operations []operation) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(operations, func(o operation) bool { return !succeeded(w.seen[o.String()]) })
}

// succeeded reports whether a request with one of these statuses has succeeded.
func succeeded(seen map[int]int) bool { return seen[http.StatusOK]+seen[http.StatusCreated] > 0 }

// fails fails the test, once for each kind of failure.
func (w *town) fails(t *testing.T, r request, status int, body, what string) {
	t.Helper()
	w.mu.Lock()
	kind := fmt.Sprintf("%s %d", r.operation, status)
	known := w.told[kind]
	w.told[kind] = true
	w.mu.Unlock()
	if !known {
		t.Errorf("%s\n\twas answered with %d %.400q: %s", r, status, body, what)
	}
}

// A visitor makes one request after the other.
type visitor struct {
	generator
	client http.Client
	name   string
	births int
}

func newVisitor(t *testing.T, town *town, r *rand.Rand) *visitor {
	t.Helper()
	v := &visitor{
		generator: generator{Rand: r, town: town, own: make(map[string]*account)},
		client:    http.Client{Transport: webtest.Transport(t, new(http.Transport), "../..")},
		name:      strconv.FormatUint(r.Uint64(), 36),
	}
	t.Cleanup(v.client.CloseIdleConnections)
	for _, role := range []string{"user", "raider"} {
		v.own[role] = &account{role: role, over: true}
		v.renew(t, role)
	}
	return v
}

// pick chooses an operation. Operations on accounts are rarer, because they hash passwords, and so
// are those that end bookings, because other operations need these.
func (v *visitor) pick(from []operation) operation {
	for {
		o, rarely := one(v.Rand, from...), 1
		switch {
		case o.of.role == "" && o.RequestBody != nil:
			rarely = 8
		case strings.HasSuffix(o.path, "/cancel"), strings.HasSuffix(o.path, "/release"):
			rarely = 4
		}
		if v.IntN(rarely) == 0 {
			return o
		}
	}
}

// renew logs in again with the account of a role, or registers another one.
func (v *visitor) renew(t *testing.T, role string) {
	t.Helper()
	if v.login(t, v.own[role]) {
		return
	}
	v.births++
	a := &account{role: role, email: fmt.Sprintf("%s-%d@example.com", v.name, v.births),
		password: "correct horse battery"}
	// If the answer to the first attempt was lost, the second one finds the account.
	in := v.enter(t, "/register", a)
	if in.status != http.StatusCreated && in.status != http.StatusConflict || !v.login(t, a) {
		t.Errorf("register %s: %d %s", a.email, in.status, in.body)
	}
	v.own[role] = a
	v.mu.Lock()
	defer v.mu.Unlock()
	v.people = append(v.people, &account{role: role, access: a.access})
	v.people = v.people[max(0, len(v.people)-20):]
}

// enter sends the credentials of an account to authsvc, and repeats that while authsvc is busy.
func (v *visitor) enter(t *testing.T, path string, a *account) (in answer) {
	t.Helper()
	body := fmt.Sprintf(`{"email":%q,"password":%q,"role":%q}`, a.email, a.password, a.role)
	wait.Until(t, path+" is answered", func() bool {
		in = mustCall(t, "POST", v.auth+path, body)
		return in.status != http.StatusServiceUnavailable && in.status != http.StatusTooManyRequests
	})
	return in
}

// login gets new tokens for an account, and reports whether it succeeded.
func (v *visitor) login(t *testing.T, a *account) bool {
	t.Helper()
	if a.email == "" {
		return false
	}
	in := v.enter(t, "/login", a)
	if in.status != http.StatusOK {
		return false
	}
	a.access, a.refresh, a.over = in.field("token"), in.field("refresh_token"), false
	v.mu.Lock()
	defer v.mu.Unlock()
	v.renewals++
	return true
}

// visit makes a request of an operation and checks its answer.
func (v *visitor) visit(t *testing.T, o operation) {
	t.Helper()
	for role, a := range v.own {
		if a.over {
			v.renew(t, role)
		}
	}
	r := v.request(o)
	status, header, body, err := v.send(t.Context(), r)
	if err != nil {
		v.fails(t, r, status, body, err.Error())
		return
	}
	v.mu.Lock()
	if v.seen[o.String()] == nil {
		v.seen[o.String()] = make(map[int]int)
	}
	v.seen[o.String()][status]++
	v.mu.Unlock()
	if wrong := check(r, status, header, body); wrong != "" {
		v.fails(t, r, status, body, wrong)
	}
	v.learn(r, status, body)
}

// send returns the answer to a request. Of a stream it returns the beginning.
func (v *visitor) send(ctx context.Context, r request) (status int, header http.Header, body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, wait.Patience)
	defer cancel()
	var content io.Reader = strings.NewReader(r.body)
	if r.chunked {
		content = io.MultiReader(content)
	}
	sent, err := http.NewRequestWithContext(ctx, r.sends, one(v.Rand, r.of.addrs...)+r.target, content)
	if err != nil {
		return 0, nil, "", err
	}
	sent.Header = r.header.Clone()
	resp, err := v.client.Do(sent)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	var b []byte
	if resp.Header.Get("Content-Type") == "text/event-stream" {
		b, err = head(resp.Body)
	} else {
		b, err = io.ReadAll(resp.Body)
	}
	if err != nil {
		err = fmt.Errorf("read the answer: %w", err)
	}
	return resp.StatusCode, resp.Header, string(b), err
}

// head returns the beginning of a stream: all before its first event, or all if it ends earlier.
func head(stream io.Reader) ([]byte, error) {
	r := bufio.NewReader(stream)
	var b []byte
	for {
		line, err := r.ReadBytes('\n')
		b = append(b, line...)
		switch {
		case err == io.EOF:
			return b, nil
		case err != nil || len(line) == 1:
			return b, err
		}
	}
}

// plain reports whether an answer is a sentence that repeats nothing of the request.
func plain(sentence string) bool {
	odd := func(c rune) bool { return !unicode.IsPrint(c) }
	return sentence != "" && utf8.ValidString(sentence) && !strings.ContainsFunc(sentence, odd)
}

// check returns what is wrong with an answer, or "". The transport holds it against the OpenAPI
// document as well.
func check(r request, status int, header http.Header, body string) string {
	if status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable {
		return "a failure of ours"
	}
	inText := strings.HasPrefix(header.Get("Content-Type"), "text/plain")
	if status >= http.StatusBadRequest && inText && r.sends != http.MethodHead && !plain(body) {
		return "no plain sentence"
	}
	head := r.sends == http.MethodHead && r.method == http.MethodGet
	if r.sends != r.method && !head && // no path has two methods
		status != http.StatusNotFound && (status != http.StatusMethodNotAllowed || header.Get("Allow") == "") {
		return "no such method, and not refused as such"
	}
	return ""
}

// learn records parts of an answer that other requests need.
func (v *visitor) learn(r request, status int, body string) {
	if status == http.StatusForbidden && strings.Contains(body, "Invalid token") && r.as != nil {
		r.as.over = true
	}
	if status != http.StatusOK && status != http.StatusCreated {
		return
	}
	var said struct {
		Booking string `json:"booking_id"`
		Code    string `json:"start_code"`
		Token   string `json:"token"`
		Refresh string `json:"refresh_token"`
	}
	_ = json.Unmarshal([]byte(body), &said) // not every answer is an object
	for _, a := range v.own {               // the body says whose it is, or else the token
		secrets := r.body + r.header.Get("Cookie")
		switch mentioned := strings.Contains(secrets, a.email) || strings.Contains(secrets, a.refresh); {
		case r.path == "/refresh" && mentioned:
			a.access, a.refresh, a.over = said.Token, said.Refresh, said.Refresh == ""
		case r.path == "/password" && mentioned:
			a.password, a.over = a.password+"!", true
		case r.path == "/logout" || r.path == "/logout-all" || strings.HasPrefix(r.path, "/account"):
			a.over = a.over || mentioned || r.as == a
		}
	}
	if said.Booking == "" {
		return
	}
	if r.as != nil {
		r.as.booking = said.Booking
	}
	if user := v.own["user"]; strings.HasSuffix(r.path, "/complete") && user != nil {
		user.booking = said.Booking // to be rated
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if said.Code != "" {
		v.codes[said.Booking] = said.Code
	}
	if r.path == "/book" {
		v.bookings = append(v.bookings, said.Booking)
		v.bookings = v.bookings[max(0, len(v.bookings)-100):]
	}
}
