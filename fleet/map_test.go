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

	"github.com/golang/geo/s2"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/internal/wait"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A clock stands until it is told to go on.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// newMap returns a Map whose clock stands at noon, unless it is given another.
func newMap(t testing.TB, o fleet.Options) (*fleet.Map, *clock) {
	t.Helper()
	c := &clock{t: noon}
	if o.Now == nil {
		o.Now = c.now
	}
	m, err := fleet.NewMap(o)
	if err != nil {
		t.Fatal(err)
	}
	return m, c
}

var town = booking.Place{Lat: 12.97, Lng: 77.59}

// north returns a place that many metres north of p.
func north(p booking.Place, metres float64) booking.Place {
	return booking.Place{Lat: p.Lat + metres/111_195, Lng: p.Lng}
}

func move(t testing.TB, m *fleet.Map, id booking.RiderID, to booking.Place) fleet.Status {
	t.Helper()
	s, verdict, err := m.Move(id, fleet.Fix{Place: to})
	if err != nil || verdict != fleet.Taken {
		t.Fatalf("%s reports %v: %s %v", id, to, verdict, err)
	}
	return s
}

func say(t testing.TB, m *fleet.Map, id booking.RiderID, online bool) fleet.Status {
	t.Helper()
	s, err := m.Say(id, online)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// learn fails the test unless it is news, or none, as wanted.
func learn(t testing.TB, m *fleet.Map, s fleet.Status, want bool) {
	t.Helper()
	if news, err := m.Learn(s); err != nil || news != want {
		t.Errorf("%+v is news: %v, %v, want %v", s, news, err, want)
	}
}

func riders(ns []fleet.Neighbour) string {
	var ids []string
	for _, n := range ns {
		ids = append(ids, string(n.Rider))
	}
	return strings.Join(ids, " ")
}

func TestSettings(t *testing.T) {
	for name, o := range map[string]fleet.Options{
		"age":    {Age: -1},
		"memory": {Age: time.Hour, Memory: time.Minute},
		"step":   {Step: math.NaN()},
		"speed":  {Speed: -1},
		"most":   {Most: -1},
	} {
		if _, err := fleet.NewMap(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: %v, want something about the %s", o, err, name)
		}
	}
	if _, err := fleet.NewMap(fleet.Options{Age: 2 * time.Hour}); err != nil {
		t.Errorf("an age beyond the usual memory: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	m, c := newMap(t, fleet.Options{})
	nan := math.NaN()
	for _, p := range []booking.Place{{Lat: nan}, {Lng: nan}, {Lat: 91}, {Lat: -90.001}, {Lng: 181}, {Lat: math.Inf(1)}} {
		if _, _, err := m.Move("rita", fleet.Fix{Place: p}); !errors.Is(err, booking.ErrInvalidPlace) {
			t.Errorf("moved to %v: %v", p, err)
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
	_, _, err1 := m.Move("", fleet.Fix{Place: town})
	_, err2 := m.Say("", true)
	for _, err := range []error{err1, err2} {
		if !errors.Is(err, fleet.ErrNoRider) {
			t.Errorf("nobody: %v", err)
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

// Of all riders those are free that are online, have been heard of lately and have no ride.
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
			t.Errorf("%d are said to be free, of %d", a.Riders, len(got))
		}
	}
	move(t, m, "far", north(town, 3500))
	move(t, m, "two", north(town, 200))
	move(t, m, "three", north(town, -900))
	move(t, m, "one", north(town, 100))
	free("one two three")
	if near := m.Nearest(town, 3000, 2); riders(near) != "one two" || math.Abs(near[1].Metres-200) > 1 || near[1].Place != north(town, 200) {
		t.Errorf("the two nearest are %+v", near)
	}

	say(t, m, "one", false)
	free("two three")
	move(t, m, "one", town) // and stays offline
	free("two three")
	if m.Online("one") || !m.Online("two") || m.Online("nobody") {
		t.Error("wrong about who is online")
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
		t.Error("it is known where a rider is who has not been heard of")
	}
	if p, ok := m.Last("one"); !ok || p.Place != town || !p.At.Equal(noon) {
		t.Errorf("last heard of at %+v, %v", p, ok)
	}
	move(t, m, "two", north(town, 200))
	free("two")
	say(t, m, "three", true) // which says nothing of where
	free("two")
	if known, online := m.Count(); known != 4 || online != 1 {
		t.Errorf("%d riders, %d online, want 4 and 1", known, online)
	}
}

func TestSayingOnlineIsNoPosition(t *testing.T) {
	m, _ := newMap(t, fleet.Options{})
	say(t, m, "rita", true)
	if _, ok := m.Last("rita"); ok || m.Online("rita") {
		t.Error("a rider is somewhere who has not said where")
	}
}

// A report that comes late, or twice, changes nothing: neither the place nor its age.
func TestLateAndRepeatedReports(t *testing.T) {
	here, c := newMap(t, fleet.Options{})
	there, _ := newMap(t, fleet.Options{})
	first := move(t, there, "rita", town)
	second := move(t, there, "rita", north(town, 1000)) // in the same millisecond
	learn(t, here, second, true)
	c.pass(10 * time.Second)
	learn(t, here, first, false)
	learn(t, here, second, false)
	p, _ := here.Last("rita")
	if p.Place != second.Place || !p.At.Equal(noon) {
		t.Errorf("a late report has changed it to %+v", p)
	}
	on, off := say(t, there, "rita", true), say(t, there, "rita", false)
	learn(t, here, off, true)
	learn(t, here, on, false)
	if here.Online("rita") {
		t.Error("an earlier word has put a rider online")
	}
	third := move(t, there, "rita", town)
	if third.Online || third.Said != off.Said {
		t.Errorf("a report does not repeat what was said: %+v", third)
	}
}

// Clocks that differ put nobody offline, and order what is told of a rider as it happened as long as everybody has heard it.
func TestClocksThatDiffer(t *testing.T) {
	for _, ahead := range []time.Duration{-3 * time.Hour, -5 * time.Second, 5 * time.Second, 3 * time.Hour} {
		here, c := newMap(t, fleet.Options{})
		there, other := newMap(t, fleet.Options{})
		other.pass(ahead)
		for i := range 10 {
			from, to := here, there
			if i%2 == 0 {
				from, to = there, here
			}
			place := north(town, float64(100*i))
			learn(t, to, move(t, from, "rita", place), true)
			learn(t, to, say(t, from, "rita", i%3 > 0), true)
			c.pass(time.Second)
			other.pass(time.Second)
			for name, m := range map[string]*fleet.Map{"here": here, "there": there} {
				if p, ok := m.Where("rita"); !ok || p.Place != place || m.Online("rita") != (i%3 > 0) {
					t.Fatalf("%s ahead, step %d, %s: %+v, %v, online %v", ahead, i, name, p, ok, m.Online("rita"))
				}
			}
		}
		// Another one has just started, so it has heard of nothing, and all reports come to it. What it says counts at once, or as soon as what was known
		// is too old to count.
		young, third := newMap(t, fleet.Options{})
		third.t = c.now()
		s := move(t, young, "rita", town)
		if news, _ := there.Learn(s); news != (ahead <= 0) {
			t.Errorf("%s ahead: news is %v", ahead, news)
		}
		other.pass(61 * time.Second)
		third.pass(61 * time.Second)
		learn(t, there, move(t, young, "rita", north(town, 7)), true)
		if p, ok := there.Where("rita"); !ok || p.Place != north(town, 7) {
			t.Errorf("%s ahead: a rider is lost to a clock: %+v, %v", ahead, p, ok)
		}
	}
}

// An instance that has just started does not know that a rider is offline, and does not make the others believe otherwise.
func TestIgnoranceIsNoNews(t *testing.T) {
	old, c := newMap(t, fleet.Options{})
	say(t, old, "rita", false)
	c.pass(time.Second)
	young, _ := newMap(t, fleet.Options{Now: c.now})
	s := move(t, young, "rita", town)
	if s.Said != 0 {
		t.Errorf("it says what nobody has said: %+v", s)
	}
	learn(t, old, s, true)
	if old.Online("rita") {
		t.Error("a rider was put online by an instance that knew nothing")
	}
	learn(t, young, move(t, old, "rita", town), true)
	if young.Online("rita") {
		t.Error("the new instance does not learn that the rider is offline")
	}
}

// A rider that stands still, as far as satellites can tell, has not moved; one that creeps has.
func TestMoved(t *testing.T) {
	m, c := newMap(t, fleet.Options{Step: 50})
	move(t, m, "rita", town)
	moved := func() time.Time {
		p, _ := m.Last("rita")
		return p.Moved
	}
	if !moved().Equal(noon) {
		t.Error("the first report is when it was seen to move last")
	}
	for i := range 20 { // around a place
		c.pass(time.Second)
		move(t, m, "rita", north(town, float64(i%2*40)))
	}
	if !moved().Equal(noon) {
		t.Error("standing was taken for moving")
	}
	for i := range 6 { // ten metres at a time
		c.pass(time.Second)
		move(t, m, "rita", north(town, float64(10*i+1)))
	}
	if p, _ := m.Last("rita"); !p.Moved.Equal(noon.Add(26*time.Second)) || !p.At.Equal(p.Moved) {
		t.Errorf("creeping was taken for standing: %+v", p)
	}
}

// What was not heard of for long is forgotten, and of too many those that were silent longest.
func TestMemoryIsBounded(t *testing.T) {
	m, c := newMap(t, fleet.Options{Memory: time.Hour, Most: 100})
	for i := range 300 {
		move(t, m, booking.RiderID(fmt.Sprint(i)), town)
		move(t, m, "rita", town) // who is never silent
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
		t.Errorf("rita was forgotten meanwhile: %+v", p)
	}
	c.pass(time.Hour)
	if _, ok := m.Last("rita"); ok {
		t.Error("rita is remembered too long")
	}
	say(t, m, "somebody", true)
	if known, _ := m.Count(); known != 1 {
		t.Errorf("%d riders are known, want one", known)
	}
	if near := m.Nearest(town, 1000, 1000); len(near) != 0 {
		t.Errorf("forgotten riders are near: %d", len(near))
	}
	// A rider who was offline and was forgotten comes as one who has never said anything.
	say(t, m, "rita", false)
	c.pass(time.Hour + 1)
	if s := move(t, m, "rita", town); s.Said != 0 || !m.Online("rita") {
		t.Errorf("something is left of who was forgotten: %+v", s)
	}
}

// heap returns how many bytes are in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A rider costs a few hundred bytes, however far it gets, and does not keep the messages in memory that its id was cut from.
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
		t.Errorf("a rider takes %d bytes, want at most %d", each, most)
	}
	runtime.KeepAlive(m)
}

// Whoever asks from however many places finds out no more than in which area a rider is.
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
			t.Fatalf("from %v within %g m it can be told where in the area somebody is: %v, %v", p, radius, a, b)
		}
		near += a.Riders
	}
	if near < 1000 || near > 4000 {
		t.Errorf("near in %d of 5000 questions: this proves little", near)
	}
	for i := range 2 * fleet.MaxRiders {
		move(t, one, booking.RiderID(fmt.Sprint(i)), town)
	}
	if a := one.Around(town, 1000); a.Riders != fleet.MaxRiders {
		t.Errorf("counted to %d", a.Riders)
	}
}

// A picture is what a Map should be, made in the simplest way.
type picture map[booking.RiderID]*pictured

type pictured struct {
	place   booking.Place
	at      time.Time
	offline bool
	n       int // how long ago it was first heard of
}

func (p picture) free(at booking.Place, radius float64, now time.Time, busy func(booking.RiderID) bool) []fleet.Neighbour {
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

// fast is a speed at which nothing is too far.
const fast = 1e12

// Whatever riders do, the Map says what asking each of them would.
func TestMapIsWhatItWasTold(t *testing.T) {
	middles := []booking.Place{town, {Lat: -17, Lng: 180}, {Lat: 90, Lng: 0}, {Lat: -90, Lng: 0}, {Lat: 0, Lng: 90}}
	for seed, middle := range middles {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		busy := func(id booking.RiderID) bool { return strings.HasSuffix(string(id), "7") }
		m, c := newMap(t, fleet.Options{Busy: busy, Memory: 5 * time.Minute, Speed: fast})
		elsewhere, _ := newMap(t, fleet.Options{Now: c.now, Speed: fast})
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
			for id, x := range p { // its place goes with its last word; words are as new as places here, or newer
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
				if s, _, err := elsewhere.Move(id, fleet.Fix{Place: somewhere()}); err != nil {
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
				t.Fatalf("around %v: near within %g m are\n %v, want\n %v", at, radius, riders(got), riders(want))
			}
			for i := range got {
				if got[i].Place != want[i].Place || math.Abs(got[i].Metres-want[i].Metres) > 1e-6 {
					t.Fatalf("%+v, want %+v", got[i], want[i])
				}
			}
			nearest += len(got)
		}
		if nearest < 500 {
			t.Errorf("around %v: only %d were near", middle, nearest)
		}
	}
}

// Many report, ask and watch at once.
func TestMapIsSafe(t *testing.T) {
	m, c := newMap(t, fleet.Options{Most: 40, Busy: func(id booking.RiderID) bool { return id == "7" }})
	var work sync.WaitGroup
	for w := range 4 {
		work.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range 2000 {
				id := booking.RiderID(fmt.Sprint(r.IntN(60)))
				next, stop := m.Watch(id)
				switch i % 4 {
				case 0:
					_, _ = m.Say(id, r.IntN(2) == 0)
				case 1:
					_, _ = m.Learn(fleet.Status{Rider: id, Place: town, At: noon.UnixMilli() + int64(i)})
				default:
					_, _, _ = m.Move(id, fleet.Fix{Place: north(town, float64(r.IntN(500)))})
				}
				for _, n := range m.Nearest(town, 1000, 5) {
					if n.Rider == "7" {
						t.Error("a busy rider is free")
					}
				}
				m.Around(town, 1000)
				m.Where(id)
				m.Count()
				c.pass(time.Millisecond)
				stop()
				for range next { // what was left is read, and then it is closed
				}
			}
		})
	}
	work.Wait()
	if known, _ := m.Count(); known > 40 {
		t.Errorf("%d riders are known", known)
	}
}

// Who is here is whoever has reported here last, and who reports elsewhere is not any more.
func TestNearestHere(t *testing.T) {
	m, err := fleet.NewMap(fleet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	at := booking.Place{Lat: 12.97, Lng: 77.59}
	here := func() (ids []booking.RiderID) {
		for _, n := range m.NearestHere(at, 1000, 10) {
			ids = append(ids, n.Rider)
		}
		return ids
	}
	mine, _, err := m.Move("mine", fleet.Fix{Place: at})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Learn(fleet.Status{Rider: "theirs", Place: at, At: mine.At, Online: true}); err != nil {
		t.Fatal(err)
	}
	if got := here(); len(got) != 1 || got[0] != "mine" || len(m.Nearest(at, 1000, 10)) != 2 {
		t.Errorf("here are %v", got)
	}
	if _, err := m.Learn(mine); err != nil { // its own word comes back
		t.Fatal(err)
	}
	if got := here(); len(got) != 1 {
		t.Errorf("after its own word here are %v", got)
	}
	mine.At++
	if _, err := m.Learn(mine); err != nil {
		t.Fatal(err)
	}
	if got := here(); len(got) != 0 {
		t.Errorf("here are %v", got)
	}
	if _, _, err := m.Move("theirs", fleet.Fix{Place: at}); err != nil {
		t.Fatal(err)
	}
	if got := here(); len(got) != 1 || got[0] != "theirs" {
		t.Errorf("here are %v", got)
	}
}

// What is told again is as old as it is: who says to be online an hour after its last report, or hears of it for the first
// time then, has no new position by that.
func TestAnOldPositionStaysOld(t *testing.T) {
	for _, c := range []struct {
		age   time.Duration
		known bool // whether it is known where the rider is, once it has said to be online
	}{{0, true}, {59 * time.Second, true}, {61 * time.Second, false}, {50 * time.Minute, false}} {
		here, clock := newMap(t, fleet.Options{})
		there, thereClock := newMap(t, fleet.Options{}) // has just been started
		move(t, here, "rita", town)
		clock.pass(c.age)
		learn(t, there, say(t, here, "rita", true), true)
		for name, m := range map[string]*fleet.Map{"here": here, "there": there} {
			if _, known := m.Where("rita"); known != c.known || m.Online("rita") != c.known {
				t.Errorf("%s, after %s: known %v, online %v, want %v", name, c.age, known, m.Online("rita"), c.known)
			}
		}
		thereClock.pass(61*time.Second - min(c.age, time.Minute))
		if _, known := there.Where("rita"); known {
			t.Errorf("told when it was %s old, it is believed beyond its age", c.age)
		}
	}
}
