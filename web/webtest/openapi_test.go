package webtest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-chi/chi/v5"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/webtest"
)

const spec = `
openapi: 3.0.3
info: {title: Test, version: "1"}
servers: [{url: "http://localhost:3001"}]
paths:
  /book:
    post:
      responses:
        "200":
          description: Booked.
          content:
            application/json:
              schema:
                allOf:
                  - type: object
                    required: [success]
                    properties:
                      success: {type: boolean}
                  - type: object
                    required: [booking_id]
                    properties:
                      booking_id: {type: string, pattern: "^[a-z2-7]{26}$"}
                      trips: {type: array, items: {type: object, properties: {lat: {type: number}}}}
        "403":
          description: Not you.
          content:
            text/plain:
              schema: {type: string}
            application/problem+json:
              schema:
                type: object
                required: [type, title, status, detail, code]
                properties:
                  type: {type: string}
                  title: {type: string}
                  status: {type: integer}
                  detail: {type: string}
                  code: {type: string}
        "429": {$ref: "#/components/responses/Later"}
        "500": {$ref: "#/components/responses/Later"}
        "503": {$ref: "#/components/responses/Later"}
  /bookings/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {type: string}}
    get:
      responses:
        "200":
          description: A booking.
          content:
            text/event-stream:
              schema: {type: object, additionalProperties: false, properties: {at: {type: string}}}
        "429": {$ref: "#/components/responses/Later"}
        "500": {$ref: "#/components/responses/Later"}
        "503": {$ref: "#/components/responses/Later"}
    delete:
      responses:
        "204": {description: Gone.}
        "429": {$ref: "#/components/responses/Later"}
        "500": {$ref: "#/components/responses/Later"}
        "503": {$ref: "#/components/responses/Later"}
components:
  responses:
    Later: {description: Later., content: {text/plain: {schema: {type: string}}}}
`

// file returns the path of a file with a document.
func file(t *testing.T, spec string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "openapi.yaml")
	if err := os.WriteFile(path, []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A failures is a testing.TB that collects what it is told.
type failures struct {
	testing.TB
	said []string
}

func (f *failures) Helper() {}

func (f *failures) Error(args ...any) { f.said = append(f.said, fmt.Sprint(args...)) }

func (f *failures) Errorf(format string, args ...any) {
	f.said = append(f.said, fmt.Sprintf(format, args...))
}

// expect fails t unless f was told exactly what begins with each of wants.
func (f *failures) expect(t *testing.T, name string, wants ...string) {
	t.Helper()
	if len(f.said) != len(wants) {
		t.Errorf("%s: said %q, want %q", name, f.said, wants)
		return
	}
	for i, want := range wants {
		if !strings.Contains(f.said[i], want) {
			t.Errorf("%s: said %q, want %q", name, f.said[i], want)
		}
	}
}

func routes(patterns ...string) chi.Router {
	r := web.NewRouter(web.RouterConfig{})
	for _, p := range patterns {
		method, path, _ := strings.Cut(p, " ")
		r.Method(method, path, http.NotFoundHandler())
	}
	return r
}

func TestRoutesMatchOpenAPI(t *testing.T) {
	nested := routes("POST /book")
	nested.Route("/bookings/{id:[a-z]+}", func(r chi.Router) {
		r.Get("/", func(http.ResponseWriter, *http.Request) {})
		r.Delete("/", func(http.ResponseWriter, *http.Request) {})
	})
	for _, c := range []struct {
		name   string
		routes chi.Routes
		spec   string
		says   []string
	}{
		{"the same", routes("POST /book", "GET /bookings/{id}", "DELETE /bookings/{id}"), spec, nil},
		{"with a pattern", routes("POST /book", "GET /bookings/{id:[a-z2-7]+}", "DELETE /bookings/{id}"), spec, nil},
		{"nested", nested, spec, nil},
		{"one not documented", routes("POST /book", "GET /book", "GET /bookings/{id}", "DELETE /bookings/{id}"), spec, []string{"GET /book is routed and not in"}},
		{"one not routed", routes("POST /book", "GET /bookings/{id}"), spec, []string{"DELETE /bookings/{id} is in the OpenAPI document and not routed"}},
		{"another name", routes("POST /book", "GET /bookings/{booking}", "DELETE /bookings/{id}"), spec, []string{"GET /bookings/{booking} is routed", "GET /bookings/{id} is in"}},
		{"not YAML", routes(), "}", []string{"is not valid"}},
		{"not OpenAPI", routes(), "openapi: 3.0.3\ninfo: {title: Test}\npaths: {}\n", []string{"is not valid"}},
		{"a status missing", routes("POST /book", "GET /bookings/{id}", "DELETE /bookings/{id}"),
			strings.Replace(spec, `        "500": {$ref: "#/components/responses/Later"}`, "", 1),
			[]string{"POST /book does not declare the status 500"}},
		{"a body that is optional and needed", routes("POST /book", "GET /bookings/{id}", "DELETE /bookings/{id}"),
			strings.Replace(spec, "    post:\n", "    post:\n      requestBody:\n        content:\n"+
				"          application/json: {schema: {type: object, required: [x], properties: {x: {type: string}}}}\n", 1),
			[]string{"the status 400", "the status 413", "required: false"}},
		{"an example with more", routes("POST /book", "GET /bookings/{id}", "DELETE /bookings/{id}"),
			strings.Replace(spec, "            application/json:\n", "            application/json:\n"+
				"              example: {success: true, booking_id: "+id+", x: 1}\n", 1), []string{`fields ["x"]`}},
		{"an example of another kind", routes(), strings.Replace(spec, "            application/json:\n",
			"            application/json:\n              example: {success: 1}\n", 1), []string{"is not valid"}},
	} {
		f := &failures{TB: t}
		webtest.RoutesMatchOpenAPI(f, c.routes, file(t, c.spec))
		f.expect(t, c.name, c.says...)
	}
}

const id = "aaaaaaaaaaaaaaaaaaaaaaaaaa"

// answers are what a service may say, with what is wrong with it.
func answers() []struct {
	name, method, path, accept string
	h                          http.HandlerFunc
	says                       []string
} {
	text := func(status int, media, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", media)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	refuse := web.Handle(func(http.ResponseWriter, *http.Request) error {
		return fault.New(fault.Forbidden, "wrong_role", "Only users can book rides")
	})
	json := func(body string) http.HandlerFunc { return text(200, "application/json", body) }
	stream := func(events string) http.HandlerFunc { return text(200, "text/event-stream", events) }
	const good = `{"success":true,"booking_id":"` + id + `"`
	return []struct {
		name, method, path, accept string
		h                          http.HandlerFunc
		says                       []string
	}{
		{"good", "POST", "/book", "", json(good + "}"), nil},
		{"refused in a sentence", "POST", "/book", "", refuse, nil},
		{"refused as a problem", "POST", "/book", "application/json", refuse, nil},
		{"without a body", "DELETE", "/bookings/" + id, "", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, nil},
		{"an odd id", "DELETE", "/bookings/%2F", "", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, nil},
		{"HEAD", "HEAD", "/bookings/" + id, "", stream(""), nil},
		{"HEAD refused otherwise", "HEAD", "/bookings/" + id, "", text(409, "text/plain", ""), []string{"status 409"}},
		{"field missing", "POST", "/book", "", json(`{"success":true}`), []string{"booking_id"}},
		{"field too many", "POST", "/book", "", json(good + `,"x":1}`), []string{`fields ["x"]`}},
		{"field too many within", "POST", "/book", "", json(good + `,"trips":[{"lat":1},{"lat":1,"lng":2}]}`), []string{`fields ["lng"]`}},
		{"wrong type", "POST", "/book", "", json(`{"success":"true","booking_id":"` + id + `"}`), []string{"success"}},
		{"wrong value", "POST", "/book", "", json(`{"success":true,"booking_id":"A"}`), []string{"booking_id"}},
		{"another kind of time", "POST", "/book", "", text(403, "text/plain", `"2026-03-01T08:00:00Z"`), []string{"the time"}},
		{"not JSON", "POST", "/book", "", json(`{`), []string{"POST /book (200"}},
		{"wrong media type", "POST", "/book", "", text(403, "text/html", `no`), []string{"text/html"}},
		{"unknown status", "POST", "/book", "", text(409, "text/plain", `no`), []string{"status 409"}},
		{"a body that is not declared", "DELETE", "/bookings/" + id, "", text(204, "text/plain", "no"), []string{"has a body"}},
		{"a stream", "GET", "/bookings/" + id, "", stream("id: 1\ndata: {\"at\":\"x\"}\n\n:\n\n"), nil},
		{"a stream that is not declared", "POST", "/book", "", stream(":\n\n"), []string{"a stream is not declared"}},
	}
}

func TestChecked(t *testing.T) {
	path := file(t, spec)
	more := answers()
	for _, c := range []struct {
		name, method, path string
		status             int
		says               []string
	}{
		{"unknown path", "POST", "/none", 200, []string{"POST /none (200) is not"}},
		{"unknown path, refused", "POST", "/none", 404, nil},
		{"unknown method", "PUT", "/book", 200, []string{"PUT /book (200) is not"}},
		{"unknown method, refused", "PUT", "/book", 405, nil},
		{"the client has left", "POST", "/book", 499, nil},
	} {
		next := more[0]
		next.name, next.method, next.path, next.says = c.name, c.method, c.path, c.says
		next.h = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(c.status) }
		more = append(more, next)
	}
	wrongEvent := more[len(answers())-2]
	wrongEvent.says = []string{"at"}
	wrongEvent.h = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"at\":1}\n\ndata: {}\n\n")
	}
	for _, c := range append(more, wrongEvent) {
		f := &failures{TB: t}
		req := httptest.NewRequest(c.method, c.path, nil)
		req.Header.Set("Accept", c.accept)
		webtest.Checked(f, c.h, path).ServeHTTP(httptest.NewRecorder(), req)
		f.expect(t, c.name, c.says...)
	}
}

// A RoundTripper of this kind answers without a network.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestTransport(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{"asvc": spec, "bsvc": strings.ReplaceAll(spec, "/book:", "/other:")} {
		if err := os.Rename(filepath.Dir(file(t, text)), filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range answers() {
		f := &failures{TB: t}
		service := roundTripper(func(r *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			c.h(w, r)
			return w.Result(), nil
		})
		client := http.Client{Transport: webtest.Transport(f, service, root)}
		req, err := http.NewRequest(c.method, "http://localhost"+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", c.accept)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		w := httptest.NewRecorder()
		c.h(w, req)
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != w.Body.String() {
			t.Errorf("%s: read %q, %v", c.name, body, err)
		}
		_ = resp.Body.Close()
		f.expect(t, c.name, c.says...)
	}
	f := &failures{TB: t}
	webtest.Transport(f, nil, t.TempDir())
	f.expect(t, "without documents", "no OpenAPI document")
}

// The events of a stream are checked as they are read, however they are cut.
func TestTransportChecksEvents(t *testing.T) {
	root := t.TempDir()
	if err := os.Rename(filepath.Dir(file(t, spec)), filepath.Join(root, "asvc")); err != nil {
		t.Fatal(err)
	}
	for data, says := range map[string][]string{
		`{"at":"2026-01-01T00:00:00.000Z"}`: nil,
		`{"at":1}`:                          {"is not as OpenAPI has it"},
		`{"when":"now"}`:                    {"is not as OpenAPI has it"},
	} {
		f := &failures{TB: t}
		resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}},
			Body: io.NopCloser(iotest.OneByteReader(strings.NewReader("event: x\ndata: " + data + "\n\n")))}
		client := http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) { return resp, nil })}
		client.Transport = webtest.Transport(f, client.Transport, root)
		got, err := client.Get("http://localhost/bookings/" + id)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(got.Body); err != nil || !strings.Contains(string(body), data) {
			t.Errorf("read %q, %v", body, err)
		}
		_ = got.Body.Close()
		f.expect(t, data, says...)
	}
}
