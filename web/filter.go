package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/example/pillion/internal/fault"
)

// What a request for part of a list is told when that part cannot be told.
var (
	ErrWords  = fault.New(fault.Invalid, "words", "This may be given a few times only.")
	ErrMoment = fault.New(fault.Invalid, "moment", "A time must be given once, as in 2026-03-01T08:00:00Z.")
)

// maxWords is how many values of one parameter are read.
const maxWords = 32

// Words returns the values of a query parameter that may be repeated, or list several with commas between them, or both. It returns ErrWords
// and ErrQuery. What the words mean is for the caller to say.
func Words(r *http.Request, name string) ([]string, error) {
	query, err := queryOf(r)
	if err != nil {
		return nil, err
	}
	var words []string
	for _, value := range query[name] {
		for word := range strings.SplitSeq(value, ",") {
			if words = append(words, word); len(words) > maxWords {
				return nil, ErrWords.Saying(fmt.Sprintf("%s may have at most %d values.", name, maxWords))
			}
		}
	}
	return words, nil
}

// Moment returns the time that a query parameter names (RFC 3339), and whether there is one. It returns ErrMoment and ErrQuery. A plus
// that was not written as %2B has become a space on its way, and is taken for what was meant.
func Moment(r *http.Request, name string) (t time.Time, given bool, err error) {
	query, err := queryOf(r)
	if err != nil {
		return time.Time{}, false, err
	}
	values, given := query[name]
	if !given {
		return time.Time{}, false, nil
	}
	t, err = time.Parse(time.RFC3339, strings.Replace(values[0], " ", "+", 1))
	if err != nil || len(values) > 1 {
		return time.Time{}, false, ErrMoment.Saying(fmt.Sprintf("%s must be given once, as a time like 2026-03-01T08:00:00Z.", name))
	}
	return t, true, nil
}

// queryOf returns the query of a request, or ErrQuery.
func queryOf(r *http.Request) (url.Values, error) {
	if r.URL.RawQuery == "" {
		return nil, nil
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, ErrQuery.Because(err)
	}
	return query, nil
}
