// Package jsontime is how times are written in JSON for people and their programs: in UTC, always
// with milliseconds. Such texts sort as the times do, and every parser takes them. What ledgers
// and buckets hold stays as precise as it is.
//
// Give a field of an answer the type [Time].
package jsontime

import "time"

// Layout is that of every time: RFC 3339 with milliseconds, cut and not rounded, so that no
// deadline looks later than it is.
const Layout = "2006-01-02T15:04:05.000Z"

// A Time is written in [Layout], and read as any time in RFC 3339. Convert from and to time.Time.
type Time time.Time

// Format returns a time in [Layout].
func Format(t time.Time) string { return t.UTC().Format(Layout) }

// Optional returns a time to be left out with omitempty where t is zero.
func Optional(t time.Time) *Time {
	if t.IsZero() {
		return nil
	}
	return (*Time)(&t)
}

// MarshalJSON returns the time as a JSON string. It never fails.
func (t Time) MarshalJSON() ([]byte, error) {
	b := make([]byte, 0, len(Layout)+2)
	b = append(b, '"')
	b = time.Time(t).UTC().AppendFormat(b, Layout)
	return append(b, '"'), nil
}

// UnmarshalJSON reads a JSON string in RFC 3339, of whatever precision: older builds wrote others.
func (t *Time) UnmarshalJSON(data []byte) error { return (*time.Time)(t).UnmarshalJSON(data) }
