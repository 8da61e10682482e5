package web

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/example/pillion/internal/fault"
)

// What a request for a page is told when it cannot be read.
var (
	ErrLimit  = fault.New(fault.Invalid, "limit", "limit must be given once, as a whole number.")
	ErrCursor = fault.New(fault.Invalid, "cursor", "cursor must be given once, exactly as an earlier page gave it.")
	ErrQuery  = fault.New(fault.Malformed, "query", "The part of the address after the question mark cannot be read.")
)

const defaultPage = 20 // entries, where a client does not say

// Page returns which part of a list is asked for: at most limit entries, 1 to max, beyond the place named cursor (0 means from
// the beginning). Without ?limit= it is 20, or max where that is less. It returns ErrLimit, ErrCursor and ErrQuery.
func Page(r *http.Request, max int) (limit int, cursor uint64, err error) {
	limit = min(defaultPage, max)
	query, err := queryOf(r)
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
