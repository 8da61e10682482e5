package booking

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

const zeroWidthJoiner = '\u200d'

// plainText returns text of a person in the form in which it is stored and shown: in NFC, without
// surrounding space, and empty if nothing in it is visible. It returns ErrInvalidReason for control
// and format characters and line separators, which change how the words around them read. The
// zero-width joiner and variation selectors stay, because emoji need them.
func plainText(s string) (string, error) {
	s = norm.NFC.String(s)
	seen := false
	for _, r := range s {
		switch {
		case unicode.Is(unicode.Variation_Selector, r), r == zeroWidthJoiner:
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp):
			return "", ErrInvalidReason
		case !unicode.IsSpace(r) && !unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r):
			seen = true
		}
	}
	if !seen {
		return "", nil
	}
	return strings.TrimSpace(s), nil
}
