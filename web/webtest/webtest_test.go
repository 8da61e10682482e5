package webtest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

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
                type: object
                required: [success, booking_id]
                additionalProperties: false
                properties:
                  success: {type: boolean}
                  booking_id: {type: string, pattern: "^[a-z2-7]{26}$"}
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
                  status: {type: integer}
                  code: {type: string}
  /bookings/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {type: string}}
    get:
      responses:
        "200": {description: A booking.}
    delete:
      responses:
        "204": {description: Gone.}
`

// A failures is a testing.TB that collects what it is told.
type failures struct {
	testing.TB
	said []string
}

func (f *failures) Helper() {}

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
		routes http.Handler
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
		{"not a router", http.NotFoundHandler(), spec, []string{"not a chi router"}},
	} {
		f := &failures{TB: t}
		webtest.RoutesMatchOpenAPI(f, c.routes, []byte(c.spec))
		f.expect(t, c.name, c.says...)
	}
}

func TestValidateAnswer(t *testing.T) {
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
	const id = "aaaaaaaaaaaaaaaaaaaaaaaaaa"
	for _, c := range []struct {
		name         string
		method, path string
		accept       string
		h            http.HandlerFunc
		says         []string
	}{
		{"good", "POST", "/book", "", text(200, "application/json", `{"success":true,"booking_id":"`+id+`"}`), nil},
		{"refused in a sentence", "POST", "/book", "", refuse, nil},
		{"refused as a problem", "POST", "/book", "application/json", refuse, nil},
		{"without a body", "DELETE", "/bookings/" + id, "", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, nil},
		{"field missing", "POST", "/book", "", text(200, "application/json", `{"success":true}`), []string{"booking_id"}},
		{"field too many", "POST", "/book", "", text(200, "application/json", `{"success":true,"booking_id":"`+id+`","x":1}`), []string{`"x"`}},
		{"wrong type", "POST", "/book", "", text(200, "application/json", `{"success":"true","booking_id":"`+id+`"}`), []string{"success"}},
		{"wrong value", "POST", "/book", "", text(200, "application/json", `{"success":true,"booking_id":"A"}`), []string{"booking_id"}},
		{"not JSON", "POST", "/book", "", text(200, "application/json", `{`), []string{"(200)"}},
		{"wrong media type", "POST", "/book", "", text(403, "text/html", `no`), []string{"text/html"}},
		{"unknown status", "POST", "/book", "", text(409, "text/plain", `no`), []string{"status"}},
		{"unknown path", "POST", "/none", "", text(200, "text/plain", ``), []string{"POST /none is not in"}},
		{"unknown method", "PUT", "/book", "", text(200, "text/plain", ``), []string{"PUT /book is not in"}},
	} {
		f := &failures{TB: t}
		req := httptest.NewRequest(c.method, c.path, nil)
		if c.accept != "" {
			req.Header.Set("Accept", c.accept)
		}
		rec := httptest.NewRecorder()
		c.h(rec, req)
		webtest.ValidateAnswer(f, []byte(spec), req, rec)
		f.expect(t, c.name, c.says...)
	}
	f := &failures{TB: t}
	webtest.ValidateAnswer(f, []byte("}"), httptest.NewRequest("GET", "/", nil), httptest.NewRecorder())
	f.expect(t, "not YAML", "is not valid")
}
