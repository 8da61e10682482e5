package fleet

import (
	"container/list"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/golang/geo/s2"

	"pillion/booking"
	"pillion/geo"
)

// Options are a Map's settings. All may be left out.
type Options struct {
	Age    time.Duration // how old a position may be until its rider counts as offline; default: 60 s
	Memory time.Duration // after how long without a word a rider is forgotten, at least Age; default: 1 h, or Age where that is more
	Step   float64       // how far a rider must get to have moved, in metres; what is less is the satellites' error; default: 50
	Most   int           // how many riders are remembered; those that have been silent longest give way; default: 200,000

	// Busy reports whether a rider has a ride. It is called while the Map is locked, so it must not call the Map. Default: nobody is busy.
	Busy func(booking.RiderID) bool
	Now  func() time.Time // default: time.Now
}

// A Map knows where riders are. It is safe for concurrent use, has no goroutines, and needs not be closed.
type Map struct {
	age, memory time.Duration
	step        float64
	most        int
	busy        func(booking.RiderID) bool
	now         func() time.Time

	mu       sync.RWMutex
	riders   map[booking.RiderID]*rider
	silent   *list.List // all riders, those that have been silent longest at the front
	places   geo.Index[*rider]
	areas    geo.Index[*rider] // by the middle of the area that each is in
	n        uint64
	watchers map[booking.RiderID][]*watcher
}

type rider struct {
	id    booking.RiderID
	n     uint64        // its own in the indexes
	heard time.Time     // when there was news of it
	place *list.Element // in silent

	Position
	stamp  int64    // Status.At; 0: there is no position
	here   bool     // whether it was reported to this Map
	point  s2.Point // of Position
	area   s2.Point // the middle of its area
	anchor s2.Point // where it was when it had last really moved

	offline bool  // says the rider
	said    int64 // Status.Said
}

// areaLevel is that of cells of s2 which are about 300 metres wide.
const areaLevel = 15

// NewMap returns an empty Map.
func NewMap(o Options) (*Map, error) {
	var wrong []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Errorf("new map: "+format, args...))
		}
	}
	refuse(o.Age < 0, "the age must not be negative, as %s is", o.Age)
	if o.Age == 0 {
		o.Age = time.Minute
	}
	if o.Memory == 0 {
		o.Memory = max(time.Hour, o.Age)
	}
	refuse(o.Memory < o.Age, "the memory of %s must not be less than the age of %s", o.Memory, o.Age)
	if o.Step == 0 {
		o.Step = 50
	}
	refuse(!(o.Step > 0), "the step must be more than 0 metres, not %g", o.Step)
	if o.Most == 0 {
		o.Most = 200_000
	}
	refuse(o.Most < 0, "the most riders must be more than 0, not %d", o.Most)
	if wrong != nil {
		return nil, errors.Join(wrong...)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Map{
		age: o.Age, memory: o.Memory, step: o.Step, most: o.Most, busy: o.Busy, now: o.Now,
		riders: make(map[booking.RiderID]*rider), silent: list.New(), watchers: make(map[booking.RiderID][]*watcher),
	}, nil
}

// Move says that a rider has reported where it is, here and now, and returns what is known of it then. It puts no rider online who has said to be
// offline. Errors: ErrNoRider, booking.ErrInvalidPlace.
func (m *Map) Move(id booking.RiderID, to booking.Place) (Status, error) {
	if id == "" {
		return Status{}, ErrNoRider
	}
	if err := to.Valid(); err != nil {
		return Status{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	r := m.heard(id, now)
	m.put(r, to, max(r.stamp+1, now.UnixMilli()), now)
	r.here = true
	return r.status(now), nil
}

// Say says that a rider has gone online or offline, here and now, and returns what is known of it then. Errors: ErrNoRider.
func (m *Map) Say(id booking.RiderID, online bool) (Status, error) {
	if id == "" {
		return Status{}, ErrNoRider
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	r := m.heard(id, now)
	r.offline, r.said = !online, max(r.said+1, now.UnixMilli())
	return r.status(now), nil
}

// wrongClock is how far another instance's clock may be ahead for what it tells to be believed.
const wrongClock = 24 * time.Hour

// Learn takes what another instance has told, and reports whether it was news. What is not later than what is known changes nothing, unless it is of
// a rider whose position is too old to count: whatever the clocks say, whoever has heard from it since knows better. Errors: ErrStatus.
func (m *Map) Learn(s Status) (news bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if !s.sane(now) {
		return false, ErrStatus
	}
	r, known := m.known(s.Rider, now)
	placed := s.At != 0 && (!known || s.At > r.stamp || s.At != r.stamp && now.Sub(r.At) > m.age)
	said := s.Said != 0 && (!known || s.Said > r.said)
	if !placed && !said {
		return false, nil
	}
	r = m.heard(s.Rider, now)
	if placed {
		m.put(r, s.Place, s.At, now.Add(-s.Age))
		r.here = false
	}
	if said {
		r.offline, r.said = !s.Online, s.Said
	}
	return true, nil
}

// sane reports whether s can be true at all.
func (s Status) sane(now time.Time) bool {
	latest := now.Add(wrongClock).UnixMilli()
	return s.Rider != "" && s.Age >= 0 && s.At >= 0 && s.At <= latest && s.Said >= 0 && s.Said <= latest && (s.At == 0 || s.Place.Valid() == nil)
}

func (r *rider) status(now time.Time) Status {
	s := Status{Rider: r.id, Place: r.Place, At: r.stamp, Online: !r.offline, Said: r.said}
	if r.stamp != 0 {
		s.Age = max(0, now.Sub(r.At))
	}
	return s
}

// known returns the rider, and whether it is remembered.
func (m *Map) known(id booking.RiderID, now time.Time) (*rider, bool) {
	r, ok := m.riders[id]
	if !ok || now.Sub(r.heard) > m.memory { // it is forgotten when there is news of anybody
		return nil, false
	}
	return r, true
}

// heard returns the rider, of whom there is news. It forgets others where it is time to.
func (m *Map) heard(id booking.RiderID, now time.Time) *rider {
	r, known := m.known(id, now)
	if !known {
		if old, ok := m.riders[id]; ok {
			m.forget(old)
		}
		m.n++
		r = &rider{id: booking.RiderID(strings.Clone(string(id))), n: m.n} // else it holds on to the message that it was cut from
		m.riders[r.id] = r
		r.place = m.silent.PushBack(r)
	}
	r.heard = now
	m.silent.MoveToBack(r.place)
	for first := m.silent.Front(); first != nil; first = m.silent.Front() {
		oldest, _ := first.Value.(*rider)
		if m.silent.Len() <= m.most && now.Sub(oldest.heard) <= m.memory {
			break
		}
		m.forget(oldest)
	}
	return r
}

func (m *Map) forget(r *rider) {
	delete(m.riders, r.id)
	m.silent.Remove(r.place)
	if r.stamp != 0 {
		m.places.Remove(r.point, r.n)
		m.areas.Remove(r.area, r.n)
	}
}

// put moves a rider, who was there at a time.
func (m *Map) put(r *rider, to booking.Place, stamp int64, at time.Time) {
	point := to.Point()
	first := r.stamp == 0
	if first || point != r.point {
		if !first {
			m.places.Remove(r.point, r.n)
		}
		m.places.Add(point, r.n, r)
	}
	if area := areaOf(point); first || area != r.area {
		if !first {
			m.areas.Remove(r.area, r.n)
		}
		m.areas.Add(area, r.n, r)
		r.area = area
	}
	if first || geo.Metres(point.Distance(r.anchor)) > m.step {
		r.anchor, r.Moved = point, at
	}
	r.point, r.Place, r.At, r.stamp = point, to, at, stamp
	m.tell(r)
}

func areaOf(p s2.Point) s2.Point { return s2.CellFromPoint(p).ID().Parent(areaLevel).Point() }

// Last returns the last position of a rider, however old it is, and whether there is one.
func (m *Map) Last(id booking.RiderID) (Position, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r, ok := m.known(id, m.now())
	if !ok || r.stamp == 0 {
		return Position{}, false
	}
	return r.Position, true
}

// Where returns where a rider is, and false where that is not known: there is no position, or it is too old.
func (m *Map) Where(id booking.RiderID) (Position, bool) {
	p, ok := m.Last(id)
	if !ok || m.now().Sub(p.At) > m.age {
		return Position{}, false
	}
	return p, true
}

// MovedSince reports whether a rider has really moved after t: by more than the Step, in however many reports. Of a rider that was first heard
// of after t it is said that it has: where it was before is not known here.
func (m *Map) MovedSince(id booking.RiderID, t time.Time) bool {
	p, ok := m.Last(id)
	return ok && p.Moved.After(t)
}

// Online reports whether a rider is online: its position is not too old, and it has not said to be offline.
func (m *Map) Online(id booking.RiderID) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	now := m.now()
	r, ok := m.known(id, now)
	return ok && m.online(r, now)
}

func (m *Map) online(r *rider, now time.Time) bool {
	return r.stamp != 0 && !r.offline && now.Sub(r.At) <= m.age
}

// free returns whether a rider is online and has no ride.
func (m *Map) free() func(*rider) bool {
	now := m.now()
	return func(r *rider) bool { return m.online(r, now) && (m.busy == nil || !m.busy(r.id)) }
}

// Nearest returns up to limit of the free riders within radius metres of a place, nearest first: those that are online and not busy. Around what is no
// place, and within what is no radius, it finds none.
func (m *Map) Nearest(at booking.Place, radius float64, limit int) []Neighbour {
	return m.nearest(at, radius, limit, func(*rider) bool { return true })
}

// NearestHere is Nearest among those whose last position was reported to this Map, and not learnt from another instance.
func (m *Map) NearestHere(at booking.Place, radius float64, limit int) []Neighbour {
	return m.nearest(at, radius, limit, func(r *rider) bool { return r.here })
}

func (m *Map) nearest(at booking.Place, radius float64, limit int, among func(*rider) bool) []Neighbour {
	if at.Valid() != nil {
		return nil
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	free := m.free()
	found := m.places.Nearest(at.Point(), radius, limit, func(r *rider) bool { return among(r) && free(r) })
	near := make([]Neighbour, len(found))
	for i, f := range found {
		near[i] = Neighbour{f.Thing.id, f.Thing.Place, f.Metres}
	}
	return near
}

// Around says how many free riders there are within radius metres of a place, and how far the nearest is. It takes each rider for being in the middle of
// an area about 300 metres wide that it is in, so that nobody finds out more than that by asking from many places.
func (m *Map) Around(at booking.Place, radius float64) Availability {
	if at.Valid() != nil {
		return Availability{}
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	found := m.areas.Nearest(at.Point(), radius, MaxRiders, m.free())
	if len(found) == 0 {
		return Availability{}
	}
	return Availability{Riders: len(found), Metres: found[0].Metres}
}

// Count returns how many riders are remembered, and how many of them are online.
func (m *Map) Count() (known, online int) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	now := m.now()
	for _, r := range m.riders {
		if m.online(r, now) {
			online++
		}
	}
	return len(m.riders), online
}
