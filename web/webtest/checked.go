package webtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
)

// Checked returns routes, and fails t for each answer of theirs that is not as the OpenAPI document
// in a file has it. An operation that the document does not have must be refused. Benchmarks get
// routes as they are.
func Checked(t testing.TB, routes http.Handler, path string) http.Handler {
	t.Helper()
	if _, measured := t.(*testing.B); measured {
		return routes
	}
	doc, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := &answer{ResponseWriter: w, status: http.StatusOK}
		failed := func(err error) {
			if err == nil {
				return
			}
			text := fmt.Sprintf("the answer to %s %s (%d) is not as %s has it: %v", r.Method, r.URL.Path, a.status, path, err)
			if _, fuzzed := t.(*testing.F); fuzzed { // it cannot fail while its function runs
				panic(text)
			}
			t.Error(text)
		}
		if a.route = find(doc, r.Method, r.URL); a.route != nil {
			a.event = func(data []byte) { failed(checkEvent(a.route, data)) }
		}
		routes.ServeHTTP(a, r)
		switch {
		case a.status == 499: // the client has left
		case r.Method == http.MethodHead && a.route != nil: // the server sends no body
			failed(check(a.route, r, a.status, w.Header(), nil))
		case a.route != nil:
			failed(check(a.route, r, a.status, w.Header(), a.body.Bytes()))
		case !slices.Contains(refusals, a.status):
			failed(errors.New("the operation is not declared"))
		}
	})
}

// refusals are the answers to an operation that does not exist. The last one comes before it is
// looked for.
var refusals = []int{http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusTooManyRequests}

// An answer is a ResponseWriter that keeps what passes.
type answer struct {
	http.ResponseWriter
	route  *routers.Route
	event  func(data []byte) // takes each event of a stream
	status int
	begun  bool
	body   bytes.Buffer // not that of a stream
}

// Unwrap gives http.ResponseController the server's own writer.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) WriteHeader(status int) {
	if !a.begun && status >= http.StatusOK {
		a.status, a.begun = status, true
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	a.begun = true
	if a.Header().Get("Content-Type") != "text/event-stream" || a.event == nil {
		a.body.Write(b)
		return a.ResponseWriter.Write(b)
	}
	for line := range bytes.Lines(b) { // a service writes whole events
		if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
			a.event(data)
		}
	}
	return a.ResponseWriter.Write(b)
}

// Transport returns a RoundTripper that sends requests through base, and tells t of each answer
// that is not as the OpenAPI documents in root have it: those of the services, and that of the
// address of all services. It reads answers to their end, except streams, whose events it checks as
// they are read. A request that no document has passes, and so does an answer that one of several
// documents allows: the address does not tell which service answers.
func Transport(t interface{ Error(args ...any) }, base http.RoundTripper, root string) http.RoundTripper {
	checked := &transport{tell: t.Error, base: base}
	paths, err := filepath.Glob(filepath.Join(root, "*svc", "openapi.yaml"))
	if err != nil || len(paths) == 0 {
		t.Error("no OpenAPI document in ", root, err)
	}
	merged, err := filepath.Glob(filepath.Join(root, "web", "door", "openapi.json"))
	if err != nil {
		t.Error(err)
	}
	for _, path := range append(paths, merged...) {
		doc, err := Load(path)
		if err != nil {
			t.Error(err)
			continue
		}
		checked.documents = append(checked.documents, doc)
	}
	return checked
}

// Answered is [Transport] for a request that another program has sent, and its answer.
func Answered(t interface{ Error(args ...any) }, r *http.Request, answer *http.Response, root string) {
	resp, err := Transport(t, sent{answer}, root).RoundTrip(r)
	if err != nil {
		t.Error(err)
		return
	}
	_ = resp.Body.Close() // it is in memory
}

// sent is a RoundTripper that has its answer already.
type sent struct{ answer *http.Response }

func (s sent) RoundTrip(*http.Request) (*http.Response, error) { return s.answer, nil }

type transport struct {
	tell      func(...any)
	base      http.RoundTripper
	documents []*openapi3.T
}

// CloseIdleConnections closes those of base.
func (t *transport) CloseIdleConnections() {
	(&http.Client{Transport: t.base}).CloseIdleConnections()
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	var routes []*routers.Route
	for _, doc := range t.documents {
		if route := find(doc, r.Method, r.URL); route != nil {
			routes = append(routes, route)
		}
	}
	if routes == nil {
		return resp, nil
	}
	failed := func(errs []error) {
		t.tell(fmt.Sprintf("the answer to %s %s (%d) is not as OpenAPI has it: %v", r.Method, r.URL.Path,
			resp.StatusCode, errors.Join(errs...)))
	}
	var body []byte
	if resp.Header.Get("Content-Type") == "text/event-stream" {
		resp.Body = &eventBody{ReadCloser: resp.Body, event: func(data []byte) {
			one(routes, func(route *routers.Route) error { return checkEvent(route, data) }, failed)
		}}
	} else {
		body, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(body))
		if err != nil { // it was cut short
			resp.Body = io.NopCloser(io.MultiReader(resp.Body, iotest.ErrReader(err)))
			return resp, nil // who reads the body gets it
		}
	}
	one(routes, func(route *routers.Route) error {
		return check(route, r, resp.StatusCode, resp.Header, body)
	}, failed)
	return resp, nil
}

// one calls failed with the errors of all routes, unless one of them has none.
func one(routes []*routers.Route, check func(*routers.Route) error, failed func([]error)) {
	var errs []error
	for _, route := range routes {
		err := check(route)
		if err == nil {
			return
		}
		errs = append(errs, err)
	}
	failed(errs)
}

// An eventBody is the body of a stream.
type eventBody struct {
	io.ReadCloser
	event func(data []byte) // takes each event that is read
	rest  []byte            // the beginning of a line
}

func (b *eventBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.rest = append(b.rest, p[:n]...)
	for {
		line, rest, whole := bytes.Cut(b.rest, []byte("\n"))
		if !whole {
			return n, err
		}
		b.rest = rest
		if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
			b.event(data)
		}
	}
}
