package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/example/pillion/internal/fault"
)

// The refusals of query parameters. The sentences of the first three name the parameter, and those
// that the path has.
var (
	ErrQuery            = fault.New(fault.Malformed, "query", "The query string of the URL is malformed.")
	ErrUnknownParameter = fault.New(fault.Malformed, "unknown_parameter",
		"The query string of the URL has an unknown parameter.")
	ErrRepeatedParameter = fault.New(fault.Malformed, "repeated_parameter",
		"The query string of the URL has a parameter more than once.")

	ErrLimit  = fault.New(fault.Invalid, "limit", "limit must be given once, as a whole number.")
	ErrCursor = fault.New(fault.Invalid, "cursor",
		"cursor must be given once, exactly as an earlier page returned it.")
	ErrTooManyValues = fault.New(fault.Invalid, "words", "Too many values.")
	ErrTime          = fault.New(fault.Invalid, "moment", "A time must be given once, as in 2026-03-01T08:00:00Z.")
)

const (
	defaultPage = 20 // entries
	maxValues   = 32 // of one parameter
)

// Query passes requests whose query has only these parameters, each at most once; a parameter whose
// name ends in "..." here may be repeated. Handlers behind it can rely on [url.URL.Query]. It
// answers ErrQuery, ErrUnknownParameter and ErrRepeatedParameter.
func Query(names ...string) func(http.Handler) http.Handler {
	repeatable, has := make(map[string]bool, len(names)), "This path has no query parameters."
	for _, name := range names {
		repeatable[strings.TrimSuffix(name, "...")] = strings.HasSuffix(name, "...")
	}
	if len(names) > 0 {
		has = "This path has: " + strings.ReplaceAll(strings.Join(names, ", "), "...", "") + "."
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if name, wrong := checkQuery(r.URL.RawQuery, repeatable); wrong != nil {
				says := fmt.Sprintf("Query parameter %s %s. %s", quoteShort(name), wrong.Message, has)
				WriteError(w, r, wrong.Saying(says))
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// checkQuery returns the first parameter of a query that is not as [Query] wants it, and its
// refusal, whose message is what is wrong with it. The refusal is nil if there is none.
func checkQuery(query string, repeatable map[string]bool) (name string, wrong *fault.Error) {
	seen := make(map[string]bool)
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		name, _, _ = strings.Cut(pair, "=")
		values, err := url.ParseQuery(pair)
		if err != nil {
			return name, ErrQuery.Saying("is malformed: write every character that is special in URLs as %XX")
		}
		for name = range values { // it is one
		}
		again, known := repeatable[name]
		switch {
		case !known:
			return name, ErrUnknownParameter.Saying("is unknown")
		case seen[name] && !again:
			return name, ErrRepeatedParameter.Saying("occurs more than once")
		}
		seen[name] = true
	}
	return "", nil
}

// Page returns the page that a query asks for: at most limit entries, 1 to max, after cursor. limit
// defaults to 20, or to max if that is less. cursor is 0 for the first page. Errors: ErrLimit,
// ErrCursor.
func Page(r *http.Request, max int) (limit int, cursor uint64, err error) {
	limit = min(defaultPage, max)
	query := r.URL.Query()
	if query.Has("limit") {
		n, err := strconv.ParseUint(query.Get("limit"), 10, 31)
		if err != nil || n < 1 || n > uint64(max) {
			return 0, 0, ErrLimit.Sayingf("limit must be given once, as a whole number from 1 to %d.", max)
		}
		limit = int(n)
	}
	if query.Has("cursor") {
		if cursor, err = strconv.ParseUint(query.Get("cursor"), 10, 64); err != nil {
			return 0, 0, ErrCursor
		}
	}
	return limit, cursor, nil
}

// QueryList returns the values of a query parameter. The parameter may be repeated, and each value
// may be a list separated by commas. Errors: ErrTooManyValues for more than 32.
func QueryList(r *http.Request, name string) ([]string, error) {
	var list []string
	for _, value := range r.URL.Query()[name] {
		for v := range strings.SplitSeq(value, ",") {
			if list = append(list, v); len(list) > maxValues {
				return nil, ErrTooManyValues.Sayingf("%s may have at most %d values.", name, maxValues)
			}
		}
	}
	return list, nil
}

// QueryTime returns the time in a query parameter (RFC 3339), and whether the query has that
// parameter. It reads a space as the plus sign that a client forgot to escape. Errors: ErrTime.
func QueryTime(r *http.Request, name string) (t time.Time, given bool, err error) {
	query := r.URL.Query()
	if !query.Has(name) {
		return time.Time{}, false, nil
	}
	t, err = time.Parse(time.RFC3339, strings.Replace(query.Get(name), " ", "+", 1))
	if err != nil {
		return time.Time{}, false, ErrTime.Saying(name + " must be given once, as a time like 2026-03-01T08:00:00Z.")
	}
	return t, true, nil
}
