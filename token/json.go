package token

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// A scanner reads one JSON text strictly. jsontext refuses duplicate names at any depth, invalid
// UTF-8 and lone surrogates (RFC 7493), and it never folds the case of a name. The scanner also
// bounds the depth, takes times as plain integers only, and refuses trailing data.
type scanner struct{ *jsontext.Decoder }

// decoders are idle decoders. A new one for each text would double the time of a scan.
var decoders = sync.Pool{New: func() any { return new(jsontext.Decoder) }}

const (
	maxDepth  = 16 // of nested arrays and objects
	maxNumber = 1 << 33
)

// The faults of a text. They never quote it.
var (
	errSyntax      = errors.New("it is not strict JSON")
	errTrailing    = errors.New("something follows the JSON value")
	errTwice       = errors.New("an object has a name twice")
	errDeep        = errors.New("it is nested too deeply")
	errNotObj      = errors.New("it is not a JSON object")
	errNotText     = errors.New("a value is not a string")
	errNotTime     = errors.New("a time is not an integer within 0 to 2^33")
	errNotSequence = errors.New("a sequence is not an integer of 64 bits")
	errNotArray    = errors.New("a value is not an array")
)

// scan reads the whole of data as one object. It calls field for each name; field must read or skip
// the value.
func scan(data []byte, field func(s scanner, name string) error) error {
	s := scanner{decoders.Get().(*jsontext.Decoder)}
	s.Reset(bytes.NewBuffer(data))
	defer func() {
		s.Reset(new(bytes.Buffer)) // keep no token in the pool
		decoders.Put(s.Decoder)
	}()
	if err := s.object(func(name string) error { return field(s, name) }); err != nil {
		return err
	}
	if _, err := s.ReadToken(); !errors.Is(err, io.EOF) {
		return errTrailing
	}
	return nil
}

// object reads one object, as scan does.
func (s scanner) object(field func(name string) error) error {
	if _, err := s.next(jsontext.KindBeginObject, errNotObj); err != nil {
		return err
	}
	for s.PeekKind() != jsontext.KindEndObject {
		name, err := s.text()
		if err != nil {
			return err
		}
		if err := field(name); err != nil {
			return err
		}
	}
	_, err := s.next(jsontext.KindEndObject, errSyntax)
	return err
}

// array reads one array. It calls item for each value, which item must read or skip.
func (s scanner) array(item func() error) error {
	if _, err := s.next(jsontext.KindBeginArray, errNotArray); err != nil {
		return err
	}
	for s.PeekKind() != jsontext.KindEndArray {
		if err := item(); err != nil {
			return err
		}
	}
	_, err := s.next(jsontext.KindEndArray, errSyntax)
	return err
}

// text reads one string.
func (s scanner) text() (string, error) {
	t, err := s.next(jsontext.KindString, errNotText)
	if err != nil {
		return "", err
	}
	return t.String(), nil
}

// seconds reads a time: an integer within 0 to 2^33 (the year 2242), without sign, fraction or
// exponent.
func (s scanner) seconds() (int64, error) {
	t, err := s.next(jsontext.KindNumber, errNotTime)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(t.String(), 10, 64)
	if err != nil || n > maxNumber {
		return 0, errNotTime
	}
	return int64(n), nil
}

// sequence reads a number of a message in a stream.
func (s scanner) sequence() (uint64, error) {
	t, err := s.next(jsontext.KindNumber, errNotSequence)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(t.String(), 10, 64)
	if err != nil {
		return 0, errNotSequence
	}
	return n, nil
}

// skip reads one value of any kind.
func (s scanner) skip() error {
	depth := s.StackDepth()
	for {
		if _, err := s.token(); err != nil {
			return err
		}
		if s.StackDepth() <= depth {
			return nil
		}
	}
}

// next reads a token of a kind, and returns other for a token of another kind.
func (s scanner) next(kind jsontext.Kind, other error) (jsontext.Token, error) {
	t, err := s.token()
	if err == nil && t.Kind() != kind {
		err = other
	}
	return t, err
}

// token reads one token.
func (s scanner) token() (jsontext.Token, error) {
	t, err := s.ReadToken()
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return jsontext.Token{}, errTwice
	case err != nil:
		return jsontext.Token{}, errSyntax
	case s.StackDepth() > maxDepth:
		return jsontext.Token{}, errDeep
	}
	return t, nil
}
