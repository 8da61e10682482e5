package jsontime_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/example/pillion/internal/jsontime"
)

func TestTime(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		at   time.Time
		want string
	}{
		{noon, `"2026-03-01T12:00:00.000Z"`},
		{noon.Add(120 * time.Millisecond), `"2026-03-01T12:00:00.120Z"`},
		{noon.Add(999_999_999), `"2026-03-01T12:00:00.999Z"`},
		{noon.In(time.FixedZone("IST", 5*3600+1800)), `"2026-03-01T12:00:00.000Z"`},
		{time.Time{}, `"0001-01-01T00:00:00.000Z"`},
	} {
		got, err := json.Marshal(jsontime.Time(c.at))
		if err != nil || string(got) != c.want || `"`+jsontime.Format(c.at)+`"` != c.want {
			t.Errorf("%v is encoded as %s and %s, %v, want %s", c.at, got, jsontime.Format(c.at), err, c.want)
		}
	}
	got, err := json.Marshal(struct {
		Given  *jsontime.Time `json:"given,omitempty"`
		Absent *jsontime.Time `json:"absent,omitempty"`
	}{jsontime.Optional(noon), jsontime.Optional(time.Time{})})
	if want := `{"given":"2026-03-01T12:00:00.000Z"}`; err != nil || string(got) != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}
