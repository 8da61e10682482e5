package web_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/web"
)

type place struct {
	Lat float64 `json:"lat"`
	Lng float64 `json:"lng"`
}

type common struct {
	Note string `json:"note"`
}

type order struct {
	Email  string         `json:"email"`
	Stars  int            `json:"stars,omitempty"`
	Sure   bool           `json:"sure"`
	Pickup *place         `json:"pickup"`
	Stops  []place        `json:"stops"`
	Tags   map[string]int `json:"tags"`
	When   time.Time      `json:"when"`
	Any    any            `json:"any"`
	Plain  string
	Secret string `json:"-"`
	hidden string
	common
}

func deep(n int) string {
	return `{"any":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}`
}

func TestDecode(t *testing.T) {
	full := order{
		Email: "ulla@example.com", Stars: 5, Sure: true, Pickup: &place{60.2, 24.9}, Stops: []place{{1, 2}, {3, 4}},
		Tags: map[string]int{"a": 1, "A": 2}, When: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Any:   map[string]any{"x": []any{"y"}},
		Plain: "p", hidden: "", common: common{Note: "n"},
	}
	for _, c := range []struct {
		name, body string
		want       order
		err        error
		says       string // part of the sentence
	}{
		{name: "empty object", body: `{}`},
		{name: "space around", body: " \r\n\t{ } \n"},
		{name: "one field", body: `{"email":"a"}`, want: order{Email: "a"}},
		{name: "every field", body: `{"email":"ulla@example.com","stars":5,"sure":true,"pickup":{"lat":60.2,"lng":24.9},
			"stops":[{"lat":1,"lng":2},{"lat":3,"lng":4}],"tags":{"a":1,"A":2},"when":"2026-01-02T03:04:05Z","any":{"x":["y"]},
			"Plain":"p","note":"n"}`, want: full},
		{name: "null is absent", body: `{"email":null,"pickup":null}`},
		{name: "escaped name", body: `{"\u0065mail":"a"}`, want: order{Email: "a"}},
		{name: "surrogate pair", body: `{"email":"\ud83d\ude00"}`, want: order{Email: "😀"}},
		{name: "same name in two objects", body: `{"stops":[{"lat":1},{"lat":2}]}`, want: order{Stops: []place{{Lat: 1}, {Lat: 2}}}},
		{name: "whole numbers", body: `{"stars":5.0,"tags":{"a":5e0,"b":50E-1,"c":-0.5e1,"d":0.0}}`, want: order{Stars: 5, Tags: map[string]int{"a": 5, "b": 5, "c": -5, "d": 0}}},
		{name: "numbers with a fraction", body: `{"stops":[{"lat":5.0,"lng":5.25}],"any":1.50}`, want: order{Stops: []place{{5, 5.25}}, Any: 1.5}},
		{name: "half a star", body: `{"stars":4.5}`, err: web.ErrWrongType, says: "whole number"},
		{name: "a whole number in text", body: `{"stars":"5.0"}`, err: web.ErrWrongType, says: "whole number"},
		{name: "more than a whole number holds", body: `{"stars":1e300}`, err: web.ErrWrongType, says: "whole number"},
		{name: "more than any number holds", body: `{"stars":1e999999999}`, err: web.ErrWrongType, says: "whole number"},
		{name: "16 levels", body: deep(15), want: func() order {
			v := any([]any{})
			for range 14 {
				v = []any{v}
			}
			return order{Any: v}
		}()},

		{name: "not JSON", body: `hello`, err: web.ErrNotJSON, says: "not valid JSON"},
		{name: "a form", body: `email=a&password=b`, err: web.ErrNotJSON},
		{name: "cut off", body: `{"email":"a"`, err: web.ErrNotJSON},
		{name: "cut off after a name", body: `{"email"`, err: web.ErrNotJSON},
		{name: "cut off after a colon", body: `{"email":`, err: web.ErrNotJSON},
		{name: "cut off in a list", body: `{"stops":[{}`, err: web.ErrNotJSON},
		{name: "no colon", body: `{"email" "a"}`, err: web.ErrNotJSON},
		{name: "comma at the end", body: `{"email":"a",}`, err: web.ErrNotJSON},
		{name: "comma at the end of a list", body: `{"stops":[{},]}`, err: web.ErrNotJSON},
		{name: "wrong bracket", body: `{"stops":[}]`, err: web.ErrNotJSON},
		{name: "name without quotes", body: `{email:"a"}`, err: web.ErrNotJSON},
		{name: "single quotes", body: `{'email':'a'}`, err: web.ErrNotJSON},
		{name: "number as a name", body: `{1:"a"}`, err: web.ErrNotJSON},
		{name: "comment", body: `{/**/}`, err: web.ErrNotJSON},
		{name: "NaN", body: `{"pickup":{"lat":NaN}}`, err: web.ErrNotJSON},
		{name: "leading zero", body: `{"stars":05}`, err: web.ErrNotJSON},
		{name: "line break in text", body: "{\"email\":\"a\nb\"}", err: web.ErrNotJSON},
		{name: "byte order mark", body: "\uFEFF{}", err: web.ErrNotJSON},
		{name: "null", body: `null`, err: web.ErrNotObject, says: "one JSON object"},
		{name: "list", body: `[{"email":"a"}]`, err: web.ErrNotObject},
		{name: "text", body: `"email"`, err: web.ErrNotObject},
		{name: "number", body: `1`, err: web.ErrNotObject},
		{name: "second object", body: `{"email":"a"}{"email":"b"}`, err: web.ErrTrailingData, says: "nothing after it"},
		{name: "second object after {}", body: `{} {}`, err: web.ErrTrailingData},
		{name: "trailing noise", body: `{"email":"a"} x`, err: web.ErrTrailingData},
		{name: "trailing bracket", body: `{"email":"a"}}`, err: web.ErrTrailingData},
		{name: "unknown", body: `{"admin":true}`, err: web.ErrUnknownField, says: `"admin"`},
		{name: "unknown inside", body: `{"pickup":{"lat":1,"alt":2}}`, err: web.ErrUnknownField, says: `"pickup.alt"`},
		{name: "unknown in a list", body: `{"stops":[{},{"alt":2}]}`, err: web.ErrUnknownField, says: `"stops[1].alt"`},
		{name: "upper case", body: `{"EMAIL":"a"}`, err: web.ErrUnknownField, says: `"EMAIL"`},
		{name: "upper case inside", body: `{"pickup":{"Lat":1}}`, err: web.ErrUnknownField, says: `"pickup.Lat"`},
		{name: "long s", body: `{"ſure":true}`, err: web.ErrUnknownField},
		{name: "Kelvin", body: "{\"pic\u212aup\":null}", err: web.ErrUnknownField},
		{name: "a field not for JSON", body: `{"Secret":"x"}`, err: web.ErrUnknownField},
		{name: "an unexported field", body: `{"hidden":"x"}`, err: web.ErrUnknownField},
		{name: "an embedded struct's name", body: `{"common":{}}`, err: web.ErrUnknownField},
		{name: "name with a line break", body: `{"a\nb":1}`, err: web.ErrUnknownField, says: `"a\nb"`},
		{name: "empty name", body: `{"":1}`, err: web.ErrUnknownField, says: `""`},
		{name: "repeated", body: `{"email":"a","email":"b"}`, err: web.ErrRepeatedField, says: `"email"`},
		{name: "repeated under an escape", body: `{"email":"a","\u0065mail":"b"}`, err: web.ErrRepeatedField},
		{name: "repeated inside", body: `{"pickup":{"lat":1,"lat":2}}`, err: web.ErrRepeatedField, says: `"pickup.lat"`},
		{name: "repeated in a list", body: `{"stops":[{"lat":1,"lat":2}]}`, err: web.ErrRepeatedField, says: `"stops[0].lat"`},
		{name: "repeated in a map", body: `{"tags":{"a":1,"a":2}}`, err: web.ErrRepeatedField, says: `"tags.a"`},
		{name: "repeated in any", body: `{"any":{"a":{"b":1,"b":2}}}`, err: web.ErrRepeatedField, says: `"any.a.b"`},
		{name: "NUL", body: `{"email":"a\u0000b"}`, err: web.ErrBadText, says: `"email"`},
		{name: "NUL inside", body: `{"any":["\u0000"]}`, err: web.ErrBadText, says: `"any[0]"`},
		{name: "NUL in a map's name", body: `{"tags":{"\u0000":1}}`, err: web.ErrBadText},
		{name: "raw NUL", body: "{\"email\":\"a\x00b\"}", err: web.ErrNotJSON},
		{name: "half a surrogate pair", body: `{"email":"\ud83d"}`, err: web.ErrBadText, says: `"email"`},
		{name: "invalid UTF-8", body: "{\"email\":\"\xff\"}", err: web.ErrBadText, says: "UTF-8"},
		{name: "invalid UTF-8 in a name", body: "{\"\xc3\x28\":1}", err: web.ErrBadText},
		{name: "UTF-16", body: "{\x00}\x00", err: web.ErrNotJSON},
		{name: "number for text", body: `{"email":1}`, err: web.ErrWrongType, says: `"email" must be text`},
		{name: "list for text", body: `{"email":["a"]}`, err: web.ErrWrongType, says: `"email" must be text`},
		{name: "object for text", body: `{"email":{"$ne":""}}`, err: web.ErrWrongType, says: `"email" must be text`},
		{name: "number for text of an embedded struct", body: `{"note":1}`, err: web.ErrWrongType, says: `Field "note" must be text`},
		{name: "NUL in an embedded struct", body: `{"note":"\u0000"}`, err: web.ErrBadText, says: `Field "note" contains`},
		{name: "text for a number", body: `{"pickup":{"lat":"1"}}`, err: web.ErrWrongType, says: `"pickup.lat" must be a number`},
		{name: "text for true", body: `{"sure":"true"}`, err: web.ErrWrongType, says: "true or false"},
		{name: "fraction", body: `{"stars":1.5}`, err: web.ErrWrongType, says: `"stars" must be a whole number`},
		{name: "integer out of range", body: `{"stars":1e99}`, err: web.ErrWrongType, says: `"stars"`},
		{name: "float out of range", body: `{"pickup":{"lat":1e999}}`, err: web.ErrWrongType, says: `"pickup.lat"`},
		{name: "list for an object", body: `{"pickup":[1,2]}`, err: web.ErrWrongType, says: `"pickup" must be an object`},
		{name: "object for a list", body: `{"stops":{"lat":1}}`, err: web.ErrWrongType, says: `"stops" must be a list`},
		{name: "text for an object", body: `{"tags":"x"}`, err: web.ErrWrongType, says: "an object"},
		{name: "bad time", body: `{"when":"yesterday"}`, err: web.ErrWrongType},
		{name: "17 levels", body: deep(16), err: web.ErrNotJSON, says: "too deeply"},
		{name: "30,000 levels", body: deep(30_000), err: web.ErrNotJSON, says: "too deeply"},
		{name: "30,000 objects", body: strings.Repeat(`{"any":`, 9_000), err: web.ErrNotJSON, says: "too deeply"},
		{name: "exactly 64 KiB", body: `{"email":"` + strings.Repeat("a", 64<<10-12) + `"}`, want: order{Email: strings.Repeat("a", 64<<10-12)}},
		{name: "a byte over 64 KiB", body: `{"email":"` + strings.Repeat("a", 64<<10-11) + `"}`, err: web.ErrBodyTooLarge, says: "64 KiB"},
		{name: "64 KiB of space", body: strings.Repeat(" ", 64<<10) + "{}", err: web.ErrBodyTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, decode := range []struct {
				name   string
				decode func(*http.Request, any) error
			}{{"DecodeJSON", web.DecodeJSON}, {"DecodeOptional", web.DecodeOptional}} {
				for _, length := range []int64{int64(len(c.body)), -1} { // announced, and chunked
					r := request("POST", "/", c.body, "Content-Type", "application/json")
					r.ContentLength = length
					var got order
					err := decode.decode(r, &got)
					if !errors.Is(err, c.err) {
						t.Fatalf("%s = %v, want %v", decode.name, err, c.err)
					}
					if err != nil {
						if says := fault.From(err).Message; !strings.Contains(says, c.says) {
							t.Errorf("%s says %q, want %q in it", decode.name, says, c.says)
						}
						continue
					}
					if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(order{}, common{})); diff != "" {
						t.Errorf("%s: %s", decode.name, diff)
					}
				}
			}
		})
	}
}

func TestDecodeMediaType(t *testing.T) {
	for _, c := range []struct {
		headers  []string
		body     string
		json     error
		optional error
	}{
		{[]string{"Content-Type", "application/json"}, `{}`, nil, nil},
		{[]string{"Content-Type", "Application/JSON; Charset=UTF-8"}, `{}`, nil, nil},
		{[]string{"Content-Type", "application/json; charset=latin1"}, `{}`, web.ErrMediaType, nil},
		// curl -d '{}'
		{[]string{"Content-Type", "application/x-www-form-urlencoded"}, `{}`, web.ErrMediaType, nil},
		{[]string{"Content-Type", "text/plain"}, `{}`, web.ErrMediaType, nil},
		{[]string{"Content-Type", "application/jsonp"}, `{}`, web.ErrMediaType, nil},
		{[]string{"Content-Type", "application/merge-patch+json"}, `{}`, web.ErrMediaType, nil},
		{[]string{"Content-Type", "application/json; =bad"}, `{}`, web.ErrMediaType, nil},
		{[]string{"Content-Type", "application/json", "Content-Type", "text/plain"}, `{}`, web.ErrMediaType, nil},
		{[]string{"Content-Type", "application/json", "Content-Encoding", "gzip"}, `{}`, web.ErrMediaType, nil},
		{nil, `{}`, web.ErrMediaType, nil},
		{nil, ``, web.ErrMediaType, nil},
		{[]string{"Content-Type", "application/json"}, ``, web.ErrNotJSON, nil},
		{[]string{"Content-Type", "application/json"}, " \n", web.ErrNotJSON, nil},
		{nil, `[]`, web.ErrMediaType, web.ErrNotObject},
		{[]string{"Content-Type", "application/x-www-form-urlencoded"}, `a=b`, web.ErrMediaType, web.ErrNotJSON},
	} {
		var v order
		if err := web.DecodeJSON(request("POST", "/", c.body, c.headers...), &v); !errors.Is(err, c.json) {
			t.Errorf("DecodeJSON %q %q = %v, want %v", c.headers, c.body, err, c.json)
		}
		if err := web.DecodeOptional(request("POST", "/", c.body, c.headers...), &v); !errors.Is(err, c.optional) {
			t.Errorf("DecodeOptional %q %q = %v, want %v", c.headers, c.body, err, c.optional)
		}
	}
}

func TestDecodeBodiesThatFail(t *testing.T) {
	r := httptest.NewRequest("POST", "/",
		iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(`{"email":"a"}`))))
	var v order
	if err := web.DecodeOptional(r, &v); !errors.Is(err, web.ErrBodyCutShort) || !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("a body that stalls: %v", err)
	}
	r = request("POST", "/", `{"email":"a"}`)
	r.Body = http.MaxBytesReader(nil, r.Body, 4)
	if err := web.DecodeOptional(r, &v); !errors.Is(err, web.ErrBodyTooLarge) {
		t.Errorf("a body over a narrower limit: %v", err)
	}
	// An announced size over the limit is believed: nothing is read.
	r = httptest.NewRequest("POST", "/", iotest.ErrReader(io.ErrNoProgress))
	r.ContentLength = 1 << 40
	if err := web.DecodeOptional(r, &v); !errors.Is(err, web.ErrBodyTooLarge) {
		t.Errorf("a body of a terabyte: %v", err)
	}
	// What is no pointer is our mistake and not the client's.
	if err := web.DecodeOptional(request("POST", "/", `{"email":"a"}`), v); fault.KindOf(err) != fault.Internal ||
		err == nil {
		t.Errorf("decoding into a value: %v", err)
	}
}

// Bodies that no other test has must not take a decoder down, nor be blamed on us; and what was
// accepted reads the same when it is written and read again.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"", "{}", " {} ", "null", "[]", `{"email":"a","stars":1,"sure":true,"pickup":{"lat":1,"lng":2}}`,
		`{"email":"a","email":"b"}`,
		`{"EMAIL":"a"}`, `{"email":"\u0000"}`, `{"email":"\ud800"}`, "{\"email\":\"\xff\"}",
		`{"stops":[{"lat":1e999}]}`, `{"any":[[[[]]]]}`,
		`{"tags":{"a":1}}`, `{"when":"2026-01-02T03:04:05Z"}`, `{"when":1}`, `{} {}`, `{"a":1}x`,
		`{"stops":[1,"x",null]}`, `{"Plain":"x","note":""}`,
		`{"any":-0.0e-0}`, `{"email":{}}`, `{"tags":[]}`, strings.Repeat(`{"any":`, 40), strings.Repeat("[", 99),
		`{"email`, `{"email":"a",}`,
	} {
		f.Add([]byte(seed), "application/json")
	}
	f.Add([]byte("{}"), "application/x-www-form-urlencoded")
	f.Add([]byte("{}"), "application/json;charset=\"utf-8\"")
	f.Fuzz(func(t *testing.T, body []byte, media string) {
		for _, decode := range []func(*http.Request, any) error{web.DecodeJSON, web.DecodeOptional} {
			var v order
			err := decode(request("POST", "/", string(body), "Content-Type", media), &v)
			if err == nil {
				again, err := json.Marshal(v)
				if err != nil || len(again) > 64<<10 {
					continue
				}
				var w order
				if err := web.DecodeOptional(request("POST", "/", string(again)), &w); err != nil {
					t.Errorf("%q is accepted as %s, which is not: %v", body, again, err)
				}
				if diff := cmp.Diff(v, w, cmp.AllowUnexported(order{}, common{})); diff != "" {
					t.Errorf("%q is accepted as %s, which is something else: %s", body, again, diff)
				}
				continue
			}
			rec := httptest.NewRecorder()
			web.WriteError(rec, request("POST", "/", ""), err)
			if rec.Code < 400 || rec.Code >= 500 {
				t.Errorf("%q is answered with %d: %v", body, rec.Code, err)
			}
		}
	})
}

// A body within the limit must not cost many times its size to refuse or accept.
func TestDecodeIsProportionate(t *testing.T) {
	var names strings.Builder
	for i := range 6_000 {
		fmt.Fprintf(&names, `"%d":1,`, i)
	}
	for name, body := range map[string]string{
		"a long name over a long list": `{"any":{"` + strings.Repeat("a", 30_000) + `":[` +
			strings.Repeat("1,", 15_000) + `1]}}`,
		"a long name over many objects": `{"any":{"` + strings.Repeat("a", 30_000) + `":[` +
			strings.Repeat(`{"a":1},`, 4_000) + `1]}}`,
		"many small structs":  `{"stops":[` + strings.Repeat(`{"lat":1},`, 6_000) + `{}]}`,
		"a long unknown name": `{"` + strings.Repeat("a", 60_000) + `":1}`,
		"a long name that is there twice": `{"tags":{"` + strings.Repeat("a", 30_000) + `":1,"` +
			strings.Repeat("a", 30_000) + `":1}}`,
		"many names": `{"tags":{` + names.String() + `"a":1}}`,
		"long names down to the last level": `{"any":` + strings.Repeat(`{"`+strings.Repeat("a", 4_000)+`":`, 14) +
			"[[[",
	} {
		r := request("POST", "/", body)
		var v order
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := web.DecodeOptional(r, &v)
		runtime.ReadMemStats(&after)
		if cost := after.TotalAlloc - before.TotalAlloc; cost > 5<<20 {
			t.Errorf("%s: %d KiB of body cost %d KiB", name, len(body)>>10, cost>>10)
		}
		if err != nil && len(fault.From(err).Message) > 200 {
			t.Errorf("%s: the sentence has %d characters", name, len(fault.From(err).Message))
		}
	}
}
