package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/example/pillion/internal/fault"
)

// What a request is told whose body cannot be taken. Those about a field come with a sentence that names it.
var (
	ErrMediaType     = fault.New(fault.UnsupportedMedia, "unsupported_media_type", "Send the body as JSON, with Content-Type: application/json.")
	ErrBodyTooLarge  = fault.New(fault.TooLarge, "body_too_large", "The body is too large. The limit is 64 KiB.")
	ErrBodyCutShort  = fault.New(fault.Malformed, "body_cut_short", "The body ended early or came too slowly. Please send it again.")
	ErrNotJSON       = fault.New(fault.Malformed, "not_json", "The body is not valid JSON. Send one JSON object.")
	ErrNotObject     = fault.New(fault.Malformed, "not_an_object", "The body must be one JSON object.")
	ErrTrailingData  = fault.New(fault.Malformed, "trailing_data", "The body must be one JSON object with nothing after it.")
	ErrUnknownField  = fault.New(fault.Malformed, "unknown_field", "The body has a field that is not known here.")
	ErrRepeatedField = fault.New(fault.Malformed, "repeated_field", "The body has a field more than once.")
	ErrBadText       = fault.New(fault.Malformed, "bad_text", "The body has text with characters that are not allowed.")
	ErrWrongType     = fault.New(fault.Invalid, "wrong_type", "A field of the body has a value of the wrong type.")
)

const maxBody = 64 << 10 // bytes

// DecodeJSON reads the body of r into v, a pointer to a struct. The body must be declared as
// application/json and be one JSON object of at most 64 KiB in UTF-8 with nothing after it, whose
// fields are named exactly as v's are, each at most once, without NUL in any text. encoding/json
// alone would take EMAIL for email and let the last of two win. A whole number may be written in
// any way that JSON has: 5, 5.0 and 5e0 are the same.
//
// It returns the errors declared above, and on error v is not to be used.
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

// DecodeOptional reads a body that may be empty as well, in which case v stays as it is. It does not look at the declared media
// type, for curl -d '{}' declares a form. In everything else it is DecodeJSON.
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

// declaresJSON reports whether the body is said to be plain JSON in UTF-8, without any encoding around it.
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

// readBody returns the body of r, bounded.
func readBody(r *http.Request) ([]byte, error) {
	switch {
	case r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0:
		return nil, nil
	case r.ContentLength > maxBody:
		return nil, ErrBodyTooLarge
	}
	var b bytes.Buffer
	if r.ContentLength > 0 {
		b.Grow(int(r.ContentLength) + bytes.MinRead) // what ReadFrom wants to have, so that it does not grow again
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

// decode reads one JSON object into v, strictly.
func decode(data []byte, v any) error {
	data = bytes.TrimSpace(data)
	if string(data) == "{}" {
		return nil
	}
	if !utf8.Valid(data) {
		return ErrBadText.Saying("The body must be JSON in UTF-8.")
	}
	c := checker{Decoder: json.NewDecoder(bytes.NewReader(data)), fields: make(map[reflect.Type][]reflect.StructField)}
	c.UseNumber()
	if err := c.body(reflect.TypeOf(v)); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(c.rewritten(data)))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*json.InvalidUnmarshalError](err); ok {
		return fmt.Errorf("decode body: %w", err) // ours: v is no pointer
	}
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return ErrWrongType.Saying(fmt.Sprintf("Field %s must be %s.", quote(t.Field), kindWord(t.Type))).Because(err)
	}
	return ErrWrongType.Because(err)
}

// kindWord says what JSON a Go type is read from.
func kindWord(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	default:
		return "a whole number within its range"
	}
}
