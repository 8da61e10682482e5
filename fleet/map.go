package fleet

import (
	"container/list"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/golang/geo/s2"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/internal/geo"
)

// Options are a Map's settings. All may be left out.
type Options struct {
	Age    time.Duration // how old a position may be until its rider counts as offline; default: 60 s
	Memory time.Duration // after how long without a word a rider is forgotten, at least Age; default: 1 h, or Age where that is more
	Step   float64       // how far a rider must get to have moved, in metres; what is less is the satellites' error; default: 50
	Speed  float64       // what no rider exceeds, in metres a second; default: 40
	Most   int           // how many riders are remembered; those that have been silent longest give way; default: 200,000

	// Busy reports whether a rider has a ride. It is called while the Map is locked, so it must not call the Map. Default: nobody is busy.
	Busy func(booking.RiderID) bool
	// Heading returns where a rider is to come. It is called as Busy is. Default: nobody is on the
	// way.
	Heading func(booking.RiderID) (h board.Heading, ok bool)
	Now     func() time.Time // default: time.Now
}

// A Map knows where riders are. It is safe for concurrent use, has no goroutines, and needs not be closed.
type Map struct {
	age, memory time.Duration
	step, speed float64
	most        int
	busy        func(booking.RiderID) bool
	heading     func(booking.RiderID) (board.Heading, bool)
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

	moved  time.Time // Position.Moved
	stamp  int64     // Status.At; 0: there is no position
	here   bool      // whether it was reported to this Map
	last   sighting  // where it is
	proven bool      // whether last follows from the one before
	told   sighting  // the last that watchers were told: last, or one that last contradicts
	rival  *rival    // what contradicts a proven last; nil: nothing does
	area   s2.Point  // the middle of its area
	anchor s2.Point  // where it was when it had last really moved
	way    *way      // nil: it is on the way to no pickup

	offline bool  // says the rider
	said    int64 // Status.Said
}

// A sighting is where and when a rider was seen.
type sighting struct {
	place booking.Place
	point s2.Point
	at    time.Time // zero: never
	error float64   // in metres; 0: it is not known
}

// A rival is the newest of some reports that confirm each other and contradict what is known.
type rival struct {
	sighting
	since time.Time // of the first of them
}

// A way is how a rider comes nearer to a pickup.
type way struct {
	ride  uint64
	begun time.Time
	first float64   // metres to the pickup in the beginning
	best  float64   // the least at which it has stayed since then
	at    time.Time // when it came there

	since   time.Time // since when it has been seen nearer than best; zero: it is not
	nearest float64   // and how near at least, all that time
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
	if o.Speed == 0 {
		o.Speed = 40
	}
	refuse(!(o.Speed > 0), "the speed must be more than 0 metres a second, not %g", o.Speed)
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
		age: o.Age, memory: o.Memory, step: o.Step, speed: o.Speed, most: o.Most, busy: o.Busy, heading: o.Heading, now: o.Now,
		riders: make(map[booking.RiderID]*rider), silent: list.New(), watchers: make(map[booking.RiderID][]*watcher),
	}, nil
}

// Move says that a rider has reported to this Map where it was, and returns what is known of it
// then, and what was made of the report. It puts no rider online who has said to be offline.
//
// Reports are ordered by their own time. One is believed if a bike gets there from where the rider
// was. One that contradicts what is known is believed if nothing has confirmed that, so that a
// wrong first report shuts out no right ones. Where other reports have confirmed it, a
// contradiction is a Leap until the reports that contradict it have confirmed each other for half a
// minute, or until what is known is too old to count and a bike could have got there in that time.
// Watchers are told, and progress is counted, of what another report confirms; and watchers of the
// first one, which contradicts nothing.
//
// Errors: ErrNoRider, and those of [Fix.Valid].
func (m *Map) Move(id booking.RiderID, to Fix) (Status, Verdict, error) {
	now := m.now()
	if id == "" {
		return Status{}, "", ErrNoRider
	}
	if err := to.Valid(now); err != nil {
		return Status{}, "", err
	}
	seen := sighting{to.Place, to.Point(), to.At, to.Accuracy}
	if to.At.IsZero() || to.At.After(now) {
		seen.at = now
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.heard(id, now)
	var verdict Verdict
	switch {
	case to.Accuracy > Coarsest:
		verdict = Coarse
	case r.stamp != 0 && !to.At.IsZero() && !seen.at.After(r.last.at):
		verdict = Late
	case !m.believes(r, seen):
		verdict = Leap
	default:
		m.put(r, seen, max(r.stamp+1, now.UnixMilli()))
		r.here = true
	}
	return r.status(now), verdict, nil
}

// Valid returns why a fix that comes at a time cannot be one, or nil. Errors:
// booking.ErrInvalidPlace, ErrNullIsland, ErrFixTime, ErrAccuracy.
func (f Fix) Valid(now time.Time) error {
	switch {
	case f.Place.Valid() != nil:
		return f.Place.Valid()
	case isNullIsland(f.Place):
		return ErrNullIsland
	case !f.At.IsZero() && (f.At.After(now.Add(fixSkew)) || f.At.Before(now.Add(-FixAge))):
		return ErrFixTime
	case !(f.Accuracy >= 0 && f.Accuracy <= math.MaxFloat64):
		return ErrAccuracy
	}
	return nil
}

func isNullIsland(p booking.Place) bool {
	return math.Abs(p.Lat) < nowhere && math.Abs(p.Lng) < nowhere
}

// believes reports whether a report says where the rider is. One that contradicts a proven track is
// kept for the next to confirm.
func (m *Map) believes(r *rider, s sighting) bool {
	if r.stamp == 0 || !r.proven || m.follows(r.last, s, doubt) {
		return true
	}
	silent := s.at.Sub(r.last.at)
	if silent > max(m.age, doubt) && m.follows(r.last, s, silent) {
		return true
	}
	since := s.at
	if r.rival != nil && m.follows(r.rival.sighting, s, doubt) {
		since = r.rival.since
	}
	r.rival = &rival{s, since}
	return s.at.Sub(since) >= doubt
}

// follows reports whether a bike gets from one sighting to a later one, in the time between them
// and no more than most. What is farther apart in time says little about each other.
func (m *Map) follows(from, to sighting, most time.Duration) bool {
	if from.at.IsZero() {
		return false
	}
	time := min(max(0, to.at.Sub(from.at)), most)
	slack := min(max(usualError, from.error+to.error), mostError)
	return geo.Metres(from.point.Distance(to.point)) <= m.speed*time.Seconds()+slack
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

// HasSaid reports whether it is known what a rider has said last.
func (m *Map) HasSaid(id booking.RiderID) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r, ok := m.known(id, m.now())
	return ok && r.said != 0
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
	seen := sighting{s.Place, s.Place.Point(), now.Add(-s.Age), s.Accuracy}
	placed := s.At != 0 && !known
	if s.At != 0 && known {
		placed = s.At > r.stamp && !seen.at.Before(r.last.at) || s.At != r.stamp && now.Sub(r.last.at) > m.age
	}
	said := s.Said != 0 && (!known || s.Said > r.said)
	if !placed && !said {
		return false, nil
	}
	r = m.heard(s.Rider, now)
	if placed {
		m.put(r, seen, s.At)
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
	if s.Rider == "" || s.At < 0 || s.At > latest || s.Said < 0 || s.Said > latest {
		return false
	}
	if s.At == 0 {
		return true
	}
	return s.Place.Valid() == nil && !isNullIsland(s.Place) &&
		s.Age >= 0 && s.Age <= wrongClock && s.Accuracy >= 0 && s.Accuracy <= Coarsest
}

func (r *rider) status(now time.Time) Status {
	s := Status{Rider: r.id, Online: !r.offline, Said: r.said}
	if r.stamp != 0 {
		s.Place, s.At, s.Age, s.Accuracy = r.last.place, r.stamp, max(0, now.Sub(r.last.at)), r.last.error
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
		m.places.Remove(r.last.point, r.n)
		m.areas.Remove(r.area, r.n)
	}
}

// put moves a rider, and tells its watchers unless that contradicts what they were told.
func (m *Map) put(r *rider, to sighting, stamp int64) {
	first := r.stamp == 0
	if first || to.point != r.last.point {
		if !first {
			m.places.Remove(r.last.point, r.n)
		}
		m.places.Add(to.point, r.n, r)
	}
	if area := areaOf(to.point); first || area != r.area {
		if !first {
			m.areas.Remove(r.area, r.n)
		}
		m.areas.Add(area, r.n, r)
		r.area = area
	}
	r.proven = !first && (m.follows(r.last, to, doubt) || m.follows(r.told, to, doubt) ||
		r.rival != nil && m.follows(r.rival.sighting, to, doubt))
	r.last, r.stamp, r.rival = to, stamp, nil
	if first || r.proven && geo.Metres(to.point.Distance(r.anchor)) > m.step {
		r.anchor, r.moved = to.point, to.at
	}
	if first || r.proven {
		r.told = to
		m.tell(r)
	}
	if r.proven {
		m.approach(r)
	}
}

// tellable reports whether watchers are told where a rider is: not if that is too far from where it
// is to come for anybody to wait for it.
func (m *Map) tellable(r *rider) bool {
	if m.heading == nil {
		return true
	}
	to, ok := m.heading(r.id)
	return !ok || geo.Metres(r.told.point.Distance(to.Pickup.Point())) <= farthest
}

// approach notes how near a rider is to its pickup. What is nearer counts once it has been so for
// half a minute, so that a receiver's error is no approach.
func (m *Map) approach(r *rider) {
	if m.heading == nil {
		return
	}
	to, ok := m.heading(r.id)
	if !ok {
		r.way = nil
		return
	}
	if r.last.at.Before(to.Since) {
		return // it was on its way to somewhere else
	}
	metres := geo.Metres(r.last.point.Distance(to.Pickup.Point()))
	w := r.way
	if w == nil || w.ride != to.Seq {
		r.way = &way{ride: to.Seq, begun: r.last.at, first: metres, best: metres}
		return
	}
	switch at := r.last.at; {
	case at.Sub(w.begun) < doubt: // or an error in the beginning would be an approach when it ends
		w.first = min(w.first, metres)
		w.best = w.first
	case metres > w.best-m.step:
		w.since = time.Time{}
	case w.since.IsZero():
		w.since, w.nearest = at, metres
	default:
		w.nearest = max(w.nearest, metres)
		if at.Sub(w.since) >= doubt {
			w.best, w.at, w.since = w.nearest, at, time.Time{}
		}
	}
}

// Approach returns how the rider of a booking, which it has accepted, has come nearer to the
// pickup, or where there is none when it has last moved.
func (m *Map) Approach(b booking.Booking) booking.Approach {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r, ok := m.known(b.Rider, m.now())
	switch {
	case !ok:
		return booking.Approach{}
	case b.Pickup == nil:
		return booking.Approach{At: r.moved}
	case r.way == nil || r.way.ride != b.Seq:
		return booking.Approach{}
	}
	return booking.Approach{At: r.way.at, Metres: r.way.first - r.way.best}
}

func areaOf(p s2.Point) s2.Point { return s2.CellFromPoint(p).ID().Parent(areaLevel).Point() }

func (r *rider) position(s sighting) Position { return Position{s.place, s.at, r.moved} }

// Last returns the last position of a rider, however old it is, and whether there is one.
func (m *Map) Last(id booking.RiderID) (Position, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r, ok := m.known(id, m.now())
	if !ok || r.stamp == 0 {
		return Position{}, false
	}
	return r.position(r.last), true
}

// Where returns where a rider is, and false where that is not known: there is no position, or it is too old.
func (m *Map) Where(id booking.RiderID) (Position, bool) {
	p, ok := m.Last(id)
	if !ok || m.now().Sub(p.At) > m.age {
		return Position{}, false
	}
	return p, true
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
	return r.stamp != 0 && !r.offline && now.Sub(r.last.at) <= m.age
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
		near[i] = Neighbour{f.Thing.id, f.Thing.last.place, f.Metres}
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
