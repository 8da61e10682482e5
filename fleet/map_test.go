package fleet_test

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/internal/wait"
)

func TestSettings(t *testing.T) {
	for name, o := range map[string]fleet.Options{
		"maximum age":   {MaxAge: -1},
		"retention":     {MaxAge: time.Hour, Retention: time.Minute},
		"movement":      {MinMove: math.NaN()},
		"maximum speed": {MaxSpeed: -1},
		"riders":        {MaxRiders: -1},
	} {
		if _, err := fleet.NewMap(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: error %v, want one that names the %s", o, err, name)
		}
	}
	if _, err := fleet.NewMap(fleet.Options{MaxAge: 2 * time.Hour}); err != nil {
		t.Errorf("maximum age beyond the default retention: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	m, c := newMap(t, fleet.Options{})
	nan := math.NaN()
	for _, p := range []booking.Place{{Lat: nan}, {Lng: nan}, {Lat: 91}, {Lat: -90.001}, {Lng: 181},
		{Lat: math.Inf(1)}} {
		if _, _, err := m.Report("rita", fleet.Fix{Place: p}); !errors.Is(err, booking.ErrInvalidPlace) {
			t.Errorf("report of %v: %v", p, err)
		}
		if _, err := m.Learn(fleet.Status{Rider: "rita", Place: p, At: 1}); !errors.Is(err, fleet.ErrStatus) {
			t.Errorf("learned of %v: %v", p, err)
		}
		if near := m.Nearest(p, 1e7, 1); len(near) != 0 {
			t.Errorf("near %v: %v", p, near)
		}
		if a := m.Around(p, 1e7); a != (fleet.Availability{}) {
			t.Errorf("around %v: %v", p, a)
		}
	}
	_, _, err1 := m.Report("", fleet.Fix{Place: town})
	_, err2 := m.SetOnline("", true)
	for _, err := range []error{err1, err2} {
		if !errors.Is(err, fleet.ErrNoRider) {
			t.Errorf("empty id: %v", err)
		}
	}
	late := c.now().Add(25 * time.Hour).UnixMilli()
	for _, s := range []fleet.Status{
		{Place: town, At: 1}, {Rider: "rita", Place: town, At: -1}, {Rider: "rita", Said: -1}, {Rider: "rita", Place: town, At: late}, {Rider: "rita", Said: late},
		{Rider: "rita", Place: town, At: math.MaxInt64},
	} {
		if news, err := m.Learn(s); news || !errors.Is(err, fleet.ErrStatus) {
			t.Errorf("%+v: %v, %v", s, news, err)
		}
	}
	if known, _ := m.Count(); known != 0 {
		t.Errorf("%d riders are known", known)
	}
	move(t, m, "rita", town)
	for _, radius := range []float64{0, -1, nan} {
		if near, a := m.Nearest(town, radius, 1), m.Around(town, radius); len(near) != 0 || a.Riders != 0 {
			t.Errorf("within %v m: %v, %v", radius, near, a)
		}
	}
}

// Standing still within the receiver's error is no movement. Creeping is.
func TestMoved(t *testing.T) {
	m, c := newMap(t, fleet.Options{MinMove: 50})
	move(t, m, "rita", town)
	moved := func() time.Time {
		p, _ := m.Last("rita")
		return p.Moved
	}
	if !moved().Equal(noon) {
		t.Error("the first report does not set the time of the last movement")
	}
	for i := range 20 { // to and fro within the error
		c.pass(time.Second)
		move(t, m, "rita", north(town, float64(i%2*40)))
	}
	if !moved().Equal(noon) {
		t.Error("standing counts as movement")
	}
	for i := range 6 { // ten metres at a time
		c.pass(time.Second)
		move(t, m, "rita", north(town, float64(10*i+1)))
	}
	if p, _ := m.Last("rita"); !p.Moved.Equal(noon.Add(26*time.Second)) || !p.At.Equal(p.Moved) {
		t.Errorf("creeping does not count as movement: %+v", p)
	}
}

// A Map forgets riders after the retention, and the longest silent ones when there are too many.
func TestMemoryIsBounded(t *testing.T) {
	m, c := newMap(t, fleet.Options{Retention: time.Hour, MaxRiders: 100})
	for i := range 300 {
		move(t, m, booking.RiderID(fmt.Sprint(i)), town)
		move(t, m, "rita", town) // is never silent
		c.pass(time.Millisecond)
	}
	if known, _ := m.Count(); known != 100 {
		t.Errorf("%d riders are known, want 100", known)
	}
	for id, want := range map[booking.RiderID]bool{"0": false, "200": false, "201": true, "299": true, "rita": true} {
		if _, ok := m.Last(id); ok != want {
			t.Errorf("%s is known: %v", id, ok)
		}
	}
	if p, _ := m.Last("rita"); !p.Moved.Equal(noon) {
		t.Errorf("rita was forgotten in between: %+v", p)
	}
	c.pass(time.Hour)
	if _, ok := m.Last("rita"); ok {
		t.Error("rita is known beyond the retention")
	}
	say(t, m, "somebody", true)
	if known, _ := m.Count(); known != 1 {
		t.Errorf("%d riders are known, want one", known)
	}
	if near := m.Nearest(town, 1000, 1000); len(near) != 0 {
		t.Errorf("Nearest returns %d forgotten riders", len(near))
	}
	// A forgotten rider who was offline comes back as one who has never said so.
	say(t, m, "rita", false)
	c.pass(time.Hour + 1)
	if s := move(t, m, "rita", town); s.Said != 0 || !m.Online("rita") {
		t.Errorf("the status of a forgotten rider survived: %+v", s)
	}
}

// heap returns how many bytes are in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A rider costs a few hundred bytes, however far it rides. The Map does not retain the message that
// the rider's id was part of.
func TestMapIsLean(t *testing.T) {
	const riders, most = 10_000, 700
	before := heap()
	m, _ := newMap(t, fleet.Options{})
	r := rand.New(rand.NewPCG(1, 1))
	for range 5 {
		for i := range riders {
			id := (strings.Repeat("x", 1000) + fmt.Sprintf("%026d", i))[1000:]
			move(t, m, booking.RiderID(id), booking.Place{Lat: 12 + r.Float64(), Lng: 77 + r.Float64()})
		}
	}
	each := (heap() - before) / riders
	t.Logf("%d bytes a rider", each)
	if each > most {
		t.Errorf("a rider costs %d bytes, want at most %d", each, most)
	}
	runtime.KeepAlive(m)
}

// A picture is the simplest implementation of a Map.
type picture map[booking.RiderID]*pictured

type pictured struct {
	place   booking.Place
	at      time.Time
	offline bool
	n       int // order of the first reports
}

func (p picture) free(
	at booking.Place,
	radius float64,
	now time.Time,
	busy func(booking.RiderID) bool,
) []fleet.Neighbour {
	var found []fleet.Neighbour
	for id, r := range p {
		d := at.Distance(r.place)
		if !r.at.IsZero() && now.Sub(r.at) <= time.Minute && !r.offline && !busy(id) && d <= radius {
			found = append(found, fleet.Neighbour{Rider: id, Place: r.place, Metres: d})
		}
	}
	slices.SortFunc(found, func(a, b fleet.Neighbour) int {
		return cmp.Or(cmp.Compare(a.Metres, b.Metres), cmp.Compare(p[a.Rider].n, p[b.Rider].n))
	})
	return found
}

// fast is a maximum speed that makes every report plausible.
const fast = 1e12

// After random actions of riders, the Map agrees with the picture.
func TestMapIsWhatItWasTold(t *testing.T) {
	middles := []booking.Place{town, {Lat: -17, Lng: 180}, {Lat: 90, Lng: 0}, {Lat: -90, Lng: 0}, {Lat: 0, Lng: 90}}
	for seed, middle := range middles {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		busy := func(id booking.RiderID) bool { return strings.HasSuffix(string(id), "7") }
		m, c := newMap(t, fleet.Options{Busy: busy, Retention: 5 * time.Minute, MaxSpeed: fast})
		elsewhere, _ := newMap(t, fleet.Options{Now: c.now, MaxSpeed: fast})
		p := make(picture)
		somewhere := func() booking.Place {
			lat, lng := middle.Lat+0.1*(r.Float64()-0.5), middle.Lng+0.1*(r.Float64()-0.5)
			if math.Abs(middle.Lat) == 90 {
				lat, lng = math.Copysign(90-0.05*r.Float64(), middle.Lat), 360*r.Float64()-180
			}
			if lng > 180 {
				lng -= 360
			}
			return booking.Place{Lat: max(-90, min(90, lat)), Lng: lng}
		}
		first, nearest := 0, 0
		steps := 2000
		if wait.Long() {
			steps = 6000
		}
		for range steps {
			c.pass(time.Duration(1+r.IntN(60)) * time.Millisecond)
			now := c.now()
			for id, x := range p { // in this test no rider says anything after its last position
				if now.Sub(x.at) > 5*time.Minute {
					delete(p, id)
				}
			}
			id := booking.RiderID(fmt.Sprint("rider-", r.IntN(600)))
			known := p[id]
			if known == nil {
				first++
				known = &pictured{n: first}
			}
			switch r.IntN(10) {
			case 0:
				if known.at.IsZero() || now.Sub(known.at) > 4*time.Minute {
					continue
				}
				known.offline = r.IntN(2) == 0
				say(t, m, id, !known.offline)
			case 1:
				if s, _, err := elsewhere.Report(id, fleet.Fix{Place: somewhere()}); err != nil {
					t.Fatal(err)
				} else if news, err := m.Learn(s); err != nil {
					t.Fatal(err)
				} else if news {
					known.place, known.at = s.Place, now
					p[id] = known
				}
			default:
				known.place, known.at = somewhere(), now
				p[id] = known
				move(t, m, id, known.place)
			}
			if r.IntN(20) > 0 {
				continue
			}
			at, radius, limit := somewhere(), []float64{100, 1000, 3000, 50_000}[r.IntN(4)], 1+r.IntN(30)
			want := p.free(at, radius, now, busy)
			want = want[:min(limit, len(want))]
			got := m.Nearest(at, radius, limit)
			if riders(got) != riders(want) {
				t.Fatalf("within %[2]g m of %[1]v:\n %[3]v, want\n %[4]v", at, radius, riders(got), riders(want))
			}
			for i := range got {
				if got[i].Place != want[i].Place || math.Abs(got[i].Metres-want[i].Metres) > 1e-6 {
					t.Fatalf("%+v, want %+v", got[i], want[i])
				}
			}
			nearest += len(got)
		}
		if nearest < 500 {
			t.Errorf("around %v: only %d riders found; the test proves little", middle, nearest)
		}
	}
}

// A Map is safe for concurrent reports, queries and watches.
func TestMapIsSafe(t *testing.T) {
	m, c := newMap(t, fleet.Options{MaxRiders: 40, Busy: func(id booking.RiderID) bool { return id == "7" }})
	var work sync.WaitGroup
	for w := range 4 {
		work.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range 2000 {
				id := booking.RiderID(fmt.Sprint(r.IntN(60)))
				next, stop := m.Watch(id)
				switch i % 4 {
				case 0:
					_, _ = m.SetOnline(id, r.IntN(2) == 0)
				case 1:
					_, _ = m.Learn(fleet.Status{Rider: id, Place: town, At: noon.UnixMilli() + int64(i)})
				default:
					_, _, _ = m.Report(id, fleet.Fix{Place: north(town, float64(r.IntN(500)))})
				}
				for _, n := range m.Nearest(town, 1000, 5) {
					if n.Rider == "7" {
						t.Error("Nearest returns a busy rider")
					}
				}
				m.Around(town, 1000)
				m.Where(id)
				m.Count()
				c.pass(time.Millisecond)
				stop()
				for range next { // drains the channel, which is closed
				}
			}
		})
	}
	work.Wait()
	if known, _ := m.Count(); known > 40 {
		t.Errorf("%d riders are known, want at most 40", known)
	}
}
