package fleet

import (
	"math"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/internal/geo"
)

const (
	// confirmWindow is how long reports must confirm each other to outweigh what they contradict.
	// Sightings that are farther apart in time confirm nothing.
	confirmWindow = 30 * time.Second
	// defaultError is the error assumed for two sightings whose receivers do not state one, and
	// maxError the highest that is accepted from receivers. Both are sums over two sightings, in
	// metres.
	defaultError, maxError = 100, 300
)

// A contradiction is the newest of several reports that confirm each other and contradict the known
// position.
type contradiction struct {
	sighting
	since time.Time // time of the first of those reports
}

// Report takes a rider's own report of its position, and returns the rider's new status and the
// decision on the report. It does not put a rider online who has gone offline.
//
// The time in the report orders reports. A Map believes a report if a bike can get there from the
// known position. A report that contradicts the known position is believed if no other report has
// confirmed that position, so a wrong first report does not shut out correct ones. It is
// Implausible if the known position is confirmed, until one of these holds:
//
//   - The contradicting reports have confirmed each other for half a minute.
//   - The known position has expired, and a bike could have covered the distance since.
//
// Watchers are told of confirmed positions, and of the first position. Only confirmed positions
// count as an approach to a pickup.
//
// Errors: ErrNoRider and those of [Fix.Valid].
func (m *Map) Report(id booking.RiderID, fix Fix) (Status, Verdict, error) {
	now := m.options.Now()
	if id == "" {
		return Status{}, "", ErrNoRider
	}
	if err := fix.Valid(now); err != nil {
		return Status{}, "", err
	}
	seen := sighting{fix.Place, fix.Point(), fix.At, fix.Accuracy}
	if fix.At.IsZero() || fix.At.After(now) {
		seen.at = now
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.touch(id, now)
	verdict := Believed
	switch {
	case fix.Accuracy > MaxInaccuracy:
		verdict = Inaccurate
	case r.version != 0 && !fix.At.IsZero() && !seen.at.After(r.last.at):
		verdict = Stale
	case !m.believes(r, seen):
		verdict = Implausible
	default:
		m.move(r, seen, max(r.version+1, now.UnixMilli()))
		r.local = true
	}
	return r.status(now), verdict, nil
}

// Valid reports why a fix that arrives at time now is impossible, or returns nil. Errors:
// booking.ErrInvalidPlace, ErrNullIsland, ErrFixTime, ErrAccuracy.
func (f Fix) Valid(now time.Time) error {
	switch {
	case f.Place.Valid() != nil:
		return f.Place.Valid()
	case isNullIsland(f.Place):
		return ErrNullIsland
	case !f.At.IsZero() && (f.At.After(now.Add(maxFixAhead)) || f.At.Before(now.Add(-MaxFixAge))):
		return ErrFixTime
	case !(f.Accuracy >= 0 && f.Accuracy <= math.MaxFloat64):
		return ErrAccuracy
	}
	return nil
}

func isNullIsland(p booking.Place) bool {
	return math.Abs(p.Lat) < nullIsland && math.Abs(p.Lng) < nullIsland
}

// believes decides whether a report gives the position of the rider. It keeps a report that
// contradicts a confirmed position, for the next report to confirm.
func (m *Map) believes(r *rider, s sighting) bool {
	if r.version == 0 || !r.confirmed || m.follows(r.last, s, confirmWindow) {
		return true
	}
	silence := s.at.Sub(r.last.at)
	if silence > max(m.options.MaxAge, confirmWindow) && m.follows(r.last, s, silence) {
		return true
	}
	since := s.at
	if r.contradiction != nil && m.follows(r.contradiction.sighting, s, confirmWindow) {
		since = r.contradiction.since
	}
	r.contradiction = &contradiction{s, since}
	return s.at.Sub(since) >= confirmWindow
}

// follows reports whether a bike gets from one sighting to a later one in the time between them, of
// which at most limit counts.
func (m *Map) follows(from, to sighting, limit time.Duration) bool {
	if from.at.IsZero() {
		return false
	}
	elapsed := min(max(0, to.at.Sub(from.at)), limit)
	slack := min(max(defaultError, from.error+to.error), maxError)
	return geo.Metres(from.point.Distance(to.point)) <= m.options.MaxSpeed*elapsed.Seconds()+slack
}
