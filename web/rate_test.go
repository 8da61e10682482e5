package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"pillion/token"
	"pillion/token/tokentest"
	"pillion/web"
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
		{"garbage", "10.1.2.3:99", []string{"198.51.100.1, unknown"}, "10.1.2.3", "", "unknown"},
		{"nothing", "10.1.2.3:99", nil, "10.1.2.3", "", "unknown"},
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
