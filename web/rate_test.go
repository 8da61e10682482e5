package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
	"github.com/example/pillion/token/tokentest"
	"github.com/example/pillion/web"
)

func TestClientAddress(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:ff::/48")}
	for _, c := range []struct {
		name, peer string
		forwarded  []string
		alone      string // without proxies
		behind     string // behind these
		network    string
	}{
		{"a client", "192.0.2.7:1234", nil, "192.0.2.7", "192.0.2.7", "192.0.2.7"},
		{"a client that says it is another", "192.0.2.7:1234", []string{"198.51.100.1"}, "192.0.2.7", "192.0.2.7", "192.0.2.7"},
		{"a proxy", "10.1.2.3:99", []string{"198.51.100.1"}, "10.1.2.3", "198.51.100.1", "198.51.100.1"},
		{"two proxies", "10.1.2.3:99", []string{"198.51.100.1, 10.9.9.9"}, "10.1.2.3", "198.51.100.1", "198.51.100.1"},
		{"two proxies in two lines", "10.1.2.3:99", []string{"198.51.100.1", "10.9.9.9"}, "10.1.2.3", "198.51.100.1", "198.51.100.1"},
		{"a client that adds to it", "10.1.2.3:99", []string{"127.0.0.1, 198.51.100.1"}, "10.1.2.3", "198.51.100.1", "198.51.100.1"},
		{"a client that says it is a proxy", "10.1.2.3:99", []string{"10.0.0.1, 198.51.100.1, 10.0.0.2"}, "10.1.2.3", "198.51.100.1", "198.51.100.1"},
		{"garbage", "10.1.2.3:99", []string{"198.51.100.1, unknown"}, "10.1.2.3", "", ""},
		{"nothing", "10.1.2.3:99", nil, "10.1.2.3", "", ""},
		{"IPv6", "[2001:db8:1:2:3:4:5:6]:99", nil, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"},
		{"IPv6 behind a proxy", "[2001:db8:ff::1]:99", []string{"2001:db8:1:2:3::1"}, "2001:db8:ff::1", "2001:db8:1:2:3::1", "2001:db8:1:2::/64"},
		{"IPv4 in IPv6", "10.1.2.3:99", []string{"::ffff:198.51.100.1"}, "10.1.2.3", "198.51.100.1", "198.51.100.1"},
		{"a zone", "10.1.2.3:99", []string{"fe80::1%eth0"}, "10.1.2.3", "fe80::1", "fe80::/64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, behind := range []bool{false, true} {
				config := web.RouterConfig{}
				want := c.alone
				if behind {
					config.TrustedProxies, want = proxies, c.behind
				}
				router := web.NewRouter(config)
				router.Get("/", func(w http.ResponseWriter, r *http.Request) {
					got := ""
					if a := web.ClientAddress(r.Context()); a.IsValid() {
						got = a.String()
					}
					if got != want {
						t.Errorf("behind proxies %v: %q, want %q", behind, got, want)
					}
					if n := web.ClientNetwork(r.Context()); behind && n != c.network {
						t.Errorf("network %q, want %q", n, c.network)
					}
				})
				r := httptest.NewRequest("GET", "/", nil)
				r.RemoteAddr = c.peer
				r.Header["X-Forwarded-For"] = c.forwarded
				w := httptest.NewRecorder()
				router.ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					t.Fatalf("answer %d", w.Code)
				}
			}
		})
	}
}

// What gateways write, and what RFC 7239 lets them write.
func TestForwarded(t *testing.T) {
	const plain, standard = "X-Forwarded-For", "Forwarded"
	for _, c := range []struct {
		name   string
		header []string // names and values
		want   string   // empty: it is not known
		warns  string
	}{
		{"with a port", []string{plain, "198.51.100.1:5678"}, "198.51.100.1", ""},
		{"IPv6 in brackets", []string{plain, "[2001:db8:1::7]"}, "2001:db8:1::7", ""},
		{"IPv6 in brackets with a port", []string{plain, "[2001:db8:1::7]:443"}, "2001:db8:1::7", ""},
		{"IPv6 with a zone in brackets", []string{plain, "[fe80::1%eth0]:443"}, "fe80::1", ""},
		{"IPv4 in IPv6 in brackets", []string{plain, "[::ffff:198.51.100.1]:1"}, "198.51.100.1", ""},
		{"in quotes", []string{plain, `"[2001:db8:1::7]:443"`}, "2001:db8:1::7", ""},
		{"a proxy with a port", []string{plain, "198.51.100.1:1, 10.9.9.9:2"}, "198.51.100.1", ""},
		{"an obfuscated port", []string{plain, "198.51.100.1:_p1"}, "198.51.100.1", ""},
		{"spaces and tabs", []string{plain, " 198.51.100.1 \t, 10.9.9.9 ,, "}, "198.51.100.1", ""},
		{"unknown", []string{plain, "unknown"}, "", "unreadable"},
		{"unknown behind a proxy", []string{plain, "198.51.100.1, unknown, 10.9.9.9"}, "", "unreadable"},
		{"obfuscated", []string{plain, "_hidden"}, "", "unreadable"},
		{"a Unix socket", []string{plain, "unix:"}, "", "unreadable"},
		{"a name", []string{plain, "client.example.com"}, "", "unreadable"},
		{"no port behind a colon", []string{plain, "198.51.100.1:"}, "", "unreadable"},
		{"words for a port", []string{plain, "198.51.100.1:http"}, "", "unreadable"},
		{"no end of brackets", []string{plain, "[2001:db8:1::7"}, "", "unreadable"},
		{"IPv4 in brackets", []string{plain, "[198.51.100.1]"}, "", "unreadable"},
		{"nobody", []string{plain, "0.0.0.0"}, "", "unreadable"},
		{"nothing", nil, "", "sent no client address"},
		{"empty", []string{plain, ""}, "", "sent no client address"},
		{"proxies only", []string{plain, "10.9.9.9"}, "", "trusted proxies only"},

		{"standard", []string{standard, "for=198.51.100.1"}, "198.51.100.1", ""},
		{"standard with all there is", []string{standard, `By=203.0.113.43;FOR="198.51.100.1:47011";proto=https;host="a,b"`}, "198.51.100.1", ""},
		{"standard IPv6", []string{standard, `for="[2001:db8:1::7]"`}, "2001:db8:1::7", ""},
		{"standard IPv6 with a port", []string{standard, `for="[2001:db8:1::7]:4711"`}, "2001:db8:1::7", ""},
		{"standard through two proxies", []string{standard, `for=1.1.1.1, for=198.51.100.1;proto=http, for="10.9.9.9:1"`}, "198.51.100.1", ""},
		{"standard in two lines", []string{standard, `for=198.51.100.1`, standard, `for=10.9.9.9`}, "198.51.100.1", ""},
		{"standard, unknown", []string{standard, "for=unknown"}, "", "unreadable"},
		{"standard, obfuscated", []string{standard, `for="_gazonk"`}, "", "unreadable"},
		{"standard without for", []string{standard, "for=198.51.100.1, proto=https;by=10.9.9.9"}, "", "unreadable"},
		{"standard with two", []string{standard, "for=1.1.1.1;for=198.51.100.1"}, "", "unreadable"},
		{"a client's quote that is not closed", []string{standard, `for="1.1.1.1, for=198.51.100.1`}, "198.51.100.1", ""},
		{"a client's quote that takes in another", []string{standard, `for="1.1.1.1, for="[2001:db8:1::7]"`}, "2001:db8:1::7", ""},

		{"both, which agree", []string{plain, "198.51.100.1", standard, "for=198.51.100.1:1"}, "198.51.100.1", ""},
		{"both, which differ", []string{plain, "198.51.100.1", standard, "for=1.1.1.1"}, "198.51.100.1", "differ"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var journal wait.Journal
			router := web.NewRouter(web.RouterConfig{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Log: journal.Logger()})
			router.Get("/", func(_ http.ResponseWriter, r *http.Request) {
				got := ""
				if a := web.ClientAddress(r.Context()); a.IsValid() {
					got = a.String()
				}
				if got != c.want || (web.ClientNetwork(r.Context()) == "") != (c.want == "") {
					t.Errorf("it comes from %q, network %q, want %q", got, web.ClientNetwork(r.Context()), c.want)
				}
			})
			for range 3 {
				r := httptest.NewRequest("GET", "/", nil)
				r.RemoteAddr = "10.1.2.3:99"
				for i := 0; i < len(c.header); i += 2 {
					r.Header.Add(c.header[i], c.header[i+1])
				}
				router.ServeHTTP(httptest.NewRecorder(), r)
			}
			if said := journal.String(); strings.Count(said, `"level":"WARN"`) != min(1, len(c.warns)) ||
				!strings.Contains(said, c.warns) {
				t.Errorf("the log, want one warning %q:\n%s", c.warns, said)
			}
		})
	}
}

// A proxy that nobody has named is told of, once.
func TestProxyWithoutAName(t *testing.T) {
	var journal wait.Journal
	router := web.NewRouter(web.RouterConfig{Log: journal.Logger()})
	router.Get("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	for range 3 {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = "10.1.2.3:99"
		r.Header.Set("Forwarded", "for=198.51.100.1")
		router.ServeHTTP(httptest.NewRecorder(), r)
	}
	if n := strings.Count(journal.String(), "--trusted-proxies does not name"); n != 1 {
		t.Errorf("it was told %d times: %s", n, journal.String())
	}
}

// Clients of whom a proxy says nothing that can be read are not limited together: one of them would
// lock the others out.
func TestRateOfTheUnknown(t *testing.T) {
	router := web.NewRouter(web.RouterConfig{Rate: web.Rate{PerMinute: 2},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	router.Get("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	ask := func(forwarded string) int {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = "10.1.2.3:99"
		r.Header.Set("X-Forwarded-For", forwarded)
		w := httptest.NewRecorder()
		router.ServeHTTP(w, r)
		return w.Code
	}
	for _, forwarded := range []string{"unknown", "_hidden", "", "10.9.9.9"} {
		for range 5 {
			if code := ask(forwarded); code != http.StatusNoContent {
				t.Fatalf("%q: %d", forwarded, code)
			}
		}
	}
	for i, want := range []int{204, 204, 429} { // whatever port it comes from
		if code := ask(fmt.Sprintf("198.51.100.1:%d", 1000+i)); code != want {
			t.Errorf("request %d of one client: %d, want %d", i+1, code, want)
		}
	}
	if code := ask("198.51.100.2:1"); code != http.StatusNoContent {
		t.Errorf("another client: %d", code)
	}
}

// However a client spells what it sends, it does not change what a proxy adds.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{"", "1.1.1.1", `for="`, `for="\"`, "for=[::1]:1;", ",,;=", "unknown"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		router := web.NewRouter(web.RouterConfig{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
		router.Get("/", func(_ http.ResponseWriter, r *http.Request) {
			if got := web.ClientAddress(r.Context()).String(); got != "2001:db8:1::7" {
				t.Errorf("behind %q: %s", s, got)
			}
		})
		for name, added := range map[string]string{"X-Forwarded-For": "[2001:db8:1::7]:9", "Forwarded": `for="[2001:db8:1::7]:9"`} {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = "10.1.2.3:99"
			r.Header.Set(name, s+", "+added)
			router.ServeHTTP(httptest.NewRecorder(), r)
		}
	})
}

func TestRateByAddress(t *testing.T) {
	router := web.NewRouter(web.RouterConfig{Rate: web.Rate{PerMinute: 3}})
	router.Get("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	ask := func(peer string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = peer
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		router.ServeHTTP(w, r)
		return w
	}
	for i := range 3 {
		if w := ask(fmt.Sprintf("[2001:db8::%d]:1", i)); w.Code != http.StatusNoContent {
			t.Fatalf("request %d: %d", i+1, w.Code)
		}
	}
	w := ask("[2001:db8::9]:1")
	if w.Code != http.StatusTooManyRequests || w.Body.String() != web.ErrTooMany.Message || w.Header().Get("Retry-After") != "5" {
		t.Errorf("answer %d %q, Retry-After %q", w.Code, w.Body, w.Header().Get("Retry-After"))
	}
	for name := range w.Header() {
		if strings.HasPrefix(name, "X-Ratelimit") || name == "" {
			t.Errorf("header %q", name)
		}
	}
	if w := ask("[2001:db8::9]:1", "Accept", "application/json"); !strings.Contains(w.Body.String(), `"code":"too_many_requests"`) {
		t.Errorf("for a program %q", w.Body)
	}
	if w := ask("192.0.2.1:1"); w.Code != http.StatusNoContent {
		t.Errorf("another network gets %d", w.Code)
	}
	free := web.NewRouter(web.RouterConfig{})
	free.Get("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	for range 1000 {
		w := httptest.NewRecorder()
		if free.ServeHTTP(w, httptest.NewRequest("GET", "/", nil)); w.Code != http.StatusNoContent {
			t.Fatalf("without a limit: %d", w.Code)
		}
	}
}

func TestRateByCaller(t *testing.T) {
	auth := tokentest.New(t)
	router := web.NewRouter(web.RouterConfig{})
	router.With(web.Require(auth.Verifier(), token.User, "no"), web.Rate{PerMinute: 2}.ByCaller()).
		Get("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	for _, c := range []struct {
		who  string
		want int
	}{
		{"ullaullaullaullaullaullaul", 204}, {"ullaullaullaullaullaullaul", 204}, {"ullaullaullaullaullaullaul", 429}, {"uweuweuweuweuweuweuweuweuw", 204},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", "Bearer "+auth.Token(token.User, c.who, "u@example.com"))
		w := httptest.NewRecorder()
		if router.ServeHTTP(w, r); w.Code != c.want {
			t.Errorf("%s gets %d, want %d", c.who, w.Code, c.want)
		}
	}
}
