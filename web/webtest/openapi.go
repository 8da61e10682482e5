// Package webtest holds a service's routes and answers against its OpenAPI document. Only tests
// import it.
//
// Wrap what a service's Routes returns in [Checked], and the transport of each client of a running
// service in [Transport]: then no answer of a test passes unseen.
package webtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// loaded are the documents that have been loaded, by path. Loading one takes far longer than
// checking an answer.
var loaded sync.Map

// Load returns the OpenAPI document in a file, with what it refers to in other files. It fails for
// one that is not valid, or has an example that its schema refuses. The document is shared: do not
// change it.
func Load(path string) (*openapi3.T, error) {
	if doc, ok := loaded.Load(path); ok {
		return doc.(*openapi3.T), nil
	}
	loader := openapi3.NewLoader()
	loader.IsExternalRefsAllowed = true
	doc, err := loader.LoadFromFile(path)
	if err == nil {
		err = doc.Validate(loader.Context)
	}
	if err != nil {
		return nil, fmt.Errorf("the OpenAPI document %s is not valid: %w", path, err)
	}
	loaded.Store(path, doc)
	return doc, nil
}

// find returns the route of doc that answers a method and a path, or nil. GET answers HEAD.
func find(doc *openapi3.T, method string, at *url.URL) *routers.Route {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	path := strings.Split(at.EscapedPath(), "/")
	for template, item := range doc.Paths.Map() {
		same := slices.EqualFunc(strings.Split(template, "/"), path, func(want, got string) bool {
			return want == got || strings.HasPrefix(want, "{")
		})
		if operation := item.Operations()[method]; same && operation != nil {
			return &routers.Route{Spec: doc, Path: template, PathItem: item, Method: method, Operation: operation}
		}
	}
	return nil
}

// check returns how an answer differs from what a route of a document promises, or nil: in its
// status, its media type, its headers, its body, a field that is not declared, or a time that is
// not written as Pillion writes times. The body of a stream is not looked at; see [checkEvent].
func check(route *routers.Route, r *http.Request, status int, header http.Header, body []byte) error {
	declared := route.Operation.Responses.Status(status)
	switch {
	case declared == nil:
		return fmt.Errorf("the status %d is not declared", status)
	case (r.Method == http.MethodHead || len(declared.Value.Content) == 0) && len(body) > 0:
		return fmt.Errorf("%d has a body", status)
	}
	stream := header.Get("Content-Type") == "text/event-stream"
	media := declared.Value.Content.Get(header.Get("Content-Type"))
	if stream && media == nil {
		return errors.New("a stream is not declared")
	}
	err := openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, Route: route},
		Status:                 status,
		Header:                 header,
		Body:                   io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true,
			ExcludeResponseBody: stream},
	})
	if err != nil || stream {
		return err
	}
	return errors.Join(checkTimes(body), checkFields(media, body))
}

// checkEvent returns how the data of one event of a stream differs from the schema of the stream,
// which is that of the data.
func checkEvent(route *routers.Route, data []byte) error {
	declared := route.Operation.Responses.Status(http.StatusOK)
	if declared == nil || declared.Value.Content["text/event-stream"] == nil {
		return errors.New("a stream is not declared")
	}
	media := declared.Value.Content["text/event-stream"]
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	return errors.Join(media.Schema.Value.VisitJSON(v), checkTimes(data), checkFields(media, data))
}

// checkFields returns which fields of a JSON text a media type does not declare.
func checkFields(media *openapi3.MediaType, text []byte) error {
	var v any
	if media == nil || media.Schema == nil || json.Unmarshal(text, &v) != nil {
		return nil // a sentence, or nothing
	}
	if names := undeclared(v, openapi3.SchemaRefs{media.Schema}); names != nil {
		return fmt.Errorf("the fields %q are not declared", names)
	}
	return nil
}

// undeclared returns the fields of v that no property of the schemas declares, at any depth.
func undeclared(v any, schemas openapi3.SchemaRefs) (names []string) {
	for i := 0; i < len(schemas); i++ { // the list grows
		s := schemas[i].Value
		schemas = slices.Concat(schemas, s.AllOf, s.OneOf, s.AnyOf)
	}
	switch v := v.(type) {
	case []any:
		var items openapi3.SchemaRefs
		for _, s := range schemas {
			if s.Value.Items != nil {
				items = append(items, s.Value.Items)
			}
		}
		for _, item := range v {
			names = append(names, undeclared(item, items)...)
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			var of openapi3.SchemaRefs
			for _, s := range schemas {
				if p := s.Value.Properties[name]; p != nil {
					of = append(of, p)
				}
			}
			if of == nil {
				names = append(names, name)
			}
			names = append(names, undeclared(v[name], of)...)
		}
	}
	return names
}
