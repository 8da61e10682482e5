package board

import (
	"encoding/binary"
	"math"

	"github.com/example/pillion/booking"
)

// Types of blocks, in the first byte. A captured board is one header, the refusals, the bookings in
// the order of RequestedSeq, and the end. Numbers are varints; most times and sequences are
// differences. The strings of a block are contiguous, so decoding them takes one allocation. The id
// of a user or rider is written once; later occurrences refer to it by number.
const (
	blockHeader   = 'B'
	blockRefusals = 'm'
	blockBooking  = 'b'
	blockEnd      = 'e'
)

const (
	maxHint = 1 << 26 // maximum capacity that a header can request

	// The first byte of a booking: its state, and its optional parts.
	stateBits = 0b111
	hasTrip   = 1 << 3
	hasQuote  = 1 << 4
	isRare    = 1 << 5
	hasRider  = 1 << 6 // and an acceptance
)

type header struct {
	version, seq            uint64
	bookings, users, riders uint64 // approximate counts
}

func (h header) block() []byte {
	out := []byte{blockHeader}
	for _, n := range []uint64{h.version, h.seq, h.bookings, h.users, h.riders} {
		out = binary.AppendUvarint(out, n)
	}
	return out
}

func parseHeader(rest []byte) (h header, err error) {
	d := decoder{rest: rest}
	h = header{
		d.uvarint(), d.uvarint(), min(d.uvarint(), maxHint), min(d.uvarint(), maxHint), min(d.uvarint(), maxHint),
	}
	return h, d.err()
}

// An encoder encodes blocks.
type encoder struct {
	users  map[*userIndex]uint64 // numbers of those that have been written
	riders map[booking.RiderID]uint64

	out     []byte
	strings []byte

	count, applied, trips, newUsers int // in this block
}

func (e *encoder) begin() {
	e.out, e.strings = e.out[:0], e.strings[:0]
	e.count, e.applied, e.trips, e.newUsers = 0, 0, 0, 0
}

func (e *encoder) size() int { return len(e.out) + len(e.strings) }

// block returns the block of the bookings written since begin.
func (e *encoder) block() []byte {
	head := []byte{blockBooking}
	for _, n := range []int{e.count, e.applied, e.trips, e.newUsers, len(e.strings)} {
		head = binary.AppendUvarint(head, uint64(n))
	}
	out := make([]byte, 0, len(head)+e.size())
	return append(append(append(out, head...), e.strings...), e.out...)
}

// refusalsBlock returns the block of the refusals written since begin.
func (e *encoder) refusalsBlock() []byte {
	out := make([]byte, 0, 1+binary.MaxVarintLen64+e.size())
	out = binary.AppendUvarint(append(out, blockRefusals), uint64(len(e.strings)))
	return append(append(out, e.strings...), e.out...)
}

func (e *encoder) uvarint(n uint64)      { e.out = binary.AppendUvarint(e.out, n) }
func (e *encoder) varint(n int64)        { e.out = binary.AppendVarint(e.out, n) }
func (e *encoder) fixed(n uint64)        { e.out = binary.LittleEndian.AppendUint64(e.out, n) }
func (e *encoder) float(f float64)       { e.fixed(math.Float64bits(f)) }
func (e *encoder) after(n, m int64)      { e.varint(n - m) } // overflow is undone by decoder.after
func (e *encoder) afterU(n, m uint64)    { e.varint(int64(n - m)) }
func (e *encoder) string(s string)       { e.uvarint(uint64(len(s))); e.strings = append(e.strings, s...) }
func (e *encoder) place(p booking.Place) { e.float(p.Lat); e.float(p.Lng) }

func (e *encoder) user(p *userIndex) {
	n, known := e.users[p]
	if !known {
		e.users[p] = uint64(len(e.users) + 1)
		e.newUsers++
		e.uvarint(0)
		e.string(string(p.id))
		return
	}
	e.uvarint(n)
}

func (e *encoder) rider(id booking.RiderID) {
	n, known := e.riders[id]
	if !known {
		e.riders[id] = uint64(len(e.riders) + 1)
		e.uvarint(0)
		e.string(string(id))
		return
	}
	e.uvarint(n)
}

func (e *encoder) booking(r *record) {
	flags := byte(r.state) & stateBits
	if r.trip != nil {
		flags |= hasTrip
		if r.trip.quoted {
			flags |= hasQuote
		}
	}
	if r.rare != nil {
		flags |= isRare
	}
	if r.rider != nil {
		flags |= hasRider
	}
	e.count++
	e.out = append(e.out, flags)
	e.string(string(r.id))
	e.user(r.user)
	if flags&hasRider != 0 {
		e.rider(r.rider.id)
		e.fixed(r.acceptance)
	}
	e.varint(int64(r.version))
	e.uvarint(r.requestedSeq)
	e.afterU(r.openedSeq, r.requestedSeq)
	e.afterU(r.seq, r.requestedSeq)
	e.varint(r.requestedAt)
	e.after(r.deadline, r.requestedAt)
	e.after(r.openedAt, r.requestedAt)
	e.after(r.updatedAt, r.requestedAt)
	e.uvarint(uint64(len(r.applied)))
	e.applied += len(r.applied)
	for _, hash := range r.applied {
		e.fixed(hash)
	}
	if r.trip != nil {
		e.trips++
		e.tripOf(r.trip)
	}
	if r.rare != nil {
		e.rareOf(r.rare)
	}
}

func (e *encoder) tripOf(t *trip) {
	e.place(t.pickup)
	e.place(t.dropoff)
	if t.quoted {
		e.varint(t.quote.Metres)
		e.varint(t.quote.Minutes)
		e.varint(t.quote.Fare)
		e.string(t.quote.Currency)
	}
}

func (e *encoder) rareOf(x *rare) {
	var l lost
	if x.lost != nil {
		l = *x.lost
	}
	e.uvarint(uint64(len(l.riders)))
	for i, id := range l.riders {
		e.rider(id)
		e.fixed(l.acceptances[i])
	}
	e.varint(int64(x.wrongCodes))
	e.varint(int64(x.userStars))
	e.varint(int64(x.riderStars))
	e.string(x.reason)
}

func (e *encoder) idRefusals(r idRefusals) {
	e.string(string(r.id))
	e.uvarint(r.AgedAt)
	e.uvarint(uint64(len(r.Positions)))
	before := uint64(0)
	for i, p := range r.Positions {
		e.uvarint(p - before) // ascending
		before = p
		e.uvarint(r.Sequences[i])
	}
}
