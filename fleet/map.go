package fleet

import (
	"cmp"
	"container/list"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/golang/geo/s2"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/geo"
)

// Options are a Map's settings. All are optional.
type Options struct {
	MaxAge time.Duration // age beyond which a position counts as offline; default: 60 s
	// silence after which a rider is forgotten; default: 1 h, at least MaxAge
	Retention time.Duration
	MinMove   float64 // distance that counts as movement, in metres; default: 50
	MaxSpeed  float64 // speed that no rider exceeds, in metres a second; default: 40
	MaxRiders int     // riders remembered; the longest silent give way; default: 200,000

	// Busy reports whether a rider has a ride. The Map calls it while it is locked, so it must not
	// call the Map. Default: nobody is busy.
	Busy func(booking.RiderID) bool
	// Heading returns the pickup that a rider is on the way to. The rules of Busy apply. Default:
	// nobody is on the way.
	Heading func(booking.RiderID) (h booking.Heading, ok bool)
	Now     func() time.Time // default: time.Now
}

// A Map knows where riders are. It is safe for concurrent use, runs no goroutines, and needs no
// closing.
type Map struct {
	options Options

	mu         sync.RWMutex
	riders     map[booking.RiderID]*rider
	bySilence  *list.List // all riders, the longest silent at the front
	byPosition geo.Index[*rider]
	byArea     geo.Index[*rider] // by the middle of each rider's area
	lastNumber uint64
	watchers   map[booking.RiderID][]*watcher
}

type rider struct {
	id      booking.RiderID
	number  uint64        // identifies the rider in the indexes
	heard   time.Time     // when the last news of the rider came
	element *list.Element // in Map.bySilence

	version   int64    // Status.At; 0: there is no position
	local     bool     // whether the position was reported to this Map
	last      sighting // the position
	confirmed bool     // whether another sighting confirms last
	// the last that watchers were told: last, or one that last contradicts
	published     sighting
	contradiction *contradiction // of a confirmed last; nil: there is none
	area          s2.Point       // the middle of the area of last
	anchor        s2.Point       // where the rider was at moved
	moved         time.Time      // Position.Moved
	approach      *approach      // nil: the rider is not on the way to a pickup

	offline bool  // as the rider said last
	said    int64 // Status.Said
}

// A sighting is where and when a rider was seen.
type sighting struct {
	place booking.Place
	point s2.Point
	at    time.Time // zero: never
	error float64   // in metres; 0: unknown
}

// NewMap returns an empty Map.
func NewMap(o Options) (*Map, error) {
	var wrong []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Errorf("new map: "+format, args...))
		}
	}
	require(o.MaxAge >= 0, "the maximum age must not be negative, but is %s", o.MaxAge)
	o.MaxAge = cmp.Or(o.MaxAge, time.Minute)
	o.Retention = cmp.Or(o.Retention, max(time.Hour, o.MaxAge))
	require(
		o.Retention >= o.MaxAge, "the retention of %s must not be less than the maximum age of %s", o.Retention,
		o.MaxAge,
	)
	o.MinMove = cmp.Or(o.MinMove, 50)
	require(o.MinMove > 0, "the least movement must be more than 0 metres, but is %g", o.MinMove)
	o.MaxSpeed = cmp.Or(o.MaxSpeed, 40)
	require(o.MaxSpeed > 0, "the maximum speed must be more than 0 metres a second, but is %g", o.MaxSpeed)
	o.MaxRiders = cmp.Or(o.MaxRiders, 200_000)
	require(o.MaxRiders > 0, "the maximum number of riders must be more than 0, but is %d", o.MaxRiders)
	if wrong != nil {
		return nil, errors.Join(wrong...)
	}
	if o.Busy == nil {
		o.Busy = func(booking.RiderID) bool { return false }
	}
	if o.Heading == nil {
		o.Heading = func(booking.RiderID) (booking.Heading, bool) { return booking.Heading{}, false }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Map{
		options: o, riders: make(map[booking.RiderID]*rider), bySilence: list.New(),
		watchers: make(map[booking.RiderID][]*watcher),
	}, nil
}

// find returns a rider that has not been forgotten.
func (m *Map) find(id booking.RiderID, now time.Time) (*rider, bool) {
	r, ok := m.riders[id]
	if !ok || now.Sub(r.heard) > m.options.Retention { // touch removes it later
		return nil, false
	}
	return r, true
}

// touch notes that there is news of a rider, and returns it. It forgets riders that are due.
func (m *Map) touch(id booking.RiderID, now time.Time) *rider {
	r, ok := m.find(id, now)
	if !ok {
		if old, ok := m.riders[id]; ok {
			m.forget(old)
		}
		m.lastNumber++
		id = booking.RiderID(strings.Clone(string(id))) // the id may be part of a long message
		r = &rider{id: id, number: m.lastNumber}
		m.riders[id] = r
		r.element = m.bySilence.PushBack(r)
	}
	r.heard = now
	m.bySilence.MoveToBack(r.element)
	for first := m.bySilence.Front(); first != nil; first = m.bySilence.Front() {
		oldest, _ := first.Value.(*rider)
		if m.bySilence.Len() <= m.options.MaxRiders && now.Sub(oldest.heard) <= m.options.Retention {
			break
		}
		m.forget(oldest)
	}
	return r
}

func (m *Map) forget(r *rider) {
	delete(m.riders, r.id)
	m.bySilence.Remove(r.element)
	if r.version != 0 {
		m.byPosition.Remove(r.last.point, r.number)
		m.byArea.Remove(r.area, r.number)
	}
}

// move sets a rider's position. It tells watchers, unless the new position contradicts the last one
// that they were told.
func (m *Map) move(r *rider, to sighting, version int64) {
	first := r.version == 0
	if first || to.point != r.last.point {
		if !first {
			m.byPosition.Remove(r.last.point, r.number)
		}
		m.byPosition.Add(to.point, r.number, r)
	}
	if area := areaOf(to.point); first || area != r.area {
		if !first {
			m.byArea.Remove(r.area, r.number)
		}
		m.byArea.Add(area, r.number, r)
		r.area = area
	}
	r.confirmed = !first && (m.follows(r.last, to, confirmWindow) || m.follows(r.published, to, confirmWindow) ||
		r.contradiction != nil && m.follows(r.contradiction.sighting, to, confirmWindow))
	r.last, r.version, r.contradiction = to, version, nil
	if first || r.confirmed && geo.Metres(to.point.Distance(r.anchor)) > m.options.MinMove {
		r.anchor, r.moved = to.point, to.at
	}
	if first || r.confirmed {
		r.published = to
		m.publish(r)
	}
	if r.confirmed {
		m.trackApproach(r)
	}
}
