// Package jsontime encodes times in JSON for clients: in UTC, always with milliseconds. Such
// strings sort as their times do, and every parser accepts them.
//
// Give a field of an answer the type [Time]. Ledgers and buckets store times in full precision and
// do not use this package.
package jsontime

import "time"

// Layout is RFC 3339 with milliseconds. They are cut off, not rounded, so no deadline looks later
// than it is.
const Layout = "2006-01-02T15:04:05.000Z"

// A Time is encoded in [Layout], and decoded from any RFC 3339 time. Convert it from and to
// time.Time.
type Time time.Time

// Format returns a time as a string in [Layout].
func Format(t time.Time) string { return t.UTC().Format(Layout) }

// Optional returns t for a field with omitempty: nil if t is zero.
func Optional(t time.Time) *Time {
	if t.IsZero() {
		return nil
	}
	return (*Time)(&t)
}

// MarshalJSON returns the time as a JSON string. It never fails.
func (t Time) MarshalJSON() ([]byte, error) {
	const room = len(`""`) + len("000000") // AppendFormat writes nanoseconds, and then cuts them
	b := make([]byte, 0, len(Layout)+room)
	b = append(b, '"')
	b = time.Time(t).UTC().AppendFormat(b, Layout)
	return append(b, '"'), nil
}

// UnmarshalJSON decodes a JSON string in RFC 3339 of any precision: older builds wrote others.
func (t *Time) UnmarshalJSON(data []byte) error { return (*time.Time)(t).UnmarshalJSON(data) }
