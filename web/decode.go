package web

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/example/pillion/internal/fault"
)

// The refusals of request bodies. Those about a field name it in their sentence.
var (
	ErrMediaType = fault.New(fault.UnsupportedMedia, "unsupported_media_type",
		"Send the body as JSON, with Content-Type: application/json.")
	ErrBodyTooLarge = fault.New(fault.TooLarge, "body_too_large", "The body is too large. The limit is 64 KiB.")
	ErrBodyCutShort = fault.New(fault.Malformed, "body_cut_short",
		"The body ended early or arrived too slowly. Please send it again.")
	ErrNotJSON      = fault.New(fault.Malformed, "not_json", "The body is not valid JSON. Send one JSON object.")
	ErrNotObject    = fault.New(fault.Malformed, "not_an_object", "The body must be one JSON object.")
	ErrTrailingData = fault.New(fault.Malformed, "trailing_data",
		"The body must be one JSON object with nothing after it.")
	ErrUnknownField  = fault.New(fault.Malformed, "unknown_field", "The body has an unknown field.")
	ErrRepeatedField = fault.New(fault.Malformed, "repeated_field", "The body has a field more than once.")
	ErrBadText       = fault.New(fault.Malformed, "bad_text", "The body contains characters that are not allowed.")
	ErrWrongType     = fault.New(fault.Invalid, "wrong_type", "A field of the body has a value of the wrong type.")
)

const (
	maxBody  = 64 << 10 // bytes
	maxDepth = 16       // levels of objects and lists; our own bodies have at most three
)

// DecodeJSON reads the body of r into v, a pointer to a struct. The body must be declared as
// application/json and be one JSON object of at most 64 KiB in UTF-8 with nothing after it. Its
// field names must match those of v exactly and occur at most once. Texts must not contain NUL.
//
// It returns the errors declared above. After an error, v is undefined.
func DecodeJSON(r *http.Request, v any) error {
	if !declaresJSON(r.Header) {
		return ErrMediaType
	}
	data, err := readBody(r)
	if err != nil {
		return err
	}
	return decode(data, v)
}

// DecodeOptional is [DecodeJSON] for a body that may be empty, which leaves v unchanged. It ignores
// the declared media type, because curl -d '{}' declares a form.
func DecodeOptional(r *http.Request, v any) error {
	data, err := readBody(r)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	return decode(data, v)
}

// declaresJSON reports whether a header declares plain JSON in UTF-8, without a content encoding.
func declaresJSON(h http.Header) bool {
	types := h["Content-Type"]
	if len(types) != 1 || len(h["Content-Encoding"]) > 0 {
		return false
	}
	media, params, err := mime.ParseMediaType(types[0])
	if err != nil || media != "application/json" {
		return false
	}
	charset, ok := params["charset"]
	return !ok || strings.EqualFold(charset, "utf-8")
}

// readBody returns the body of r, of at most maxBody bytes.
func readBody(r *http.Request) ([]byte, error) {
	switch {
	case r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0:
		return nil, nil
	case r.ContentLength > maxBody:
		return nil, ErrBodyTooLarge
	}
	var b bytes.Buffer
	if r.ContentLength > 0 {
		b.Grow(int(r.ContentLength) + bytes.MinRead) // ReadFrom grows a buffer with less room
	}
	_, err := b.ReadFrom(io.LimitReader(r.Body, maxBody+1))
	switch {
	case b.Len() > maxBody:
		return nil, ErrBodyTooLarge
	case err != nil:
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, ErrBodyTooLarge
		}
		return nil, ErrBodyCutShort.Because(err)
	}
	return b.Bytes(), nil
}

// strict are the options of decode. encoding/json/v2 matches names exactly by default.
var strict = json.JoinOptions(json.RejectUnknownMembers(true),
	json.WithUnmarshalers(json.UnmarshalFromFunc(wholeNumber)))

// decode reads one JSON object into v, strictly.
func decode(data []byte, v any) error {
	data = bytes.TrimSpace(data)
	if string(data) == "{}" {
		return nil
	}
	if t := reflect.TypeOf(v); t == nil || t.Kind() != reflect.Pointer {
		return fmt.Errorf("decode body: %T is not a pointer", v)
	}
	if err := checkText(data); err != nil {
		return err
	}
	err := json.Unmarshal(data, v, strict)
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*json.SemanticError](err)
	switch {
	case !ok:
		return ErrNotJSON.Because(err)
	case errors.Is(e.Err, json.ErrUnknownName):
		return ErrUnknownField.Saying(fieldName(e.JSONPointer) + " is unknown.")
	}
	return ErrWrongType.Saying(fieldName(e.JSONPointer) + " must be " + kindName(e.GoType) + ".").Because(err)
}

// checkText checks that data is one JSON object whose names and texts every reader understands
// alike. It lets jsontext replace half a surrogate pair, which is valid JSON but not valid Unicode,
// with U+FFFD.
func checkText(data []byte) error {
	if !utf8.Valid(data) {
		return ErrBadText.Saying("The body must be JSON in UTF-8.")
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(data), jsontext.AllowInvalidUTF8(true))
	for first := true; first || d.StackDepth() > 0; first = false {
		token, err := d.ReadToken()
		switch e, _ := errors.AsType[*jsontext.SyntacticError](err); {
		case e != nil && errors.Is(e.Err, jsontext.ErrDuplicateName):
			return ErrRepeatedField.Saying(fieldName(e.JSONPointer) + " occurs more than once.")
		case err != nil:
			return ErrNotJSON.Because(err)
		case first && token.Kind() != jsontext.KindBeginObject:
			return ErrNotObject
		case d.StackDepth() > maxDepth:
			return ErrNotJSON.Saying("The body is nested too deeply.")
		case token.Kind() == jsontext.KindString && strings.ContainsAny(token.String(), "\x00\uFFFD"):
			return ErrBadText.Saying(fieldName(d.StackPointer()) + " contains characters that are not allowed.")
		}
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return ErrTrailingData
	}
	return nil
}

// wholeNumber decodes an int from any notation of a whole number: 5, 5.0 and 5e0 are the same.
func wholeNumber(d *jsontext.Decoder, v *int) error {
	if d.PeekKind() != jsontext.KindNumber {
		return errors.ErrUnsupported
	}
	number, err := d.ReadValue()
	if err != nil {
		return err
	}
	f, err := strconv.ParseFloat(string(number), 64)
	const exact = 1 << 53 // greater integers have no exact float64
	if err != nil || f != math.Trunc(f) || math.Abs(f) > exact {
		return &json.SemanticError{GoType: reflect.TypeFor[int](), Err: errNotWhole}
	}
	*v = int(f)
	return nil
}

var errNotWhole = errors.New("not a whole number within 2^53")

// fieldName returns the beginning of a sentence about the field at p, such as Field "stops[1].lat".
func fieldName(p jsontext.Pointer) string {
	var path strings.Builder
	for name := range p.Tokens() {
		if _, err := strconv.ParseUint(name, 10, 16); err == nil {
			name = "[" + name + "]"
		} else if path.Len() > 0 {
			name = "." + name
		}
		path.WriteString(name)
	}
	return "Field " + quoteShort(path.String())
}

// quoteShort quotes a name that the client has chosen for a sentence. It bounds and escapes it.
func quoteShort(name string) string {
	const longest = 64 // bytes
	if len(name) > longest {
		name = strings.ToValidUTF8(name[:longest], "") + "..."
	}
	return strconv.Quote(name)
}

// kindName names the JSON that decodes into a Go type.
func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Int:
		return "a whole number within its range"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Map:
		return "an object"
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) { // an id or a time
		return "text in the expected form"
	}
	return "an object"
}
