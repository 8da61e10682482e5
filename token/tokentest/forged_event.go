package tokentest

import "time"

// events adds an event token in the place of an access token, and access tokens with a good
// signature around an event token that says something else.
func (f *forger) events() {
	inner := f.claims().With("aud", `"pillion-ledger"`).Without("email")
	sign := func(claims Members) string { return f.Raw(f.Private, f.EventHeader(), claims.String()) }
	good := sign(inner)
	f.add("type", "event token", good)
	f.header("malformed", "typ of an event token", f.EventHeader())

	with := func(reason, name, evt string) {
		f.t.Helper()
		f.payload(reason, "evt "+name, f.claims().Plus("evt", evt).String())
	}
	for _, value := range []string{"null", "1", "true", "[" + quote(good) + "]", "{}"} {
		with("malformed", cut(value), value)
	}
	f.payload("malformed", "evt twice", f.claims().Plus("evt", quote(good)).Plus("evt", quote(good)).String())
	f.payload("malformed", "EVT", f.claims().Plus("EVT", quote(good)).String())
	with("malformed", "that is no token", quote("invalid.token.here"))
	with("malformed", "that is an access token", quote(f.good))
	with("malformed", "with an email", quote(sign(inner.Plus("email", `"ulla@example.com"`))))
	with("malformed", "with an event token", quote(sign(inner.Plus("evt", quote(good)))))
	with("malformed", "for requests", quote(sign(inner.With("aud", `"pillion"`))))
	for _, other := range (Members{
		{"sub", quote(Rita)}, {"role", `"raider"`}, {"role", `"service"`}, {"sid", quote(Rita)}, {"jti", quote(Rita)},
		{"iss", `"evil"`}, {"iat", f.after(-2 * time.Minute)}, {"nbf", "0"}, {"exp", f.after(time.Hour)},
	}) {
		with("malformed", "with another "+other.Name+" "+cut(other.Value),
			quote(sign(inner.With(other.Name, other.Value))))
	}
	with("signature", "signed by another key", quote(f.Raw(f.Other, f.EventHeader(), inner.String())))
	with("signature", "with its last characters changed", quote(good[:len(good)-4]+"AAAA"))
}
