package web

import (
	"mime"
	"strconv"
	"strings"
)

// A preference is how much a client wants a media type: by quality, then by specificity, then by
// position.
type preference struct {
	quality  float64
	exact    int // 2 for type/subtype, 1 for type/*, 0 for */*
	position int
}

// over reports whether p is stronger than o.
func (p preference) over(o preference) bool {
	switch {
	case p.quality != o.quality:
		return p.quality > o.quality
	case p.exact != o.exact:
		return p.exact > o.exact
	default:
		return p.position < o.position
	}
}

// A wanted is the preference for one kind of answer, which may have several media types.
type wanted struct {
	preference
	seen bool
}

// note adds a range of the header. The most specific matching range counts (RFC 9110 section
// 12.5.1).
func (w *wanted) note(p preference) {
	if !w.seen || p.exact > w.exact || p.exact == w.exact && p.over(w.preference) {
		w.preference, w.seen = p, true
	}
}

// prefersJSON reports whether a client with these Accept headers prefers JSON to plain text. Text
// is for clients without a preference, such as curl with */*, and for those that accept neither.
//
// goautoneg is no replacement: it serves what q=0 excludes and what has an invalid q, and minds
// case.
func prefersJSON(accept []string) bool {
	var text, object wanted
	position := 0
	for _, header := range accept {
		for clause := range strings.SplitSeq(header, ",") {
			position++
			media, params, err := mime.ParseMediaType(clause)
			if err != nil {
				continue
			}
			p := preference{quality: 1, exact: 2, position: position}
			if q, ok := params["q"]; ok {
				p.quality, err = strconv.ParseFloat(q, 64)
				if err != nil || !(p.quality >= 0 && p.quality <= 1) {
					continue
				}
			}
			switch media {
			case "text/plain":
				text.note(p)
			case "application/json", "application/problem+json":
				object.note(p)
			case "text/*":
				p.exact = 1
				text.note(p)
			case "application/*":
				p.exact = 1
				object.note(p)
			case "*/*":
				p.exact = 0
				text.note(p)
				object.note(p)
			}
		}
	}
	return object.quality > 0 && object.over(text.preference)
}
