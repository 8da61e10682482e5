package e2e

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/example/pillion/web/webtest"
)

// A document is the OpenAPI document of a running service.
type document struct {
	path  string   // of the file
	addrs []string // the service's base URLs
	role  string   // of the token that its routes need, or "" for either
}

// An operation is an operation of a document.
type operation struct {
	*openapi3.Operation
	of           document
	method, path string // the path is a template
}

func (o operation) String() string { return o.method + " " + o.path + o.of.by() }

// by returns the role in the document's name, to tell services with the same paths apart.
func (d document) by() string {
	if d.role == "" {
		return ""
	}
	return " as " + d.role
}

// operations returns the operations of a document, sorted by name.
func (d document) operations() ([]operation, error) {
	doc, err := webtest.Load(d.path)
	if err != nil {
		return nil, err
	}
	var all []operation
	for name, o := range webtest.Operations(doc) {
		method, path, _ := strings.Cut(name, " ")
		all = append(all, operation{o, d, method, path})
	}
	slices.SortFunc(all, func(a, b operation) int { return cmp.Compare(a.String(), b.String()) })
	return all, nil
}

// A request is a request of the fuzz test.
type request struct {
	operation
	// the method; if it is not the operation's, the document does not describe the answer
	sends   string
	target  string // path and query, escaped
	header  http.Header
	body    string
	chunked bool     // the length of the body is not declared
	as      *account // the account of a valid access token, or nil
}

func (r request) String() string {
	const most = 400 // bytes
	body := r.body
	if len(body) > most {
		body = fmt.Sprintf("%s... (%d bytes)", body[:most], len(r.body))
	}
	text := fmt.Sprintf("%s %.400s %q %q", r.sends, r.target, r.header, body)
	if r.as != nil && r.as.access != "" {
		text = strings.ReplaceAll(text, r.as.access, "<token of "+r.as.role+">")
	}
	return text
}

// A generator makes requests from a document. About half of them follow the document, and the
// others are wrong in one or two ways.
type generator struct {
	*rand.Rand
	*town
	own map[string]*account // by role
	who *account            // whom the fields of the present request are about
}

// one returns a random one of some values.
func one[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// oddly reports whether a part of a request should be wrong.
func (g *generator) oddly() bool { return g.IntN(8) == 0 }

func (g *generator) request(o operation) request {
	r := request{operation: o, sends: o.method, header: make(http.Header)}
	if g.IntN(40) == 0 {
		r.sends = one(g.Rand, "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get")
	}
	g.authorize(&r)
	var query []string
	id := g.id(r.as)
	if g.oddly() {
		id = g.oddText()
	}
	r.target = strings.ReplaceAll(o.path, "{id}", url.PathEscape(id))
	for _, p := range o.Parameters {
		switch p := p.Value; p.In {
		case "query":
			query = append(query, g.parameter(p)...)
		case "header":
			g.parameterHeader(&r, p)
		}
	}
	if g.oddly() {
		query = append(query, one(g.Rand, "x=1", "%zz=1", "a;b", "=", "&&", "limit=1", "lat",
			"q="+url.QueryEscape(g.oddText()), "limit=%00"))
	}
	if len(query) > 0 {
		r.target += "?" + strings.Join(query, "&")
	}
	g.describe(&r)
	if o.RequestBody != nil {
		g.fill(&r)
	} else if g.oddly() {
		r.body = g.oddText()
	}
	return r
}

// authorize sets the credentials of a request.
func (g *generator) authorize(r *request) {
	role := cmp.Or(r.of.role, one(g.Rand, "user", "raider"))
	g.who = g.own[role]
	bearer := func(token string) { r.header.Set("Authorization", "Bearer "+token) }
	switch n := g.IntN(40); {
	case n < 34:
		r.as = g.own[role]
		bearer(r.as.access)
	case n < 36: // a token of the other role
		r.as = g.own[map[string]string{"user": "raider", "raider": "user"}[role]]
		bearer(r.as.access)
	case n == 36: // a token of another account
		r.as = g.somebody(g.Rand)
		bearer(r.as.access)
	case n == 37: // an invalid token
	default:
		token := g.own[role].access
		r.header["Authorization"] = one(g.Rand, []string{"Basic " + token}, []string{token}, []string{""},
			[]string{"Bearer "},
			[]string{"Bearer " + token, "Bearer " + token}, []string{"Bearer " + token + "," + token},
			[]string{"Bearer invalid.token.here"},
			[]string{"Bearer " + token[:len(token)-2]}, []string{"Bearer \xff\xfe"},
			[]string{"Bearer " + strings.Repeat("a.", 2000)}, []string{"bearer " + token})
	}
}

// id returns a booking's ID, usually of one that the caller may act on. A ride needs a user and a
// raider, so a visitor's user looks after the booking that its raider has.
func (g *generator) id(as *account) string {
	var mine string
	if as != nil && g.IntN(8) > 0 {
		mine = as.booking
		if as == g.own["user"] && g.IntN(2) == 0 {
			mine = cmp.Or(g.own["raider"].booking, mine)
		}
	}
	return cmp.Or(mine, g.anyBooking(g.Rand), "mfrggzdfmztwq2lkmfrggzdfmz")
}

// parameter returns the query value of a parameter.
func (g *generator) parameter(p *openapi3.Parameter) []string {
	if !p.Required && g.IntN(3) > 0 {
		return nil
	}
	value := strings.Trim(g.value(p.Name, p.Schema.Value), `"`)
	if g.oddly() {
		value = one(g.Rand, g.oddText(), g.oddNumber(), g.oddTime(), "")
	}
	pair := p.Name + "=" + url.QueryEscape(value)
	switch g.IntN(40) {
	case 0:
		return []string{pair, pair}
	case 1:
		return []string{p.Name}
	case 2:
		return []string{strings.ToUpper(p.Name) + "=" + url.QueryEscape(value)}
	case 3:
		return nil
	}
	return []string{pair}
}

// parameterHeader sets a header that the document names.
func (g *generator) parameterHeader(r *request, p *openapi3.Parameter) {
	if g.IntN(3) > 0 {
		return
	}
	value := strconv.Itoa(g.IntN(1000))
	if p.Name == "Idempotency-Key" { // one of a few, so that most are reused for something else
		value = one(g.Rand, "key-"+strconv.Itoa(g.IntN(4)), strconv.FormatUint(g.Uint64(), 36), `"key-1"`)
	}
	if g.oddly() {
		value = one(g.Rand, "", `"`, `"a`, "a b", strings.Repeat("k", 129), "k\xff", "-1", "1e3",
			"18446744073709551616", "ключ", "null")
	}
	r.header.Set(p.Name, value)
	if g.IntN(40) == 0 {
		r.header.Add(p.Name, value)
	}
}

// describe sets headers that no document names.
func (g *generator) describe(r *request) {
	if g.IntN(3) == 0 {
		r.header.Set("Accept", one(g.Rand, "application/json", "application/problem+json",
			"text/html, application/json;q=0.9", "*/*", "text/plain",
			"application/*;q=0.1", "image/png", "*/*;q=0", ";;", "application/json;q=2", "text/event-stream",
			strings.Repeat("a/b,", 400), ""))
	}
	if !g.oddly() {
		return
	}
	name := one(g.Rand, "Cookie", "Origin", "Sec-Fetch-Site", "X-Forwarded-For", "Forwarded", "X-Request-Id",
		"Traceparent", "If-None-Match", "Range",
		"Content-Encoding", "Expect", "Accept-Encoding", "X-Http-Method-Override", "Last-Event-Id", "Idempotency-Key",
		"If-Match", "Upgrade")
	value := one(g.Rand, "", "*", "null", "https://example.com", "cross-site", "unknown", "[::1]:80", "for=\"[\"",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"00-"+strings.Repeat("f", 60), "bytes=0-1", "gzip", "identity", "DELETE", "h2c", `W/"x"`, strings.Repeat("x",
			2000), "\xff\xfe", "пример", "a, b;c=\"")
	if name == "Expect" { // net/http itself answers any other value
		value = "100-continue"
	}
	r.header.Set(name, value)
}

// fill writes the body and its Content-Type.
func (g *generator) fill(r *request) {
	content := r.RequestBody.Value.Content
	schema := content["application/json"].Schema.Value
	switch {
	case g.oddly():
		r.body = g.oddBody(g.value("", schema))
	case g.oddly():
		r.body = g.brokenObject(schema)
	case !r.RequestBody.Value.Required && len(schema.Required) == 0 && g.IntN(3) == 0:
	default:
		r.body = g.value("", schema)
	}
	if r.path == "/register" && g.IntN(2) == 0 {
		r.body = strings.ReplaceAll(r.body, g.who.email, strconv.FormatUint(g.Uint64(), 36)+"@example.com")
	}
	r.header.Set("Content-Type", "application/json")
	if g.IntN(20) == 0 {
		r.header["Content-Type"] = one(g.Rand, nil, []string{""}, []string{"text/plain"},
			[]string{"application/x-www-form-urlencoded"}, []string{";;;"},
			[]string{"application/json; charset=utf-8"}, []string{"application/json; charset=latin1"},
			[]string{"application/json", "application/json"},
			[]string{"application/problem+json"}, []string{"APPLICATION/JSON"}, []string{"application/json\xff"})
	}
	r.chunked = g.IntN(20) == 0
	// The cookie is the refresh token if there is no body.
	if g.IntN(8) == 0 && r.of.role == "" {
		r.header.Set("Cookie", "pillion_refresh="+g.who.refresh)
		r.header.Set("Sec-Fetch-Site", one(g.Rand, "same-origin", "same-origin", "cross-site"))
		r.body = one(g.Rand, "", "{}", r.body)
	}
}

// value returns JSON that a schema allows, for a field or a parameter of the given name.
func (g *generator) value(name string, s *openapi3.Schema) string {
	if known, ok := g.known(name); ok {
		return known
	}
	switch {
	case len(s.AllOf) > 0:
		return g.value(name, s.AllOf[0].Value)
	case len(s.Enum) > 0:
		return strconv.Quote(fmt.Sprint(one(g.Rand, s.Enum...)))
	case s.Type.Is("object"):
		return object(g.fields(s))
	case s.Type.Is("array"):
		return "[" + g.value("", s.Items.Value) + "]"
	case s.Type.Is("boolean"):
		return strconv.FormatBool(g.IntN(2) == 0)
	case s.Type.Is("integer"), s.Type.Is("number"):
		low, high := 0, 1000
		if s.Min != nil {
			low = int(*s.Min)
		}
		if s.Max != nil {
			high = int(*s.Max)
		}
		return strconv.Itoa(low + g.IntN(high-low+1))
	case s.Pattern == "^[0-9]+$":
		return strconv.Quote(strconv.Itoa(g.IntN(1000)))
	}
	return strconv.Quote(one(g.Rand, "The rain has stopped.", "Kein Öl", "雨", "👩‍🚀", "a", strings.Repeat("x", 280)))
}

// known returns a value with which a request gets far.
func (g *generator) known(name string) (json string, ok bool) {
	place := one(g.Rand, [2]string{"12.9716", "77.5946"}, [2]string{"12.9716", "77.5946"}, [2]string{"12.9352",
		"77.6245"})
	switch name {
	case "email":
		return strconv.Quote(g.who.email), true
	case "password", "current":
		return strconv.Quote(g.who.password), true
	case "role":
		return strconv.Quote(g.who.role), true
	case "new":
		return strconv.Quote(g.who.password + "!"), true
	case "refresh_token":
		return strconv.Quote(g.who.refresh), true
	case "booking_id":
		return strconv.Quote(one(g.Rand, g.own["user"].booking, g.openBooking(g.Rand))), true
	case "start_code":
		return strconv.Quote(g.code(g.own["raider"].booking)), true
	case "state":
		return strconv.Quote(one(g.Rand, "open", "accepted,arrived", "completed", "cancelled")), true
	case "since", "until", "at":
		return strconv.Quote(time.Now().UTC().Format("2006-01-02T15:04:05.000Z")), true
	case "lat":
		return place[0], true
	case "lng":
		return place[1], true
	case "from", "to":
		return strconv.Quote(place[0] + "," + place[1]), true
	}
	return "", false
}

// A field is a field of a JSON object, as text.
type field struct{ name, value string }

// object writes an object. Names may be repeated, and are written as they are.
func object(fields []field) string {
	var parts []string
	for _, f := range fields {
		parts = append(parts, `"`+f.name+`":`+f.value)
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// fields returns the required fields of an object, and all, none or some of the others.
func (g *generator) fields(s *openapi3.Schema) []field {
	var fields []field
	others := g.IntN(3)
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if name == "code" { // from an operator, in place of the password; nobody has one here
			continue
		}
		if slices.Contains(s.Required, name) || others == 0 || others == 1 && g.IntN(2) == 0 || name == "current" {
			fields = append(fields, field{name, g.value(name, s.Properties[name].Value)})
		}
	}
	return fields
}

// brokenObject returns an object that is wrong in one place.
func (g *generator) brokenObject(s *openapi3.Schema) string {
	fields := g.fields(s)
	if len(fields) == 0 {
		return object([]field{{"x", g.oddValue()}})
	}
	at := g.IntN(len(fields))
	f := fields[at]
	switch g.IntN(8) {
	case 0:
		fields = slices.Delete(fields, at, at+1)
	case 1:
		fields = append(fields, field{one(g.Rand, "x", "", `\u0000`, `__proto__`, `\ud800`, "\xff", "\u202e",
			strings.Repeat("n", 5000)), g.oddValue()})
	case 2:
		fields = append(fields, f)
	case 3: // K and S have a third form with the same case folding
		fields[at].name = one(g.Rand, strings.ToUpper(f.name), strings.ReplaceAll(f.name, "s", "ſ"),
			strings.ReplaceAll(f.name, "k", "\u212a"), " "+f.name)
	default:
		inner := s.Properties[f.name].Value
		if len(inner.AllOf) > 0 {
			inner = inner.AllOf[0].Value
		}
		fields[at].value = g.oddValue()
		if f.name == "at" && g.IntN(2) == 0 {
			fields[at].value = strconv.Quote(g.oddTime())
		}
		if inner.Type.Is("object") && g.IntN(2) == 0 {
			fields[at].value = g.brokenObject(inner)
		}
	}
	return object(fields)
}

// oddBody returns a body that is no object, or hardly one. whole would be a correct one.
func (g *generator) oddBody(whole string) string {
	return one(g.Rand, "", " ", "null", "[]", "[{}]", "{", "{}{}", "{},", "true", `"x"`, "\x00", "\xff",
		"\ufeff"+whole, whole+"x", whole+whole, whole[:len(whole)/2],
		"["+whole+"]", strings.ToUpper(whole), strings.ReplaceAll(whole, `"`, "'"), strings.Repeat("[", 10_000),
		strings.Repeat(`{"a":`, 5_000), strings.Repeat(" ", 70<<10)+whole,
		whole+strings.Repeat("\n", 70<<10), "email=x&password=y", "<a/>", "// "+whole, strings.Replace(whole, ":",
			":\x00", 1), "\xfe\xff\x00{\x00}")
}

// oddValue returns JSON, or nearly JSON, that hardly any field allows.
func (g *generator) oddValue() string {
	switch g.IntN(4) {
	case 0:
		return g.oddNumber()
	case 1:
		return one(g.Rand, "null", "true", "[]", "{}", "[[]]", `{"lat":1}`, `[null]`, "undefined", "NaN", "")
	}
	text := g.oddText()
	if g.IntN(2) == 0 && utf8.ValidString(text) {
		return strconv.QuoteToASCII(text) // nearly JSON: Go escapes some characters in its own way
	}
	return `"` + text + `"`
}

func (g *generator) oddNumber() string {
	return one(g.Rand, "0", "-0", "-1", "0.5", "5.0", "5e0", "90.0000001", "-180.5", "1e400", "-1e400", "1e-400",
		"9223372036854775808", "18446744073709551616",
		"1"+strings.Repeat("0", 400), "0."+strings.Repeat("3", 400), "01", "+1", ".5", "1.", "0x10", "1_000",
		"Infinity", "٣", "1e99999999999", "5e-324")
}

// oddTime is separate from other texts, because an answer that repeats a time in another format
// counts as wrong.
func (g *generator) oddTime() string {
	return one(g.Rand, "9999-12-31T23:59:60Z", "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z",
		"2026-03-01T08:00:00+05:30",
		"1970-01-01T00:00:00.000000000001Z", "2026-02-30T00:00:00Z", time.Now().Add(time.Hour).Format(time.RFC3339))
}

func (g *generator) oddText() string {
	return one(g.Rand, "", " ", "\x00", `\u0000`, "\xff\xfe", "\xed\xa0\x80", `\ud800`, "\u202eabc\u202c", "a\u200bb",
		"\u2028", "\u0085", "\r\nX: y", "\t", "a\u0301", "\ufeff", "\ufffd",
		"\U000e0041", "🏴\U000e0067\U000e007f", "ſ\u212a", strings.Repeat("\u0301", 300), strings.Repeat("x", 281),
		strings.Repeat("😀", 280), strings.Repeat("long", 400),
		strings.Repeat("y", g.IntN(3000)), "..", ".", "%", "%2F", "a/b", "../../etc/passwd", "' OR 1=1 --",
		"<script>", "${jndi:ldap://x}", "{{7*7}}", "$.>", "*", ">",
		"nobody@example.com", "x@example.com ", "mfrggzdfmztwq2lkmfrggzdfmz", "MFRGGZDFMZTWQ2LKMFRGGZDFMZ",
		"aaaaaaaaaaaaaaaaaaaaaaaaaa", "0000", "12.97,77.59", "91,181", ",", "1,2,3",
		"2026-03-01",
		strings.Repeat("open,", 33))
}
