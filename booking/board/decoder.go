package board

import (
	"encoding/binary"
	"math"
	"strings"

	"github.com/example/pillion/booking"
)

// A decoder decodes blocks. After malformed input, failed is true and all further values are zero.
type decoder struct {
	users        []*userIndex
	riders       []booking.RiderID
	riderIndexes []*riderIndex // of those riders; nil: none yet

	rest    []byte
	strings string // the rest of the block's strings
	failed  bool

	// Memory for the values of a block, allocated at once. The bookings of a block leave the board
	// at about the same time, so this keeps little dead memory alive.
	applied  []uint64
	trips    []trip
	newUsers []userIndex
}

func (d *decoder) err() error {
	if d.failed {
		return ErrBlock
	}
	return nil
}

func (d *decoder) left() bool { return len(d.rest) > 0 || len(d.strings) > 0 }

func (d *decoder) fail() { d.failed, d.rest, d.strings = true, nil, "" }

// begin starts a block.
func (d *decoder) begin(rest []byte) {
	d.rest, d.strings, d.failed = rest, "", false
}

// area splits off the strings of a block.
func (d *decoder) area(n uint64) {
	if n > uint64(len(d.rest)) {
		d.fail()
		return
	}
	d.strings, d.rest = string(d.rest[:n]), d.rest[n:]
}

// slabs reads the counts of a block of bookings, and allocates memory for its values. Every value
// takes at least a byte, so the length of the block bounds the memory.
func (d *decoder) slabs() []record {
	count, applied, trips, newUsers, area := d.uvarint(), d.uvarint(), d.uvarint(), d.uvarint(), d.uvarint()
	if most := uint64(len(d.rest)); count > most || applied > most || trips > most || newUsers > most {
		d.fail()
		return nil
	}
	d.area(area)
	d.applied, d.trips, d.newUsers = make([]uint64, applied), make([]trip, trips), make([]userIndex, newUsers)
	return make([]record, count)
}

func (d *decoder) uvarint() uint64 {
	if len(d.rest) > 0 && d.rest[0] < 0x80 { // the usual case
		n := uint64(d.rest[0])
		d.rest = d.rest[1:]
		return n
	}
	n, length := binary.Uvarint(d.rest)
	if length <= 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[length:]
	return n
}

func (d *decoder) varint() int64 {
	u := d.uvarint()
	n := int64(u >> 1)
	if u&1 != 0 {
		n = ^n
	}
	return n
}

func (d *decoder) fixed() uint64 {
	if len(d.rest) < 8 {
		d.fail()
		return 0
	}
	n := binary.LittleEndian.Uint64(d.rest)
	d.rest = d.rest[8:]
	return n
}

func (d *decoder) after(m int64) int64    { return m + d.varint() }
func (d *decoder) afterU(m uint64) uint64 { return m + uint64(d.varint()) }
func (d *decoder) float() float64         { return math.Float64frombits(d.fixed()) }
func (d *decoder) place() booking.Place   { return booking.Place{Lat: d.float(), Lng: d.float()} }

func (d *decoder) string() string {
	n := d.uvarint()
	if n > uint64(len(d.strings)) {
		d.fail()
		return ""
	}
	s := d.strings[:n]
	d.strings = d.strings[n:]
	return s
}

// user returns a user, and whether this is the first occurrence.
func (d *decoder) user() (p *userIndex, fresh bool) {
	n := d.uvarint()
	if n == 0 {
		if len(d.newUsers) == 0 {
			d.fail()
			return nil, false
		}
		p, d.newUsers = &d.newUsers[0], d.newUsers[1:]
		p.id = booking.UserID(d.string())
		d.users = append(d.users, p)
		return p, true
	}
	if n > uint64(len(d.users)) {
		d.fail()
		return nil, false
	}
	return d.users[n-1], false
}

// riderAt returns the index in riders of the next rider, or -1.
func (d *decoder) riderAt() int {
	n := d.uvarint()
	if n == 0 {
		// it outlives the block
		d.riders = append(d.riders, booking.RiderID(strings.Clone(d.string())))
		d.riderIndexes = append(d.riderIndexes, nil)
		return len(d.riders) - 1
	}
	if n > uint64(len(d.riders)) {
		d.fail()
		return -1
	}
	return int(n - 1)
}

// riderID returns the id of a rider.
func (d *decoder) riderID() booking.RiderID {
	i := d.riderAt()
	if i < 0 {
		return ""
	}
	return d.riders[i]
}

// rider returns a rider with bookings.
func (d *decoder) rider() *riderIndex {
	i := d.riderAt()
	if i < 0 {
		return nil
	}
	if d.riderIndexes[i] == nil {
		d.riderIndexes[i] = &riderIndex{id: d.riders[i]}
	}
	return d.riderIndexes[i]
}

// booking decodes one booking into r, and reports whether its user is new. The caller checks
// failed.
func (d *decoder) booking(r *record) (fresh bool) {
	if len(d.rest) == 0 {
		d.fail()
		return false
	}
	flags := d.rest[0]
	d.rest = d.rest[1:]
	r.state = stateCode(flags & stateBits)
	r.id = booking.ID(d.string())
	r.user, fresh = d.user()
	if flags&hasRider != 0 {
		r.rider, r.acceptance = d.rider(), d.fixed()
	}
	r.version = int32(d.varint())
	r.requestedSeq = d.uvarint()
	r.openedSeq = d.afterU(r.requestedSeq)
	r.seq = d.afterU(r.requestedSeq)
	r.requestedAt = d.varint()
	r.deadline = d.after(r.requestedAt)
	r.openedAt = d.after(r.requestedAt)
	r.updatedAt = d.after(r.requestedAt)
	n := d.uvarint()
	if n > uint64(len(d.applied)) {
		d.fail()
		return false
	}
	if n > 0 {
		r.applied, d.applied = d.applied[:n:n], d.applied[n:]
	}
	for i := range r.applied {
		r.applied[i] = d.fixed()
	}
	if flags&hasTrip != 0 {
		r.trip = d.trip(flags&hasQuote != 0)
	}
	if flags&isRare != 0 {
		r.rare = d.rare()
	}
	return fresh
}

func (d *decoder) trip(quoted bool) *trip {
	if len(d.trips) == 0 {
		d.fail()
		return nil
	}
	t := &d.trips[0]
	d.trips = d.trips[1:]
	t.pickup, t.dropoff, t.quoted = d.place(), d.place(), quoted
	if quoted {
		t.quote = booking.Quote{Metres: d.varint(), Minutes: d.varint(), Fare: d.varint(), Currency: d.string()}
	}
	return t
}

func (d *decoder) rare() *rare {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.fail()
		return nil
	}
	x := new(rare)
	if n > 0 {
		x.lost = &lost{make([]booking.RiderID, n), make([]uint64, n)}
	}
	for i := range n {
		x.lost.riders[i], x.lost.acceptances[i] = d.riderID(), d.fixed()
	}
	x.wrongCodes, x.userStars, x.riderStars = int32(d.varint()), int8(d.varint()), int8(d.varint())
	x.reason = d.string()
	return x
}

func (d *decoder) idRefusals() idRefusals {
	m := idRefusals{booking.ID(d.string()), &booking.Refusals{AgedAt: d.uvarint()}}
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.fail()
		return m
	}
	if n > 0 {
		m.Positions, m.Sequences = make([]uint64, n), make([]uint64, n)
	}
	before := uint64(0)
	for i := range m.Positions {
		before += d.uvarint()
		m.Positions[i], m.Sequences[i] = before, d.uvarint()
	}
	return m
}
