package webtest

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"testing"
)

// Proxy starts an HTTP proxy and returns its URL, for programs that send their requests through
// $http_proxy, as curl does. Each answer goes through [Transport]; the services in root document
// them. The proxy adds no header. It passes unencrypted requests only, and ends with the test.
func Proxy(t testing.TB, root string) string {
	t.Helper()
	p := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(*httputil.ProxyRequest) {}, // a request to a proxy names its server
		Transport: Transport(t, &http.Transport{DisableKeepAlives: true}, root),
		ErrorLog:  log.New(io.Discard, "", 0), // the client gets status 502
	})
	t.Cleanup(p.Close)
	return p.URL
}
