package webtest

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
)

// Proxy starts an HTTP proxy and returns its URL, for programs that send their requests through
// $http_proxy, as curl does. Each answer goes through [Transport]; the services in root document
// them. The proxy adds no header. It passes unencrypted requests only, and ends with the test.
func Proxy(t testing.TB, root string) string {
	t.Helper()
	return proxy(t, root, func(*httputil.ProxyRequest) {}) // a request to a proxy names its server
}

// Front is [Proxy] for programs that are told the URL of the service itself. It passes all requests
// on to the service at a URL.
func Front(t testing.TB, root, service string) string {
	t.Helper()
	to, err := url.Parse(service)
	if err != nil {
		t.Fatal(err)
	}
	return proxy(t, root, func(r *httputil.ProxyRequest) { r.SetURL(to) })
}

func proxy(t testing.TB, root string, rewrite func(*httputil.ProxyRequest)) string {
	t.Helper()
	p := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   rewrite,
		Transport: Transport(t, &http.Transport{DisableKeepAlives: true}, root),
		ErrorLog:  log.New(io.Discard, "", 0), // the client gets status 502
	})
	t.Cleanup(p.Close)
	return p.URL
}
