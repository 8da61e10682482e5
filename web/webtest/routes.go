package webtest

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-chi/chi/v5"

	"github.com/example/pillion/internal/wait"
)

// RoutesMatchOpenAPI fails t where the OpenAPI document in a file is not valid, where a route is
// not in it or an operation of it is not routed, and where an operation does not declare a status
// that each of its kind can answer.
func RoutesMatchOpenAPI(t testing.TB, routes chi.Routes, path string) {
	t.Helper()
	doc, err := Load(path)
	if err != nil {
		t.Error(err)
		return
	}
	routed := make(map[string]bool)
	// chi's {name:regexp}, which OpenAPI has as {name}
	pattern := regexp.MustCompile(`\{([^{}:]+):[^{}]*\}`)
	err = chi.Walk(routes, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
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
	operations := Operations(doc)
	for _, route := range slices.Sorted(maps.Keys(routed)) {
		if operations[route] == nil {
			t.Errorf("%s is routed and not in the OpenAPI document", route)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(operations)) {
		if !routed[name] {
			t.Errorf("%s is in the OpenAPI document and not routed", name)
		}
		for _, status := range statuses(doc, operations[name]) {
			if operations[name].Responses.Status(status) == nil {
				t.Errorf("%s does not declare the status %d", name, status)
			}
		}
		if body := operations[name].RequestBody; body != nil {
			schema := body.Value.Content.Get("application/json").Schema.Value
			if needed := len(schema.Required) > 0; body.Value.Required != needed {
				t.Errorf("%s says required: %v of a body of which %q is required", name, body.Value.Required, schema.Required)
			}
		}
		for status, response := range operations[name].Responses.Map() {
			for media, content := range response.Value.Content {
				if undocumented := exampleFields(content); undocumented != nil {
					t.Errorf("%s %s: the example of %s has the undeclared fields %q", name, status, media, undocumented)
				}
			}
		}
	}
}

// Operations returns the operations of a document by method and path, as in "POST /book".
func Operations(doc *openapi3.T) map[string]*openapi3.Operation {
	all := make(map[string]*openapi3.Operation)
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			all[method+" "+path] = operation
		}
	}
	return all
}

// statuses returns the statuses that every operation of its kind can answer.
func statuses(doc *openapi3.T, o *openapi3.Operation) []int {
	all := []int{http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable}
	security := doc.Security
	if o.Security != nil {
		security = *o.Security
	}
	if len(security) > 0 {
		all = append(all, http.StatusUnauthorized, http.StatusForbidden)
	}
	if o.RequestBody != nil {
		all = append(all, http.StatusBadRequest, http.StatusRequestEntityTooLarge)
	}
	return all
}

// exampleFields returns the fields of the examples of a media type that are not in its schema.
func exampleFields(content *openapi3.MediaType) (names []string) {
	schema := openapi3.SchemaRefs{content.Schema}
	if content.Example != nil {
		names = undeclared(content.Example, schema)
	}
	for _, example := range content.Examples {
		names = append(names, undeclared(example.Value.Value, schema)...)
	}
	return names
}

// QueriesMatchOpenAPI fails t unless each operation of the document in a file refuses, with a
// sentence that names the parameters that the document has, a parameter that it does not have, one
// that is malformed, and one that is repeated and no list. The operations of the original API
// ignore the query, and have none. bearer is a token that would do.
func QueriesMatchOpenAPI(t *testing.T, h http.Handler, path, bearer string, original ...string) {
	t.Helper()
	doc, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, operation := range Operations(doc) {
		method, target, _ := strings.Cut(name, " ")
		target = strings.ReplaceAll(target, "{id}", strings.Repeat("a", 26))
		ask := func(query string) (status int, sentence string) {
			ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
			defer cancel()
			w := httptest.NewRecorder()
			h.ServeHTTP(w, Request(method, target+"?"+query, bearer, "{}").WithContext(ctx))
			if ctx.Err() != nil {
				t.Fatalf("%s?%s is a stream", name, query)
			}
			return w.Code, w.Body.String()
		}
		if slices.Contains(original, name) {
			without, _ := ask("")
			if with, sentence := ask("limit=1&limit=%zz"); with != without {
				t.Errorf("%s is answered with %d, and with a query with %d %q", name, without, with, sentence)
			}
			continue
		}
		queries := map[string]string{"limt=3": "limt", "LIMIT=1": "LIMIT", "a%20b": "a b", "=1": "", "after%5b%5d=1": "after[]",
			"x=%zz": "x", "%zz": "%zz", "limit=1;after=2": "limit"}
		has := "This path has no query parameters."
		var names []string
		for _, p := range operation.Parameters {
			if p.Value.In != "query" {
				continue
			}
			names = append(names, p.Value.Name)
			has = "This path has: " + strings.Join(names, ", ") + "."
			if !p.Value.Schema.Value.Type.Is("array") {
				queries[p.Value.Name+"=1&"+p.Value.Name+"=1"] = p.Value.Name
			}
		}
		for query, named := range queries {
			status, sentence := ask(query)
			if status != http.StatusBadRequest || !strings.HasSuffix(sentence, has) ||
				!strings.HasPrefix(sentence, "Query parameter "+strconv.Quote(named)+" ") {
				t.Errorf("%s?%s: answer %d %q, want that %q is wrong and %q", name, query, status, sentence, named, has)
			}
		}
	}
}
