package fleet_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/golang/geo/s2"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/fleet"
)

// A rider is free who is online, has a position that has not expired, and has no ride.
func TestFree(t *testing.T) {
	busy := map[booking.RiderID]bool{}
	m, c := newMap(t, fleet.Options{Busy: func(id booking.RiderID) bool { return busy[id] }})
	free := func(want string) {
		t.Helper()
		got := m.Nearest(town, 3000, 10)
		if riders(got) != want {
			t.Errorf("free are %q, want %q", riders(got), want)
		}
		if a := m.Around(town, 3000); a.Riders != len(got) {
			t.Errorf("Around counts %d riders, want %d", a.Riders, len(got))
		}
	}
	move(t, m, "far", north(town, 3500))
	move(t, m, "two", north(town, 200))
	move(t, m, "three", north(town, -900))
	move(t, m, "one", north(town, 100))
	free("one two three")
	if near := m.Nearest(
		town,
		3000,
		2,
	); riders(near) != "one two" || math.Abs(near[1].Metres-200) > 1 ||
		near[1].Place != north(town, 200) {
		t.Errorf("the two nearest are %+v", near)
	}

	say(t, m, "one", false)
	free("two three")
	move(t, m, "one", town) // and stays offline
	free("two three")
	if m.Online("one") || !m.Online("two") || m.Online("nobody") {
		t.Error("Online is wrong")
	}
	say(t, m, "one", true)
	free("one two three")
	busy["one"] = true
	free("two three")
	busy["one"] = false

	c.pass(time.Minute)
	free("one two three")
	c.pass(1)
	free("")
	if _, ok := m.Where("one"); ok {
		t.Error("Where returns an expired position")
	}
	if p, ok := m.Last("one"); !ok || p.Place != town || !p.At.Equal(noon) {
		t.Errorf("Last = %+v, %v", p, ok)
	}
	move(t, m, "two", north(town, 200))
	free("two")
	say(t, m, "three", true) // does not renew the position
	free("two")
	if known, online := m.Count(); known != 4 || online != 1 {
		t.Errorf("%d riders, %d online, want 4 and 1", known, online)
	}
}

// Answers from any number of places reveal the area of a rider, and no more.
func TestAroundTellsAreasOnly(t *testing.T) {
	one, _ := newMap(t, fleet.Options{})
	two, _ := newMap(t, fleet.Options{})
	area := s2.CellFromPoint(town.Point()).ID().Parent(15)
	var corners []booking.Place
	for k := range 4 {
		v := s2.CellFromCellID(area).Vertex(k)
		inside := s2.LatLngFromPoint(s2.Interpolate(0.98, area.Point(), v))
		corners = append(corners, booking.Place{Lat: inside.Lat.Degrees(), Lng: inside.Lng.Degrees()})
	}
	move(t, one, "rita", corners[0])
	move(t, two, "rolf", corners[2])
	if d := corners[0].Distance(corners[2]); d < 200 || d > 600 {
		t.Fatalf("an area is %g m wide", d)
	}
	r := rand.New(rand.NewPCG(1, 1))
	near := 0
	for range 5000 {
		p := booking.Place{Lat: town.Lat + 0.02*(r.Float64()-0.5), Lng: town.Lng + 0.02*(r.Float64()-0.5)}
		radius := r.Float64() * 2000
		a, b := one.Around(p, radius), two.Around(p, radius)
		if a != b {
			t.Fatalf("within %[2]g m of %[1]v the answers reveal the place in the area: %[3]v, %[4]v", p, radius, a, b)
		}
		near += a.Riders
	}
	if near < 1000 || near > 4000 {
		t.Errorf("a rider is near in %d of 5000 queries; the test proves little", near)
	}
	for i := range 2 * fleet.MaxCount {
		move(t, one, booking.RiderID(fmt.Sprint(i)), town)
	}
	if a := one.Around(town, 1000); a.Riders != fleet.MaxCount {
		t.Errorf("Around counts %d riders, want %d", a.Riders, fleet.MaxCount)
	}
}

// NearestLocal returns riders whose last report came to this instance.
func TestNearestLocal(t *testing.T) {
	m, err := fleet.NewMap(fleet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	at := booking.Place{Lat: 12.97, Lng: 77.59}
	here := func() (ids []booking.RiderID) {
		for _, n := range m.NearestLocal(at, 1000, 10) {
			ids = append(ids, n.Rider)
		}
		return ids
	}
	mine, _, err := m.Report("mine", fleet.Fix{Place: at})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Learn(fleet.Status{Rider: "theirs", Place: at, At: mine.At, Online: true}); err != nil {
		t.Fatal(err)
	}
	if got := here(); len(got) != 1 || got[0] != "mine" || len(m.Nearest(at, 1000, 10)) != 2 {
		t.Errorf("here are %v", got)
	}
	if _, err := m.Learn(mine); err != nil { // the instance's own status comes back
		t.Fatal(err)
	}
	if got := here(); len(got) != 1 {
		t.Errorf("after its own status, local riders are %v", got)
	}
	mine.At++
	if _, err := m.Learn(mine); err != nil {
		t.Fatal(err)
	}
	if got := here(); len(got) != 0 {
		t.Errorf("here are %v", got)
	}
	if _, _, err := m.Report("theirs", fleet.Fix{Place: at}); err != nil {
		t.Fatal(err)
	}
	if got := here(); len(got) != 1 || got[0] != "theirs" {
		t.Errorf("here are %v", got)
	}
}
