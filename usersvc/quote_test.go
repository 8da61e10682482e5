package usersvc_test

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/example/pillion/web/webtest"
)

// What is quoted is what is booked.
func TestQuoteIsWhatIsBooked(t *testing.T) {
	e := newEnv(t)
	quoted := webtest.Object(t, e.call("GET", "/quote?from=12.9716,77.5946&to=12.9352,77.6245", e.user(ulla), ""))
	e.nothingStored()
	if quoted["fare"] != 463.0 || len(quoted) != 6 {
		t.Errorf("quoted %v, want a fare of 463 and six figures", quoted)
	}
	booked := webtest.Object(t, e.call("POST", "/book", e.user(ulla),
		`{"pickup":{"lat":12.9716,"lng":77.5946},"dropoff":{"lat":12.9352,"lng":77.6245}}`))
	same := make(map[string]any)
	for name := range quoted {
		same[name] = booked[name]
	}
	if diff := cmp.Diff(quoted, same); diff != "" {
		t.Errorf("booked otherwise than quoted (-quoted +booked):\n%s", diff)
	}
}

func TestQuoteRefuses(t *testing.T) {
	const (
		query = "Give from and to once each, as latitude and longitude in degrees: /quote?from=12.9716,77.5946&to=12.9352,77.6245."
		same  = "Pickup and dropoff are the same place. Choose another dropoff, or give neither of them."
		has   = "This path has: from, to."
		place = "A place needs a lat from -90 to 90 and a lng from -180 to 180, in degrees."
	)
	e := newEnv(t)
	for _, c := range []struct{ query, sentence string }{
		{"", query},
		{"?from=1,2", query},
		{"?to=1,2", query},
		{"?from=1,2&to=", query},
		{"?from=1,2&to=1", query},
		{"?from=1,2&to=1,", query},
		{"?from=1,2&to=1,2,3", query},
		{"?from=1,2&to=1;2", `Query parameter "to" is malformed: write every character that is special in URLs as %XX. ` + has},
		{"?from=1,2&to=1,x", query},
		{"?from=1,2&to=1,%20%202", query},
		{"?from=1,2&from=1,2&to=1,2", `Query parameter "from" occurs more than once. ` + has},
		{"?from=1,2&to=1e999,2", query},
		{"?FROM=1,2&to=1,2", `Query parameter "FROM" is unknown. ` + has},
		{"?from=NaN,2&to=1,2", place},
		{"?from=1,Inf&to=1,2", place},
		{"?from=90.01,2&to=1,2", place},
		{"?from=1,2&to=1,-181", place},
		{"?from=12.9716,77.5946&to=12.9716,77.5946", same},
		{"?from=12.9716,77.5946&to=12.97160000,77.594600001", same},
		{"?from=0,0&to=-0.0,0.000001", same},
		{"?from=90,0&to=90,120", same},
		{"?from=10,180&to=10,-180", same},
		{"?from=0,0&to=0,0.9", "The trip is too long: it has 100.1 km, and raiders ride at most 100 km. Choose places that are nearer to each other."},
	} {
		webtest.Refused(t, e.call("GET", "/quote"+c.query, e.user(ulla), ""), http.StatusBadRequest, c.sentence)
	}
	const here = `{"lat":12.9716,"lng":77.5946}`
	webtest.Refused(t, e.call("POST", "/book", e.user(ulla), `{"pickup":`+here+`,"dropoff":`+here+`}`),
		http.StatusBadRequest, same)
	e.nothingStored()
	webtest.Object(t, e.call("GET", "/quote?from=0,0&to=0,0.00002", e.user(ulla), "")) // two metres
}
