package web_test

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/web"
)

func TestIdempotencyKey(t *testing.T) {
	long := strings.Repeat("k", 128)
	for _, c := range []struct {
		sent []string
		key  string // "" with ok false is none
		err  error
	}{
		{nil, "", nil},
		{[]string{"k"}, "k", nil},
		{[]string{`"k"`}, "k", nil},
		{[]string{"8e03978e-40d5-43dd-bc93-6894a57f9324"}, "8e03978e-40d5-43dd-bc93-6894a57f9324", nil},
		{[]string{`"8e03978e-40d5-43dd-bc93-6894a57f9324"`}, "8e03978e-40d5-43dd-bc93-6894a57f9324", nil},
		{[]string{`"a\"b\\c"`}, `a"b\c`, nil},
		{[]string{`a"b\c`}, `a"b\c`, nil},
		{[]string{"!~"}, "!~", nil},
		{[]string{long}, long, nil},
		{[]string{`"` + long + `"`}, long, nil},
		{[]string{""}, "", web.ErrIdempotencyKey},
		{[]string{`""`}, "", web.ErrIdempotencyKey},
		{[]string{long + "k"}, "", web.ErrIdempotencyKey},
		{[]string{`"` + long + `k"`}, "", web.ErrIdempotencyKey},
		{[]string{"a", "a"}, "", web.ErrIdempotencyKey},
		{[]string{"a, b"}, "", web.ErrIdempotencyKey}, // two headers, joined on the way
		{[]string{"a b"}, "", web.ErrIdempotencyKey},
		{[]string{`"a b"`}, "", web.ErrIdempotencyKey},
		{[]string{"a\tb"}, "", web.ErrIdempotencyKey},
		{[]string{"a\x7fb"}, "", web.ErrIdempotencyKey},
		{[]string{"ключ"}, "", web.ErrIdempotencyKey},
		{[]string{`"ключ"`}, "", web.ErrIdempotencyKey},
		{[]string{`"`}, "", web.ErrIdempotencyKey},
		{[]string{`"a`}, "", web.ErrIdempotencyKey},
		{[]string{`"a\`}, "", web.ErrIdempotencyKey},
		{[]string{`"a\"`}, "", web.ErrIdempotencyKey},
		{[]string{`"a\b"`}, "", web.ErrIdempotencyKey},
		{[]string{`"a"b`}, "", web.ErrIdempotencyKey},
		{[]string{`"a";p=1`}, "", web.ErrIdempotencyKey},
		{[]string{`"a""b"`}, "", web.ErrIdempotencyKey},
	} {
		r := request("POST", "/book", "")
		for _, v := range c.sent {
			r.Header.Add("Idempotency-Key", v)
		}
		key, ok, err := web.IdempotencyKey(r)
		if key != c.key || ok != (c.key != "") || !errors.Is(err, c.err) {
			t.Errorf("%q: %q, %v, %v, want %q, %v", c.sent, key, ok, err, c.key, c.err)
		}
	}
}

func FuzzIdempotencyKey(f *testing.F) {
	for _, seed := range []string{"", "k", `"k"`, `"a\"b\\c"`, `"`, `"\`, `"a"b`, "a b", "\x00", `"\\"`} {
		f.Add(seed)
	}
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	f.Fuzz(func(t *testing.T, sent string) {
		key, ok, err := web.IdempotencyKey(request("POST", "/", "", "Idempotency-Key", sent))
		if ok != (err == nil) || ok && (len(key) < 1 || len(key) > 128) {
			t.Fatalf("%q: %q, %v, %v", sent, key, ok, err)
		}
		if !ok {
			return
		}
		again, ok, err := web.IdempotencyKey(request("POST", "/", "", "Idempotency-Key", `"`+quote.Replace(key)+`"`))
		if again != key || !ok || err != nil {
			t.Errorf("%q is the key %q, which written as a string is %q, %v, %v", sent, key, again, ok, err)
		}
	})
}

// Query refuses what a handler would ignore or could understand in two ways, and names it.
func TestQuery(t *testing.T) {
	const has, none = " This path has: limit, state.", " This path has no query parameters."
	const special = " is malformed: write every character that is special in URLs as %XX."
	long := strings.Repeat("n", 100)
	for _, c := range []struct {
		query, code, sentence string // "" passes
	}{
		{"", "", ""},
		{"&&", "", ""},
		{"limit=1", "", ""},
		{"limit", "", ""},
		{"%6cimit=1&state=a", "", ""},
		{"state=a&limit=1&state=b&state=a", "", ""},
		{"limit=1&limit=1", "repeated_parameter", `Query parameter "limit" occurs more than once.` + has},
		{"limit=1&%6cimit=1", "repeated_parameter", `Query parameter "limit" occurs more than once.` + has},
		{"limt=1", "unknown_parameter", `Query parameter "limt" is unknown.` + has},
		{"state=a&Limit=1", "unknown_parameter", `Query parameter "Limit" is unknown.` + has},
		{"limit...=1", "unknown_parameter", `Query parameter "limit..." is unknown.` + has},
		{"state...=1", "unknown_parameter", `Query parameter "state..." is unknown.` + has},
		{"=1", "unknown_parameter", `Query parameter "" is unknown.` + has},
		{"a%0Ab%FF=1", "unknown_parameter", `Query parameter "a\nb\xff" is unknown.` + has},
		{long, "unknown_parameter", `Query parameter "` + long[:64] + `..." is unknown.` + has},
		{"limit=%zz", "query", `Query parameter "limit"` + special + has},
		{"%zz=1", "query", `Query parameter "%zz"` + special + has},
		{"limit=1;state=2", "query", `Query parameter "limit"` + special + has},
	} {
		r := request("GET", "/bookings", "", "Accept", "application/json")
		r.URL.RawQuery = c.query
		passed := false
		pass := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed = true })
		w := answer(web.Query("limit", "state...")(pass), r)
		var told struct{ Code, Detail string }
		_ = json.Unmarshal(w.Body.Bytes(), &told) // nothing, if it passes
		if passed != (c.code == "") || told.Code != c.code || told.Detail != c.sentence {
			t.Errorf("?%s: passed: %v, told %+v, want %+v", c.query, passed, told, c)
		}
	}
	r := request("GET", "/bookings", "")
	r.URL.RawQuery = "x"
	if w := answer(web.Query()(http.NotFoundHandler()), r); w.Code != 400 ||
		w.Body.String() != `Query parameter "x" is unknown.`+none {
		t.Errorf("answer %d %q", w.Code, w.Body)
	}
}

func TestPage(t *testing.T) {
	for _, c := range []struct {
		query  string
		max    int
		limit  int
		cursor uint64
		err    error
	}{
		{"", 100, 20, 0, nil},
		{"", 10, 10, 0, nil},
		{"limit=1", 100, 1, 0, nil},
		{"limit=100", 100, 100, 0, nil},
		{"cursor=17", 100, 20, 17, nil},
		{"cursor=0", 100, 20, 0, nil},
		{"limit=5&cursor=18446744073709551615", 100, 5, math.MaxUint64, nil},
		{"limit=0", 100, 0, 0, web.ErrLimit},
		{"limit=101", 100, 0, 0, web.ErrLimit},
		{"limit=-1", 100, 0, 0, web.ErrLimit},
		{"limit=+1", 100, 0, 0, web.ErrLimit},
		{"limit=%2B1", 100, 0, 0, web.ErrLimit},
		{"limit=1.0", 100, 0, 0, web.ErrLimit},
		{"limit=1e1", 100, 0, 0, web.ErrLimit},
		{"limit=", 100, 0, 0, web.ErrLimit},
		{"limit", 100, 0, 0, web.ErrLimit},
		{"limit=99999999999999999999", 100, 0, 0, web.ErrLimit},
		{"cursor=", 100, 0, 0, web.ErrCursor},
		{"cursor=-1", 100, 0, 0, web.ErrCursor},
		{"cursor=x", 100, 0, 0, web.ErrCursor},
		{"cursor=18446744073709551616", 100, 0, 0, web.ErrCursor},
	} {
		r := request("GET", "/bookings", "")
		r.URL.RawQuery = c.query
		limit, cursor, err := web.Page(r, c.max)
		if limit != c.limit || cursor != c.cursor || !errors.Is(err, c.err) {
			t.Errorf("?%s: %d, %d, %v, want %d, %d, %v", c.query, limit, cursor, err, c.limit, c.cursor, c.err)
		}
		if errors.Is(err, web.ErrLimit) && !strings.Contains(fault.From(err).Message, "1 to 100") {
			t.Errorf("?%s: %v", c.query, err)
		}
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct {
		query string
		want  []string
		err   error
	}{
		{"", nil, nil},
		{"other=a", nil, nil},
		{"w=a", []string{"a"}, nil},
		{"w=a,b&x=z&w=c", []string{"a", "b", "c"}, nil},
		{"w=", []string{""}, nil},
		{"w=a,", []string{"a", ""}, nil},
		{"w=a%2Cb", []string{"a", "b"}, nil},
		{"w=" + strings.Repeat("a,", 31) + "a", slices.Repeat([]string{"a"}, 32), nil},
		{"w=" + strings.Repeat("a,", 32) + "a", nil, web.ErrTooManyValues},
		{"w=" + strings.Repeat("a&w=", 32) + "a", nil, web.ErrTooManyValues},
	} {
		r := request("GET", "/bookings", "")
		r.URL.RawQuery = c.query
		if got, err := web.QueryList(r, "w"); !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
			t.Errorf("?%s: %q, %v, want %q, %v", c.query, got, err, c.want, c.err)
		}
	}
}

func TestMoment(t *testing.T) {
	eight := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		query string
		want  time.Time // zero: none
		err   error
	}{
		{"", time.Time{}, nil},
		{"other=2026-03-01T08:00:00Z", time.Time{}, nil},
		{"t=2026-03-01T08:00:00Z", eight, nil},
		{"t=2026-03-01T08:00:00.000000001Z", eight.Add(1), nil},
		{"t=2026-03-01T13:30:00%2B05:30", eight, nil},
		{"t=2026-03-01T13:30:00+05:30", eight, nil},
		{"t=2026-03-01T03:00:00-05:00", eight, nil},
		{"t=", time.Time{}, web.ErrTime},
		{"t", time.Time{}, web.ErrTime},
		{"t=2026-03-01", time.Time{}, web.ErrTime},
		{"t=2026-03-01T08:00:00", time.Time{}, web.ErrTime},
		{"t=2026-03-01+08:00:00Z", time.Time{}, web.ErrTime},
		{"t=2026-02-30T08:00:00Z", time.Time{}, web.ErrTime},
		{"t=1772352000", time.Time{}, web.ErrTime},
	} {
		r := request("GET", "/bookings", "")
		r.URL.RawQuery = c.query
		got, given, err := web.QueryTime(r, "t")
		if !got.Equal(c.want) || given == c.want.IsZero() || !errors.Is(err, c.err) {
			t.Errorf("?%s: %v, %v, %v, want %v, %v", c.query, got, given, err, c.want, c.err)
		}
		if errors.Is(err, web.ErrTime) && !strings.HasPrefix(fault.From(err).Message, "t must") {
			t.Errorf("?%s: %v", c.query, err)
		}
	}
}
