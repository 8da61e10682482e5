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

// The refusals of query parameters.
var (
	ErrQuery  = fault.New(fault.Malformed, "query", "The query string of the URL is malformed.")
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

// Page returns the page that a query asks for: at most limit entries, 1 to max, after cursor. limit
// defaults to 20, or to max if that is less. cursor is 0 for the first page. Errors: ErrLimit,
// ErrCursor, ErrQuery.
func Page(r *http.Request, max int) (limit int, cursor uint64, err error) {
	limit = min(defaultPage, max)
	query, err := parseQuery(r)
	if err != nil {
		return 0, 0, err
	}
	if values, ok := query["limit"]; ok {
		n, err := strconv.ParseUint(values[0], 10, 31)
		if err != nil || len(values) > 1 || n < 1 || n > uint64(max) {
			return 0, 0, ErrLimit.Saying(fmt.Sprintf("limit must be given once, as a whole number from 1 to %d.", max))
		}
		limit = int(n)
	}
	if values, ok := query["cursor"]; ok {
		cursor, err = strconv.ParseUint(values[0], 10, 64)
		if err != nil || len(values) > 1 {
			return 0, 0, ErrCursor
		}
	}
	return limit, cursor, nil
}

// QueryList returns the values of a query parameter. The parameter may be repeated, and each value
// may be a list separated by commas. Errors: ErrTooManyValues for more than 32, ErrQuery.
func QueryList(r *http.Request, name string) ([]string, error) {
	query, err := parseQuery(r)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, value := range query[name] {
		for v := range strings.SplitSeq(value, ",") {
			if list = append(list, v); len(list) > maxValues {
				return nil, ErrTooManyValues.Saying(fmt.Sprintf("%s may have at most %d values.", name, maxValues))
			}
		}
	}
	return list, nil
}

// QueryTime returns the time in a query parameter (RFC 3339), and whether the query has that
// parameter. It reads a space as the plus sign that a client forgot to escape. Errors: ErrTime,
// ErrQuery.
func QueryTime(r *http.Request, name string) (t time.Time, given bool, err error) {
	query, err := parseQuery(r)
	if err != nil {
		return time.Time{}, false, err
	}
	values, given := query[name]
	if !given {
		return time.Time{}, false, nil
	}
	t, err = time.Parse(time.RFC3339, strings.Replace(values[0], " ", "+", 1))
	if err != nil || len(values) > 1 {
		return time.Time{}, false, ErrTime.Saying(name + " must be given once, as a time like 2026-03-01T08:00:00Z.")
	}
	return t, true, nil
}

// parseQuery returns the query of a request, or ErrQuery.
func parseQuery(r *http.Request) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, ErrQuery.Because(err)
	}
	return query, nil
}
