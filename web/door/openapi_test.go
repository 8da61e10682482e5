package door_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/example/pillion/web/webtest"
)

var update = flag.Bool("update", false, "write openapi.json again in place of comparing it")

// A source is one of the documents that the merged one consists of.
type source struct {
	file  string // from the root of the repository
	below string // the prefix of its paths, and of its components and tags
	name  string // the service
}

// root is the repository, seen from this package.
const root = "../.."

// The order is that of the tags.
var sources = []source{
	{"authsvc/openapi.yaml", "/auth", "authsvc"},
	{"usersvc/openapi.yaml", "/user", "usersvc"},
	{"ridersvc/openapi.yaml", "/rider", "ridersvc"},
	{"web/bookings/openapi.yaml", "", ""},
	{"web/openapi.yaml", "", ""},
	{"web/door/openapi.yaml", "", ""}, // the last one says what all of it is
}

// TestDocument checks that openapi.json is what the documents of the services add up to.
func TestDocument(t *testing.T) {
	want := merge(t)
	if *update {
		if err := os.WriteFile("openapi.json", want, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile("openapi.json"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("openapi.json is not what the documents of the services say. Run: go generate ./web/door (%v)", err)
	}
	doc, err := webtest.Load("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sources {
		of, err := webtest.Load(path.Join(root, s.file))
		if err != nil {
			t.Fatal(err)
		}
		merged := webtest.Operations(doc)
		for name := range webtest.Operations(of) {
			method, at, _ := strings.Cut(name, " ")
			if merged[method+" "+s.below+at] == nil {
				t.Errorf("openapi.json has no %s %s%s", method, s.below, at)
			}
		}
	}
}

type object = map[string]any

// merge returns the merged document.
func merge(t *testing.T) []byte {
	t.Helper()
	merged := object{"paths": object{}, "components": object{}}
	var tags []any
	var about strings.Builder
	for _, s := range sources {
		loaded, err := webtest.Load(path.Join(root, s.file))
		if err != nil {
			t.Fatal(err)
		}
		text, err := loaded.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var doc object
		if err := json.Unmarshal(text, &doc); err != nil {
			t.Fatal(err)
		}
		s.refer(doc)
		s.addPaths(t, merged["paths"].(object), doc)
		s.addComponents(t, merged["components"].(object), doc)
		list, _ := doc["tags"].([]any)
		for _, tag := range list {
			tag := tag.(object)
			tag["name"] = s.tag(tag["name"])
			tags = append(tags, tag)
		}
		info := doc["info"].(object)
		if s.name != "" {
			fmt.Fprintf(&about, "\n## %s\n\n%s", s.name, info["description"])
		}
		merged["openapi"], merged["info"] = doc["openapi"], info
	}
	merged["tags"], merged["servers"] = tags, []any{object{"url": "/"}} // wherever it is served
	merged["info"].(object)["description"] = merged["info"].(object)["description"].(string) + about.String()
	text, err := json.MarshalIndent(merged, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

func (s source) tag(name any) string {
	return strings.TrimSpace(strings.TrimPrefix(s.below, "/") + " " + name.(string))
}

// component returns the name of a component of the source.
func (s source) component(kind, name string) string {
	if kind == "securitySchemes" || s.below == "" {
		return name
	}
	return capital(s.below[1:]) + name
}

func capital(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(first)) + s[size:]
}

// refer makes all references in a value those of the merged document.
func (s source) refer(v any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			s.refer(e)
		}
	case object:
		if ref, ok := v["$ref"].(string); ok {
			file, part, _ := strings.Cut(ref, "#")
			to := s
			for _, other := range sources {
				if file != "" && path.Join(path.Dir(s.file), file) == other.file {
					to = other
				}
			}
			kind, name := path.Base(path.Dir(part)), path.Base(part)
			v["$ref"] = "#/components/" + kind + "/" + to.component(kind, name)
		}
		for _, e := range v {
			s.refer(e)
		}
	}
}

func (s source) addPaths(t *testing.T, paths, doc object) {
	t.Helper()
	for at, item := range doc["paths"].(object) {
		for _, operation := range item.(object) {
			o := operation.(object)
			if id := o["operationId"].(string); s.below != "" {
				o["operationId"] = s.below[1:] + capital(id)
			}
			o["tags"] = []any{s.tag(o["tags"].([]any)[0])}
			if o["security"] == nil {
				o["security"] = doc["security"]
			}
		}
		if paths[s.below+at] != nil {
			t.Errorf("two documents have %s%s", s.below, at)
		}
		paths[s.below+at] = item
	}
}

func (s source) addComponents(t *testing.T, components, doc object) {
	t.Helper()
	all, _ := doc["components"].(object)
	for kind, named := range all {
		if components[kind] == nil {
			components[kind] = object{}
		}
		of := components[kind].(object)
		for name, one := range named.(object) {
			if kind == "securitySchemes" && one.(object)["$ref"] != nil {
				continue // that of another document, with the same name
			}
			name = s.component(kind, name)
			if of[name] != nil {
				t.Errorf("two documents have a %s of %s", name, kind)
			}
			of[name] = one
		}
	}
}
