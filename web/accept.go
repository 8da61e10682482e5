package web

import (
	"mime"
	"strconv"
	"strings"
)

// A preference is how much a client wants one media type: by its quality, then by how exactly it named it, then by how early.
type preference struct {
	quality  float64
	exact    int // 2 for type/subtype, 1 for type/*, 0 for */*
	position int
}

// over reports whether p is the stronger wish of the two.
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

// A wanted collects the preference for one answer, which may go by several names.
type wanted struct {
	preference
	seen bool
}

// note takes a range of the header into account. The most exact range that matches decides (RFC 9110 section 12.5.1).
func (w *wanted) note(p preference) {
	if !w.seen || p.exact > w.exact || p.exact == w.exact && p.over(w.preference) {
		w.preference, w.seen = p, true
	}
}

// prefersJSON reports whether a client that sent these Accept headers would rather read JSON than plain text. Text is for whoever
// has no wish, as curl with its */*, and for whoever can read neither.
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
