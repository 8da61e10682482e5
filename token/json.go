package token

import (
	"errors"
	"unicode/utf8"
)

// A scanner reads one JSON text strictly (RFC 8259, and RFC 7493 where that is stricter): names exactly as they are and none
// twice in an object at any depth, valid UTF-8, no lone surrogate, integers as integers, nothing after the value.
//
// encoding/json does none of these: it folds case, lets the last of two names win and replaces what is not UTF-8. Walking its
// tokens instead takes eleven times as long as this scanner, and about half as long as a whole RSA verification.
type scanner struct {
	data  []byte
	pos   int
	depth int
}

const (
	maxDepth  = 16 // of nested arrays and objects
	fewNames  = 16 // up to so many names of one object are compared one by one
	maxNumber = 1 << 33
)

// What is wrong with a text. They never quote it.
var (
	errSyntax   = errors.New("it is not JSON")
	errUTF8     = errors.New("it is not valid UTF-8")
	errTrailing = errors.New("something follows the JSON value")
	errTwice    = errors.New("a name stands twice in one object")
	errDeep     = errors.New("it is nested too deeply")
	errNotObj   = errors.New("it is not a JSON object")
	errNotText  = errors.New("a value is not a string")
	errNotTime  = errors.New("a time is not an integer within 0 to 2^33")
	errNotArray = errors.New("a value is not an array")
)

// document reads the whole text as one object and calls field for each of its names, with the scanner standing before the
// value, which field must read or skip.
func (s *scanner) document(field func(name []byte) error) error {
	if err := s.object(field); err != nil {
		return err
	}
	s.space()
	if s.pos != len(s.data) {
		return errTrailing
	}
	return nil
}

// object reads one object, as document does, and leaves the scanner behind it.
func (s *scanner) object(field func(name []byte) error) error {
	if !s.take('{') {
		return errNotObj
	}
	if s.depth++; s.depth > maxDepth {
		return errDeep
	}
	defer func() { s.depth-- }()
	if s.take('}') {
		return nil
	}
	var names names
	for {
		name, err := s.text()
		if err != nil {
			return err
		}
		if !names.add(name) {
			return errTwice
		}
		if !s.take(':') {
			return errSyntax
		}
		if err := field(name); err != nil {
			return err
		}
		if s.take('}') {
			return nil
		}
		if !s.take(',') {
			return errSyntax
		}
	}
}

// array reads one array and calls item for each of its values, with the scanner standing before it.
func (s *scanner) array(item func() error) error {
	if !s.take('[') {
		return errNotArray
	}
	if s.depth++; s.depth > maxDepth {
		return errDeep
	}
	defer func() { s.depth-- }()
	if s.take(']') {
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		if s.take(']') {
			return nil
		}
		if !s.take(',') {
			return errSyntax
		}
	}
}

// text reads one string. What it returns may be part of the text itself: copy it to keep it.
func (s *scanner) text() ([]byte, error) {
	if !s.take('"') {
		return nil, errNotText
	}
	start, ascii := s.pos, true
	for ; s.pos < len(s.data); s.pos++ {
		switch c := s.data[s.pos]; {
		case c == '"':
			value := s.data[start:s.pos]
			s.pos++
			if !ascii && !utf8.Valid(value) {
				return nil, errUTF8
			}
			return value, nil
		case c == '\\':
			return s.escaped(start)
		case c < ' ':
			return nil, errSyntax
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, errSyntax
}

// escaped reads on in a string that began at start, from its first backslash.
func (s *scanner) escaped(start int) ([]byte, error) {
	value := append([]byte(nil), s.data[start:s.pos]...)
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		s.pos++
		switch {
		case c == '"':
			if !utf8.Valid(value) {
				return nil, errUTF8
			}
			return value, nil
		case c < ' ':
			return nil, errSyntax
		case c != '\\':
			value = append(value, c)
		default:
			r, err := s.escape()
			if err != nil {
				return nil, err
			}
			value = utf8.AppendRune(value, r)
		}
	}
	return nil, errSyntax
}

// escape reads what follows a backslash: for a character beyond U+FFFF, both halves.
func (s *scanner) escape() (rune, error) {
	if s.pos == len(s.data) {
		return 0, errSyntax
	}
	c := s.data[s.pos]
	s.pos++
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
	default:
		return 0, errSyntax
	}
	high, err := s.hex()
	if err != nil {
		return 0, err
	}
	if high < 0xD800 || high > 0xDFFF {
		return high, nil
	}
	if high > 0xDBFF || s.pos+1 >= len(s.data) || s.data[s.pos] != '\\' || s.data[s.pos+1] != 'u' {
		return 0, errUTF8
	}
	s.pos += 2
	low, err := s.hex()
	if err != nil {
		return 0, err
	}
	if low < 0xDC00 || low > 0xDFFF {
		return 0, errUTF8
	}
	return (high-0xD800)<<10 | (low - 0xDC00) + 0x10000, nil
}

// hex reads four hexadecimal digits.
func (s *scanner) hex() (rune, error) {
	if s.pos+4 > len(s.data) {
		return 0, errSyntax
	}
	var r rune
	for _, c := range s.data[s.pos : s.pos+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, errSyntax
		}
		r = r<<4 | rune(c)
	}
	s.pos += 4
	return r, nil
}

// seconds reads a time: an integer within 0 to 2^33 (the year 2242), without sign, fraction, exponent or leading zero.
func (s *scanner) seconds() (int64, error) {
	s.space()
	start := s.pos
	var n int64
	for ; s.pos < len(s.data); s.pos++ {
		c := s.data[s.pos]
		if c < '0' || c > '9' {
			break
		}
		if n = n*10 + int64(c-'0'); n > maxNumber {
			return 0, errNotTime
		}
	}
	digits := s.data[start:s.pos]
	if len(digits) == 0 || len(digits) > 1 && digits[0] == '0' {
		return 0, errNotTime
	}
	if s.pos < len(s.data) {
		switch s.data[s.pos] {
		case '.', 'e', 'E':
			return 0, errNotTime
		}
	}
	return n, nil
}

// skip reads one value of any kind, as strictly as one that is used.
func (s *scanner) skip() error {
	s.space()
	if s.pos == len(s.data) {
		return errSyntax
	}
	switch c := s.data[s.pos]; {
	case c == '{':
		return s.object(func([]byte) error { return s.skip() })
	case c == '[':
		return s.array(s.skip)
	case c == '"':
		_, err := s.text()
		return err
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	}
	for _, word := range [...]string{"true", "false", "null"} {
		if end := s.pos + len(word); end <= len(s.data) && string(s.data[s.pos:end]) == word {
			s.pos = end
			return nil
		}
	}
	return errSyntax
}

// number reads any JSON number.
func (s *scanner) number() error {
	if s.data[s.pos] == '-' {
		s.pos++
	}
	if s.pos < len(s.data) && s.data[s.pos] == '0' {
		s.pos++
	} else if !s.digits() {
		return errSyntax
	}
	if s.pos < len(s.data) && s.data[s.pos] == '.' {
		s.pos++
		if !s.digits() {
			return errSyntax
		}
	}
	if s.pos < len(s.data) && s.data[s.pos]|0x20 == 'e' {
		s.pos++
		if s.pos < len(s.data) && (s.data[s.pos] == '+' || s.data[s.pos] == '-') {
			s.pos++
		}
		if !s.digits() {
			return errSyntax
		}
	}
	return nil
}

// digits reads one digit or more.
func (s *scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.data) && s.data[s.pos] >= '0' && s.data[s.pos] <= '9' {
		s.pos++
	}
	return s.pos > start
}

// take skips white space and then c, and reports whether c was there.
func (s *scanner) take(c byte) bool {
	s.space()
	if s.pos == len(s.data) || s.data[s.pos] != c {
		return false
	}
	s.pos++
	return true
}

// space skips JSON's four white space characters.
func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// names are the names of one object so far.
type names struct {
	few  [fewNames][]byte
	n    int
	many map[string]struct{}
}

// add reports whether name is not there yet, and adds it. Beyond fewNames it keeps a map, because a token can hold several
// hundred names and comparing each with each would cost an attacker's token more than a signature.
func (n *names) add(name []byte) bool {
	for _, other := range n.few[:n.n] {
		if string(other) == string(name) {
			return false
		}
	}
	if n.n < fewNames {
		n.few[n.n] = name
		n.n++
		return true
	}
	if n.many == nil {
		n.many = make(map[string]struct{})
	}
	if _, there := n.many[string(name)]; there {
		return false
	}
	n.many[string(name)] = struct{}{}
	return true
}
