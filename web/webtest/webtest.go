// Package webtest holds a service's routes and answers against its OpenAPI document. Only tests
// import it.
package webtest

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/go-chi/chi/v5"
)

// RoutesMatchOpenAPI fails t where spec is no valid OpenAPI document, where a route is not in it,
// and where an operation of it is not routed. routes is a chi router, as an http.Handler because
// that is what a service's Routes returns.
func RoutesMatchOpenAPI(t testing.TB, routes http.Handler, spec []byte) {
	t.Helper()
	router, ok := routes.(chi.Routes)
	if !ok {
		t.Errorf("%T is not a chi router, so its routes cannot be listed", routes)
		return
	}
	doc, ok := load(t, spec)
	if !ok {
		return
	}
	routed := make(map[string]bool)
	// chi's {name:regexp}, which OpenAPI has as {name}
	pattern := regexp.MustCompile(`\{([^{}:]+):[^{}]*\}`)
	err := chi.Walk(router, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if route != "/" {
			// what Route("/a", ... Get("/")) is walked as, and answers on /a
			route = strings.TrimSuffix(route, "/")
		}
		routed[method+" "+pattern.ReplaceAllString(route, "{$1}")] = true
		return nil
	})
	if err != nil {
		t.Errorf("walk the routes: %v", err)
		return
	}
	documented := make(map[string]bool)
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			documented[method+" "+path] = true
		}
	}
	for _, route := range slices.Sorted(maps.Keys(routed)) {
		if !documented[route] {
			t.Errorf("%s is routed and not in the OpenAPI document", route)
		}
	}
	for _, operation := range slices.Sorted(maps.Keys(documented)) {
		if !routed[operation] {
			t.Errorf("%s is in the OpenAPI document and not routed", operation)
		}
	}
}

// ValidateAnswer fails t where the answer in rec is not one that spec gives for req: its status,
// its media type, its headers and its body. Where the servers of the document are does not matter,
// only the path does.
func ValidateAnswer(t testing.TB, spec []byte, req *http.Request, rec *httptest.ResponseRecorder) {
	t.Helper()
	ValidateResponse(t, spec, req, rec.Code, rec.Header(), rec.Body.Bytes())
}

// ValidateResponse is [ValidateAnswer] for an answer that came over a real connection.
func ValidateResponse(t testing.TB, spec []byte, req *http.Request, status int, header http.Header, body []byte) {
	t.Helper()
	CheckTimes(t, body)
	operations, ok := router(t, spec)
	if !ok {
		return
	}
	route, params, err := operations.FindRoute(req)
	if err != nil {
		t.Errorf("%s %s is not in the OpenAPI document: %v", req.Method, req.URL.Path, err)
		return
	}
	streams.Do(func() {
		openapi3filter.RegisterBodyDecoder("text/event-stream", openapi3filter.RegisteredBodyDecoder("text/plain"))
	})
	err = openapi3filter.ValidateResponse(req.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route},
		Status:                 status,
		Header:                 header,
		Body:                   io.NopCloser(bytes.NewReader(body)),
		Options:                &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	})
	if err != nil {
		t.Errorf("the answer to %s %s (%d) is not as the OpenAPI document has it: %v", req.Method, req.URL.Path, status,
			err)
	}
}

// streams is done once kin-openapi, which keeps this for the whole process, knows that Server-Sent
// Events are text.
var streams sync.Once

// load returns a document that is the caller's own, or fails t.
func load(t testing.TB, spec []byte) (*openapi3.T, bool) {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(spec)
	if err == nil {
		err = doc.Validate(t.Context())
	}
	if err != nil {
		t.Errorf("the OpenAPI document is not valid: %v", err)
		return nil, false
	}
	return doc, true
}

// read holds the routers of documents that have been read. To read a document takes far longer than
// to hold an answer against it.
var read sync.Map // of routers.Router by the document's text

// router finds the operation of a request in spec, wherever the servers of the document are; or it
// fails t.
func router(t testing.TB, spec []byte) (routers.Router, bool) {
	t.Helper()
	if known, ok := read.Load(string(spec)); ok {
		return known.(routers.Router), true
	}
	doc, ok := load(t, spec)
	if !ok {
		return nil, false
	}
	doc.Servers = nil
	for _, item := range doc.Paths.Map() {
		item.Servers = nil
	}
	r, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Errorf("route the OpenAPI document: %v", err)
		return nil, false
	}
	read.Store(string(spec), r)
	return r, true
}
