package door

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
)

// The page is made of the document by a template. It has no scripts, and loads nothing.
var (
	//go:embed reference.html
	layout string
	//go:embed reference.css
	style string
	// reference makes the page when it is first asked for.
	reference = sync.OnceValues(func() ([]byte, error) { return render(document) })
	// styleHash is how the policy of the page names its only style.
	styleHash = sha256.Sum256([]byte(style))
)

// servePage answers GET /docs.
func servePage(w http.ResponseWriter, _ *http.Request) error {
	text, err := reference()
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; "+
		"frame-ancestors 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(styleHash[:])+"'")
	_, _ = w.Write(text)
	return nil
}

// An object is an object of the document.
type object = map[string]any

// render returns the page that shows an OpenAPI document.
func render(document []byte) ([]byte, error) {
	var doc object
	var named struct{ Components components }
	if err := errors.Join(json.Unmarshal(document, &doc), json.Unmarshal(document, &named)); err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	delete(doc, "components")
	t, err := template.New("page").Funcs(template.FuncMap{
		"access": access, "fields": fields, "type": typeOf, "text": text, "prose": prose, "upper": strings.ToUpper,
		"style": func() template.CSS { return template.CSS(style) }, //nolint:gosec // our own file
	}).Parse(layout)
	if err != nil {
		return nil, fmt.Errorf("read the template: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, named.Components.plain(doc)); err != nil {
		return nil, fmt.Errorf("show the OpenAPI document: %w", err)
	}
	return b.Bytes(), nil
}

// components are the parts of the document that others refer to, by kind and name. None contains
// itself.
type components map[string]object

// plain returns a part of the document without references and allOf: what they refer to, and what
// the parts of allOf add up to, is in their place. What was referred to has its name as its title.
func (c components) plain(v any) any {
	switch v := v.(type) {
	case []any:
		all := make([]any, len(v))
		for i := range v {
			all[i] = c.plain(v[i])
		}
		return all
	case object:
		sum, own := object{}, maps.Clone(v)
		parts, _ := v["allOf"].([]any)
		if ref, ok := v["$ref"].(string); ok {
			parts, own["title"] = []any{c[path.Base(path.Dir(ref))][path.Base(ref)]}, path.Base(ref)
		}
		delete(own, "allOf")
		delete(own, "$ref")
		for _, part := range parts {
			if part, ok := c.plain(part).(object); ok {
				add(sum, part)
			}
		}
		for key := range own {
			own[key] = c.plain(own[key])
		}
		add(sum, own)
		return sum
	}
	return v
}

// add adds a part of an allOf to the sum of the parts before it.
func add(sum, part object) {
	for key, value := range part {
		old, both := sum[key].(object)
		more, ok := value.(object)
		required, _ := sum["required"].([]any)
		switch {
		case both && ok:
			old = maps.Clone(old)
			add(old, more)
			sum[key] = old
		case key == "required" && required != nil:
			also, _ := value.([]any)
			sum[key] = slices.Concat(required, also)
		default:
			sum[key] = value
		}
	}
}

// A field is a field of a body. A field of an object within has a dot in its name.
type field struct {
	Name, Type  string
	Required    bool
	Description any
}

// fields returns the fields of a body with a schema. inside is what precedes their names.
func fields(schema any, inside string) (all []field) {
	s, _ := schema.(object)
	properties, _ := s["properties"].(object)
	required, _ := s["required"].([]any)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		p, _ := properties[name].(object)
		all = append(all, field{inside + name, typeOf(p), slices.Contains(required, any(name)), p["description"]})
		all = append(all, fields(p, inside+name+".")...)
		all = append(all, fields(p["items"], inside+name+"[].")...)
	}
	return all
}

// typeOf says in a few words which values a schema has.
func typeOf(schema object) string {
	words, _ := schema["type"].(string)
	if values, ok := schema["enum"].([]any); ok {
		all := make([]string, len(values))
		for i, v := range values {
			all[i] = text(v)
		}
		return strings.Join(all, " or ")
	}
	if items, ok := schema["items"].(object); ok {
		return "list of " + typeOf(items)
	}
	if schema["format"] == "date-time" {
		words = "time"
	}
	for _, bound := range []struct{ key, word string }{{"minimum", "from"}, {"maximum", "to"}} {
		if v, ok := schema[bound.key]; ok {
			words += " " + bound.word + " " + text(v)
		}
	}
	return words
}

// access says which credentials a call takes.
func access(security []any) string {
	words := map[string]string{"token": "an access token", "cookie": "the refresh cookie"}
	var ways []string
	needs := "Needs "
	for _, way := range security {
		way, _ := way.(object)
		if len(way) == 0 {
			needs = "Takes "
		}
		for name := range way {
			ways = append(ways, words[name])
		}
	}
	if ways == nil {
		return "Needs no token."
	}
	return needs + strings.Join(ways, " or ") + "."
}

// text returns a text as it is, and any other value as JSON.
func text(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // the template does that
	e.SetIndent("", "  ")
	_ = e.Encode(v) // it was decoded from JSON
	return strings.TrimSpace(b.String())
}

// A block is a paragraph or a heading of a description, and a span a part of it.
type (
	block struct {
		Heading bool
		Spans   []span
	}
	span struct {
		Code bool
		Text string
	}
)

// prose returns the blocks of a description: Markdown with paragraphs, headings and code.
func prose(description any) (all []block) {
	words, _ := description.(string)
	for one := range strings.SplitSeq(strings.TrimSpace(words), "\n\n") {
		one, heading := strings.CutPrefix(one, "## ")
		if one == "" {
			continue
		}
		b := block{Heading: heading}
		for i, text := range strings.Split(one, "`") {
			b.Spans = append(b.Spans, span{i%2 == 1, text})
		}
		all = append(all, b)
	}
	return all
}
