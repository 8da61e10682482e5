package web

import (
	"cmp"
	"encoding"
	"encoding/json"
	"errors"
	"io"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/example/pillion/internal/fault"
)

// A checker walks a JSON text token by token, beside the type that it is to be decoded into, and refuses what encoding/json
// would pass over in silence.
type checker struct {
	*json.Decoder
	fields map[reflect.Type][]reflect.StructField // of the structs met so far
	whole  []whole
}

// A whole is a whole number that is written with a point or an exponent, which encoding/json does
// not take for one.
type whole struct {
	from, to int64 // where it stands in the text
	as       string
}

const maxDepth = 16 // levels; no body of ours has more than three

// A flaw is what is wrong with a text. Its path grows on the way out of the walk, so that a text without flaws costs nothing.
type flaw struct {
	fault *fault.Error
	says  string // of the field, to end a sentence; empty where the fault's own sentence stands
	path  string // of the field
}

// in places a flaw inside of something.
func (f *flaw) in(name string) *flaw {
	if f.path != "" && f.path[0] != '[' {
		name += "."
	}
	f.path = name + f.path
	return f
}

func (f *flaw) error() error {
	if f.says == "" {
		return f.fault
	}
	return f.fault.Saying("Field " + quote(f.path) + " " + f.says)
}

func notJSON(cause error) *flaw { return &flaw{fault: ErrNotJSON.Because(cause)} }

// body checks the whole text: one object, and nothing after it.
func (c *checker) body(t reflect.Type) error {
	first, err := c.Token()
	switch {
	case err != nil:
		return ErrNotJSON.Because(err)
	case first != json.Delim('{'):
		return ErrNotObject
	}
	if f := c.object(t, 1); f != nil {
		return f.error()
	}
	if _, err := c.Token(); !errors.Is(err, io.EOF) {
		return ErrTrailingData
	}
	return nil
}

// object checks the rest of an object whose brace has been read.
func (c *checker) object(t reflect.Type, depth int) *flaw {
	seen := make(map[string]bool)
	for c.More() {
		tok, err := c.Token()
		if err != nil {
			return notJSON(err)
		}
		name := tok.(string) // Token takes no other name
		of, ok := c.field(t, name)
		switch {
		case !ok:
			return &flaw{ErrUnknownField, "is not known here.", name}
		case seen[name]:
			return &flaw{ErrRepeatedField, "is there more than once.", name}
		case !allowed(name):
			return &flaw{ErrBadText, "has characters that are not allowed.", name}
		}
		seen[name] = true
		if f := c.value(of, depth); f != nil {
			return f.in(name)
		}
	}
	return c.end()
}

// value checks one value, inside of depth levels.
func (c *checker) value(t reflect.Type, depth int) *flaw {
	tok, err := c.Token()
	if err != nil {
		return notJSON(err)
	}
	switch tok := tok.(type) {
	case string:
		if !allowed(tok) {
			return &flaw{fault: ErrBadText, says: "has characters that are not allowed."}
		}
	case json.Number:
		if as, ok := wholeNumber(tok, t); ok {
			end := c.InputOffset()
			c.whole = append(c.whole, whole{end - int64(len(tok)), end, as})
		}
	case json.Delim:
		switch {
		case depth == maxDepth:
			return &flaw{fault: ErrNotJSON, says: "is nested too deeply."}
		case tok == '{':
			return c.object(t, depth+1)
		}
		return c.list(t, depth+1)
	}
	return nil
}

// wholeNumber returns how encoding/json wants to have a number that is to be read into t, where
// that is an integer and the number is whole but not written so: in JSON 5, 5.0 and 5e0 are one
// number.
func wholeNumber(n json.Number, t reflect.Type) (as string, ok bool) {
	if t = plain(t); t == nil || !strings.ContainsAny(string(n), ".eE") {
		return "", false
	}
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
	default:
		return "", false
	}
	f, err := n.Float64()
	const exact = 1 << 53 // beyond that a float is no whole number of anybody's
	if err != nil || f != math.Trunc(f) || math.Abs(f) > exact {
		return "", false
	}
	return strconv.FormatInt(int64(f), 10), true
}

// rewritten returns the text that was checked, with whole numbers written as such.
func (c *checker) rewritten(data []byte) []byte {
	for _, w := range slices.Backward(c.whole) {
		data = slices.Replace(data, int(w.from), int(w.to), []byte(w.as)...)
	}
	return data
}

// list checks the rest of a list whose bracket has been read.
func (c *checker) list(t reflect.Type, depth int) *flaw {
	var of reflect.Type
	if t = plain(t); t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) {
		of = t.Elem()
	}
	for i := 0; c.More(); i++ {
		if f := c.value(of, depth); f != nil {
			return f.in("[" + strconv.Itoa(i) + "]")
		}
	}
	return c.end()
}

// end reads the closing bracket of an object or a list.
func (c *checker) end() *flaw {
	if _, err := c.Token(); err != nil {
		return notJSON(err)
	}
	return nil
}

// field returns the type of a field that an object may have which is read into t, and whether there is one. Embedded structs
// count as promoted. What t itself does not allow is left to the decoder to refuse.
func (c *checker) field(t reflect.Type, name string) (reflect.Type, bool) {
	t = plain(t)
	switch {
	case t == nil:
		return nil, true
	case t.Kind() == reflect.Map:
		return t.Elem(), true
	case t.Kind() != reflect.Struct:
		return nil, true
	}
	fields, ok := c.fields[t]
	if !ok {
		fields = reflect.VisibleFields(t)
		c.fields[t] = fields
	}
	for _, f := range fields {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || tag == "-" || tag == "" && f.Anonymous {
			continue
		}
		if name == cmp.Or(tag, f.Name) {
			return f.Type, true
		}
	}
	return nil, false
}

// plain returns the type behind pointers: nil for one that reads JSON in its own way, or reads any.
func plain(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() == reflect.Interface {
		return nil
	}
	p := reflect.PointerTo(t)
	if p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return nil
	}
	return t
}

// allowed reports whether s is text that every reader takes in the same way. U+FFFD is what half of a surrogate pair, written
// as an escape, turns into.
func allowed(s string) bool { return !strings.ContainsAny(s, "\x00\uFFFD") }

// quote returns a field's name as it can stand in a sentence: a client chose it.
func quote(name string) string {
	const longest = 64 // bytes
	if len(name) > longest {
		name = strings.ToValidUTF8(name[:longest], "") + "..."
	}
	return strconv.Quote(name)
}
