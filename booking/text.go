package booking

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

const zeroWidthJoiner = '\u200d'

// plainText returns what somebody wrote as it is kept and shown to others: in NFC, without spaces
// around it, and empty where nothing of it would be seen. It returns ErrInvalidReason for control
// and format characters and line separators, which change how the words around them are read. The
// zero-width joiner and variation selectors stay: emoji are made with them.
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
