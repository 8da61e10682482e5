package tokentest

import (
	"fmt"
	"strings"
	"time"

	"github.com/example/pillion/token"
)

// headers adds headers that a header must not be. Addresses in them lead to the discard port:
// nobody may even try.
func (f *forger) headers() {
	const malformed = "malformed"
	good := f.members()
	jwk := onlyKey(f.set)
	for _, extra := range (Members{
		{"jku", `"http://127.0.0.1:9/jwks.json"`}, {"x5u", `"http://127.0.0.1:9/chain.pem"`}, {"jwk", jwk},
		{"x5c", `["MIIB"]`},
		{"x5t", `"AAAA"`}, {"x5t#S256", `"AAAA"`}, {"crit", `["unknown"]`}, {"crit", `[]`}, {"crit", `["b64"]`},
		{"crit", `["alg"]`},
		{"b64", `false`}, {"b64", `true`}, {"zip", `"DEF"`}, {"zip", `null`}, {"cty", `"JWT"`}, {"enc", `"A128GCM"`},
		{"epk", `{}`},
		{"nonce", `"1"`}, {"ver", `1`}, {"", `""`}, {"exp", `1`}, {"KID", quote(f.kid())}, {"Typ", `"JWT"`},
		{"\u212aid", quote(f.kid())},
		{"kid", quote(f.kid())}, {"typ", `"JWT"`}, {`k\u0069d`, quote(f.kid())},
	}) {
		f.header(malformed, "header with "+extra.Name+" "+cut(extra.Value)+" added",
			good.Plus(extra.Name, extra.Value).String())
	}
	f.header(malformed, "header with crit and b64", good.Plus("crit", `["b64"]`).Plus("b64", "false").String())
	b64 := good.Plus("crit", `["b64"]`).Plus("b64", "false").String()
	f.add(malformed, "RFC 7797 with its claims not encoded", Sign(f.t, f.Private, encode(b64)+"."+"claims"))
	set, err := token.NewKeySet(KeyOf(&f.Other.PublicKey))
	if err != nil {
		f.t.Fatalf("tokentest: make a key set: %v", err)
	}
	f.add(malformed, "another key, brought along as jwk", f.Raw(f.Other, good.Plus("jwk", onlyKey(set)).String(),
		f.claims().String()))

	for _, kid := range []string{
		"null", "7", "true", "[]", quote(""), quote(f.kid()[:42]), quote(f.kid() + "A"), quote(f.kid()[:42] + "="),
		quote(f.kid()[:42] + "/"),
		quote(f.kid()[:42] + `\n`), quote(f.kid()[:42] + `\u0000`), "[" + quote(f.kid()) + "]",
		quote("../../../../../../../dev/null"),
		quote("../../../../../../../../../etc/passwd.......")[:44] + `"`, quote("' UNION SELECT 'AAAA'; -- "),
		quote("x' UNION SELECT 'key' FROM keys WHERE '1'='1")[:44] + `"`, quote("http://127.0.0.1:9/key"), quote("|/usr/bin/id"),
		quote("https://127.0.0.1:9/key"), quote(f.kid()[:41] + "\u00e9"),
	} {
		f.header(malformed, "kid "+cut(kid), good.With("kid", kid).String())
	}
	f.header(malformed, "kid missing", good.Without("kid").String())
	f.header("unknown_key", "kid of a key that is not there", good.With("kid", quote(strings.Repeat("A", 43))).String())
	f.header("unknown_key", "kid in other case", good.With("kid", quote(swapCase(f.kid()))).String())

	for _, typ := range []string{`"jwt"`, `"Jwt"`, `"JWS"`, `"JWE"`, `"at+jwt"`, `"application/jwt"`, `"JWT "`, `""`,
		`"JWT\u0000"`} {
		f.header("type", "typ "+typ, good.With("typ", typ).String())
	}
	f.header("type", "typ missing", good.Without("typ").String())
	for _, typ := range []string{"null", "1", `["JWT"]`} {
		f.header(malformed, "typ "+typ, good.With("typ", typ).String())
	}
}

// onlyKey returns the JWK of a set of one key.
func onlyKey(set *token.KeySet) string {
	return strings.TrimSuffix(strings.TrimPrefix(string(set.JWKS()), `{"keys":[`), `]}`)
}

// texts adds what is not one strict JSON object, in the place of the header and of the claims.
func (f *forger) texts() {
	for _, place := range []struct {
		name string
		good Members
		add  func(reason, name, text string)
	}{{"header", f.members(), f.header}, {"claims", f.claims(), f.payload}} {
		good := place.good.String()
		open := strings.TrimSuffix(good, "}")
		add := func(name, text string) { place.add("malformed", place.name+": "+name, text) }
		add("no JSON", "hello")
		add("white space alone", "  ")
		add("null", "null")
		add("a number", "1")
		add("a string", `"{}"`)
		add("an array of it", "["+good+"]")
		add("something behind it", good+"x")
		add("another object behind it", good+"{}")
		add("a bracket behind it", good+"}")
		add("a NUL behind it", good+"\x00")
		add("a byte order mark before it", "\ufeff"+good)
		add("not closed", open)
		add("comma at its end", open+",}")
		add("no comma", strings.Replace(good, ",", " ", 1))
		add("no colon", strings.Replace(good, ":", " ", 1))
		add("two commas", strings.Replace(good, ",", ",,", 1))
		add("a comment", open+"/* */}")
		add("single quotes", strings.ReplaceAll(good, `"`, "'"))
		add("names without quotes", "{"+strings.Replace(good[1:], `"`, "", 2))
		add("UTF-16", utf16(good))
		for _, value := range []string{
			"", "NaN", "Infinity", "+1", "01", "1.", ".5", "1e", "0x10", "-", "tru", "True", "undefined", `"`, "\"a\nb\"", "\"a\x00b\"", "\"\\t\x01\"", `"\x"`,
			`"\u12"`, `"\u12G4"`, `"\uD800"`, `"\uDC00"`, `"\uD800\u0041"`, `"\uD800\uD800"`, `"\uD800x"`, "\"\xff\"", "\"\xc0\x80\"",
			"\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\\n\xff\"", "[1,]", "[1", "[,1]", "[1 2]", "{1:2}", `{"a"}`, `{"a":1,}`, `{"a":1,"a":2}`,
			`[{"a":1,"\u0061":2}]`, strings.Repeat("[", 20) + strings.Repeat("]", 20), strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20),
		} {
			add(fmt.Sprintf("the value %+q", cut(value)), place.good.Plus("x", value).String())
		}
		add("a name that is not UTF-8", place.good.Plus("\xff", "1").String())
		add("a name with half a surrogate pair", place.good.Plus(`\uD800`, "1").String())
		add("an unknown name twice", place.good.Plus("x", "1").Plus("x", "1").String())
		add("an unknown name twice, once escaped", place.good.Plus("x", "1").Plus(`\u0078`, "1").String())
		many := place.good
		for i := range 40 {
			many = many.Plus(fmt.Sprint("x", i), "1")
		}
		add("the fortieth unknown name twice", many.Plus("x39", "1").String())
	}
	f.payload("role", "claims: an empty object", "{}")
	f.header("algorithm", "header: an empty object", "{}")
}

// times adds times that do not allow it now, or are none.
func (f *forger) times() {
	good := f.claims()
	for _, name := range []string{"exp", "iat", "nbf"} {
		for _, value := range []string{
			"null", "true", "[]", "{}", quote(f.after(time.Minute)), f.after(time.Minute) + ".0", f.after(time.Minute) + ".5", "1.7e9", "1E3",
			"-1", "-0", "0" + f.after(time.Minute), "1e300", "-1e300", "8589934593", "253402300800", "18446744073709551617",
			"9223372036854775808", "[" + f.after(time.Minute) + "]", `""`,
		} {
			f.payload("malformed", name+" "+value, good.With(name, value).String())
		}
	}
	f.payload("malformed", "exp missing", good.Without("exp").String())
	f.payload("malformed", "iat missing", good.Without("iat").String())
	f.payload("expired", "exp an hour ago", good.With("iat", f.after(-2*time.Hour)).With("exp", f.after(-time.Hour)).String())
	f.payload("expired", "exp in 1970", good.With("iat", "0").With("exp", "1").String())
	f.payload("lifetime", "exp at iat", good.With("exp", f.after(-time.Minute)).String())
	f.payload("lifetime", "exp before iat", good.With("exp", f.after(-2*time.Minute)).String())
	f.payload("lifetime", "exp 24 hours and a second after iat", good.With("exp", f.after(24*time.Hour-time.Minute+time.Second)).String())
	f.payload("lifetime", "exp in the year 2242", good.With("exp", "8589934592").String())
	f.payload("lifetime", "iat in 1970", good.With("iat", "0").String())
	f.payload("not_yet_valid", "iat in an hour", good.With("iat", f.after(time.Hour)).With("exp", f.after(2*time.Hour)).String())
	f.payload("not_yet_valid", "nbf in an hour", good.With("nbf", f.after(time.Hour)).String())
	f.payload("not_yet_valid", "nbf in the year 2242", good.With("nbf", "8589934592").String())
	ended := good.With("iat", f.after(-2*time.Hour)).With("exp", f.after(-time.Hour))
	f.payload("malformed", "expired, and EXP says otherwise", ended.Plus("EXP", f.after(time.Hour)).String())
	f.payload("malformed", "expired, and Exp says otherwise", ended.Plus("Exp", f.after(time.Hour)).String())
	f.payload("malformed", "expired, and a second exp says otherwise", ended.Plus("exp", f.after(time.Hour)).String())
	f.payload("malformed", "expired, and a second exp is escaped", ended.Plus(`\u0065xp`, f.after(time.Hour)).String())
}

// names adds claims about who, for whom and as what.
func (f *forger) names() {
	good := f.claims()
	for _, name := range []string{"iss", "aud"} {
		reason := map[string]string{"iss": "issuer", "aud": "audience"}[name]
		for _, value := range []string{`"evil"`, `"Pillion"`, `"PILLION"`, `"pillion "`, `""`, `"pillion\u0000"`, `"p\u0131llion"`, `"https://pillion"`} {
			f.payload(reason, name+" "+value, good.With(name, value).String())
		}
		f.payload(reason, name+" missing", good.Without(name).String())
		for _, value := range []string{"null", "1", `["pillion"]`, `["pillion","evil"]`, `["evil"]`, "[]", `{"pillion":true}`} {
			f.payload("malformed", name+" "+value, good.With(name, value).String())
		}
	}
	for _, value := range []string{
		`"admin"`, `"operator"`, `"rider"`, `"User"`, `"USER"`, `"RAIDER"`, `""`, `"user "`, `" user"`, `"user\u0000"`, `"u\u017fer"`,
		`"user,raider"`, `"user raider"`, `"\u0443ser"`,
	} {
		f.payload("role", "role "+value, good.With("role", value).String())
	}
	f.payload("role", "role missing", good.Without("role").String())
	f.payload("role", "role named as roles", good.Without("role").Plus("roles", `["user"]`).String())
	for _, value := range []string{"null", "1", "true", `["user"]`, `["user","raider"]`, `{"user":true}`} {
		f.payload("malformed", "role "+value, good.With("role", value).String())
	}
	for _, name := range []string{"sub", "jti", "sid"} {
		for _, value := range []string{
			"null", "1", `""`, `"1"`, quote(Ulla[:25]), quote(Ulla + "a"), quote(strings.ToUpper(Ulla)), quote("1" + Ulla[1:]), quote("8" + Ulla[1:]),
			quote(Ulla[:25] + "-"), quote(Ulla[:25] + " "), quote(Ulla[:24] + "\u00e9"), "[" + quote(Ulla) + "]", quote(Ulla[:25] + `\u0000`),
			quote("*" + Ulla[1:]), quote(">"), quote("a." + Ulla[2:]),
		} {
			f.payload("malformed", name+" "+value, good.With(name, value).String())
		}
	}
	f.payload("malformed", "sub missing", good.Without("sub").String())
	f.payload("malformed", "jti missing", good.Without("jti").String())
	for _, value := range []string{
		"null", "1", `""`, `["ulla@example.com"]`, quote(strings.Repeat("u", 243) + "@example.com"), `"ulla@example.com\n"`,
		`"ulla\u0000@example.com"`, "\"\x7fulla@example.com\"",
	} {
		f.payload("malformed", "email "+cut(value), good.With("email", value).String())
	}
	f.payload("malformed", "email missing", good.Without("email").String())
	f.payload("malformed", "email missing of a rider", good.Without("email").With("role", `"raider"`).String())

	// encoding/json, with or without a struct, lets the last of these win.
	for _, twin := range (Members{
		{"iss", `"evil"`}, {"aud", `"evil"`}, {"sub", quote(Rita)}, {"role", `"service"`}, {"email", `"rita@example.com"`}, {"jti", quote(Rita)},
		{"iat", f.after(-time.Second)}, {"exp", f.after(time.Hour)}, {"role", `"user"`},
	}) {
		f.payload("malformed", twin.Name+" twice, the second "+cut(twin.Value), good.Plus(twin.Name, twin.Value).String())
		f.payload("malformed", twin.Name+" twice, the first "+cut(twin.Value), "{"+fmt.Sprintf("%q:%s,", twin.Name, twin.Value)+good.String()[1:])
	}
	for _, twin := range (Members{
		{"ISS", `"pillion"`}, {"i\u017fs", `"pillion"`}, {"is\u017f", `"pillion"`}, {"AUD", `"pillion"`}, {"Sub", quote(Rita)},
		{"\u017fub", quote(Rita)}, {"ROLE", `"raider"`}, {"Role", `"raider"`}, {"rolE", `"service"`}, {"EMAIL", `"rita@example.com"`},
		{"JTI", quote(Rita)}, {"\u017fid", quote(Rita)}, {"SID", quote(Rita)}, {"IAT", "1"}, {"NBF", "1"}, {"R\\u004fLE", `"raider"`},
	}) {
		known := strings.ToLower(strings.NewReplacer("\u017f", "s", `\u004f`, "o").Replace(twin.Name))
		f.payload("malformed", twin.Name+" beside "+known, good.Plus(twin.Name, twin.Value).String())
		f.payload("malformed", twin.Name+" in the place of "+known, good.Without(known).Plus(twin.Name, twin.Value).String())
	}
}

// cut shortens what goes into a test's name.
func cut(s string) string {
	if len(s) > 40 {
		return s[:20] + "..." + s[len(s)-17:]
	}
	return s
}

// swapCase returns s with the case of every letter changed.
func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return r
	}, s)
}

// utf16 returns s in UTF-16, big-endian, with a byte order mark.
func utf16(s string) string {
	var b strings.Builder
	b.WriteString("\xfe\xff")
	for i := range len(s) {
		b.WriteByte(0)
		b.WriteByte(s[i])
	}
	return b.String()
}
