package authsvc_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/authtest"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
	"github.com/example/pillion/web/webtest"
)

const goodPassword = "correct horse battery"

// hashes sees every evaluation of argon2id.
type hashes struct {
	mu            sync.Mutex
	costs         []authsvc.HashCost
	running, most int
	during        func() // called in each evaluation, without the lock
}

func (h *hashes) observe(c authsvc.HashCost) func() {
	h.mu.Lock()
	h.costs = append(h.costs, c)
	h.running++
	h.most = max(h.most, h.running)
	during := h.during
	h.mu.Unlock()
	if during != nil {
		during()
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.running--
	}
}

// take returns the evaluations since the last call.
func (h *hashes) take() []authsvc.HashCost {
	h.mu.Lock()
	defer h.mu.Unlock()
	costs := h.costs
	h.costs = nil
	return costs
}

func (h *hashes) mostAtOnce() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.most
}

// lightCost is the cost of a hash in most tests. At the default cost most of their time would go
// into argon2id, which the race detector slows down by a factor of five.
var lightCost = authsvc.HashCost{Memory: 64, Iterations: 1, Parallelism: 1}

// A kit is one instance of the service, with everything that a test looks at.
type kit struct {
	config   authsvc.Config
	auth     *tokentest.Authority
	service  *authsvc.Service
	routes   chi.Router
	handler  http.Handler // the routes, whose answers are held against the OpenAPI document
	hashes   *hashes
	log      *wait.Journal
	registry *prometheus.Registry
	revoked  revocations
}

// revocations records which tokens were revoked.
type revocations struct {
	mu  sync.Mutex
	all []token.Revocation
	set token.RevocationSet
	err error // what taking back fails with
}

func (r *revocations) add(ctx context.Context, v token.Revocation) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	r.all = append(r.all, v)
	if err := v.Check(time.Now()); err != nil {
		return err
	}
	r.set.Add(v)
	return nil
}

// upToDate marks the revocations as complete, as the watch of a real bucket does all the time.
func (r *revocations) upToDate() { r.set.Complete(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)) }

func (r *revocations) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

// take returns the revocations since the last call.
func (r *revocations) take() []token.Revocation {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	return all
}

// newKit returns an instance with accounts in memory. The edits change its configuration.
func newKit(t testing.TB, edits ...func(*authsvc.Config, *authsvc.HasherConfig)) *kit {
	t.Helper()
	k := &kit{auth: tokentest.New(t), hashes: new(hashes), log: new(wait.Journal),
		registry: prometheus.NewRegistry()}
	passwords := authsvc.HasherConfig{Observe: k.hashes.observe}
	k.config = authsvc.Config{
		Accounts: new(authtest.Accounts), Sessions: new(authtest.Sessions), Revoke: k.revoked.add,
		Verifier: k.verifier(t), Issuer: k.auth.Issuer(time.Minute), Keys: k.auth.KeySet,
		Log: slog.New(slog.NewJSONHandler(k.log, nil)), Registerer: k.registry,
	}
	for _, edit := range edits {
		edit(&k.config, &passwords)
	}
	var err error
	if k.config.Hasher, err = authsvc.NewHasher(passwords); err != nil {
		t.Fatal(err)
	}
	if _, timed := t.(*testing.B); !timed && passwords.Cost == (authsvc.HashCost{}) {
		k.config.Hasher.Lighten(lightCost)
	}
	if k.service, err = authsvc.New(k.config); err != nil {
		t.Fatal(err)
	}
	k.routes = k.service.Routes()
	k.handler = webtest.Checked(t, k.routes, "openapi.yaml")
	return k
}

// verifier returns a verifier that knows which tokens were revoked.
func (k *kit) verifier(t testing.TB) *token.Verifier {
	t.Helper()
	k.revoked.upToDate()
	v, err := token.NewVerifier(token.Config{Keys: k.auth.Keys(), Revocations: &k.revoked.set})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// withStore returns an edit for newKit that sets the account store.
func withStore(s authsvc.AccountStore) func(*authsvc.Config, *authsvc.HasherConfig) {
	return func(c *authsvc.Config, _ *authsvc.HasherConfig) { c.Accounts = s }
}

func withDemo(c *authsvc.Config, _ *authsvc.HasherConfig) { c.Demo = true }

func post(path, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

func body(email, password, role string) string {
	b, err := json.Marshal(map[string]string{"email": email, "password": password, "role": role})
	if err != nil {
		panic(err)
	}
	return string(b)
}

func (k *kit) do(r *http.Request) *httptest.ResponseRecorder {
	k.revoked.upToDate()
	w := httptest.NewRecorder()
	k.handler.ServeHTTP(w, r)
	return w
}

// ask sends a request and fails t if the answer is not the wanted one.
func (k *kit) ask(t *testing.T, r *http.Request, status int, want string) *httptest.ResponseRecorder {
	t.Helper()
	w := k.do(r)
	if w.Code != status || !strings.Contains(w.Body.String(), want) {
		t.Errorf("%s %s = %d %s, want %d %s", r.Method, r.URL.Path, w.Code, w.Body, status, want)
	}
	return w
}

func (k *kit) mustRegister(t *testing.T, email, password, role string) {
	t.Helper()
	k.ask(t, post("/register", body(email, password, role)), http.StatusCreated,
		`{"status":true,"message":"Registration Successful"}`)
}

// mustLogin returns the claims of the token that a login gives.
func (k *kit) mustLogin(t *testing.T, email, password, role string) token.Claims {
	t.Helper()
	return k.mustVerify(t, k.mustOpen(t, email, password, role).Token)
}

// tokens is the answer to a login or a refresh.
type tokens struct {
	Token     string `json:"token"`
	ExpiresIn int    `json:"expires_in"`
	Refresh   string `json:"refresh_token"`
}

func tokensOf(t testing.TB, w *httptest.ResponseRecorder) (answer tokens) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%s: %v", w.Body, err)
	}
	return answer
}

// mustOpen logs in and returns the answer.
func (k *kit) mustOpen(t *testing.T, email, password, role string) tokens {
	t.Helper()
	w := k.ask(t, post("/login", body(email, password, role)), http.StatusOK,
		`{"status":true,"message":"Login Successful","token":"`)
	return tokensOf(t, w)
}

// kim registers Kim and logs in.
func (k *kit) kim(t *testing.T) tokens {
	t.Helper()
	k.mustRegister(t, "kim@example.com", goodPassword, "user")
	return k.mustOpen(t, "kim@example.com", goodPassword, "user")
}

func (k *kit) mustVerify(t testing.TB, raw string) token.Claims {
	t.Helper()
	k.revoked.upToDate()
	claims, err := k.config.Verifier.Verify(t.Context(), raw)
	if err != nil {
		t.Fatalf("a token that was just given out: %v (%s)", err, token.Reason(err))
	}
	return claims
}

// wantTakenBack fails t unless the access token was revoked.
func (k *kit) wantTakenBack(t *testing.T, raw string) {
	t.Helper()
	k.revoked.upToDate()
	if _, err := k.config.Verifier.Verify(t.Context(), raw); token.Reason(err) != "revoked" {
		t.Errorf("Verify = %v (%s), want a token that was taken back", err, token.Reason(err))
	}
}

func refreshWith(refresh string) *http.Request {
	return post("/refresh", `{"refresh_token":"`+refresh+`"}`)
}

// mustRefresh refreshes and returns the answer.
func (k *kit) mustRefresh(t *testing.T, refresh string) tokens {
	t.Helper()
	w := k.ask(t, refreshWith(refresh), http.StatusOK, `{"status":true,"message":"Refresh Successful","token":"`)
	return tokensOf(t, w)
}

func (k *kit) wantNoRefresh(t *testing.T, refresh string) {
	t.Helper()
	w := k.ask(t, refreshWith(refresh), http.StatusUnauthorized, "")
	if w.Body.String() != "Invalid refresh token" {
		t.Errorf("refused with %q", w.Body)
	}
}

// bearing returns a POST with an access token and without a body.
func bearing(path, access string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, nil)
	r.Header.Set("Authorization", "Bearer "+access)
	return r
}

// after lets time pass in a bubble of synctest.
func after(d time.Duration) { <-time.After(d) }

func (k *kit) account(t *testing.T, email string, role token.Role) authsvc.Account {
	t.Helper()
	a, err := k.config.Accounts.Find(t.Context(), authsvc.Email(email), role)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// sameForAll returns what a client sees of an answer, without the parts that are new in each.
func sameForAll(w *httptest.ResponseRecorder) string {
	h := w.Header().Clone()
	id := h.Get("X-Request-Id")
	h.Del("X-Request-Id")
	var b strings.Builder
	_ = h.Write(&b)
	return http.StatusText(w.Code) + "\n" + b.String() + "\n" + strings.ReplaceAll(w.Body.String(), id, "<id>")
}

// brokenStore is a store whose every call fails.
type brokenStore struct{ err error }

func (s brokenStore) Find(context.Context, authsvc.Email, token.Role) (authsvc.Account, error) {
	return authsvc.Account{}, s.err
}
func (s brokenStore) Create(context.Context, authsvc.Account) error  { return s.err }
func (s brokenStore) Replace(context.Context, authsvc.Account) error { return s.err }
func (s brokenStore) Delete(context.Context, authsvc.Account) error  { return s.err }
func (s brokenStore) List(context.Context, string, int) ([]authsvc.Account, string, error) {
	return nil, "", s.err
}

func wantCosts(t *testing.T, got []authsvc.HashCost, want ...authsvc.HashCost) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("hash evaluations = %v, want %v", got, want)
	}
}

// counter returns the counter of that name and result.
func counter(t *testing.T, k *kit, name, result string) prometheus.Collector {
	t.Helper()
	families, err := k.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == result {
				c := prometheus.NewCounter(prometheus.CounterOpts{Name: "copy"})
				c.Add(m.GetCounter().GetValue())
				return c
			}
		}
	}
	t.Fatalf("there is no %s{result=%q}", name, result)
	return nil
}
