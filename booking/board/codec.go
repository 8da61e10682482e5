package board

import (
	"encoding/binary"
	"math"

	"github.com/example/pillion/booking"
)

// The blocks of a captured board. The first byte says which: there is one header, then the marks,
// then the bookings in the order of their RequestedSeq, then the end. Numbers are varints, times
// and sequences mostly as what they differ from others by. The strings of a block stand together,
// so that reading them takes one allocation. A user, and a rider, is written where it first occurs,
// and later named by its number.
const (
	blockHeader  = 'B'
	blockMarks   = 'm'
	blockBooking = 'b'
	blockEnd     = 'e'
)

const (
	maxHint = 1 << 26 // more bookings than that are not made room for in advance

	// A booking's first byte: its state, and which parts it has.
	stateBits = 0b111
	hasTrip   = 1 << 3
	hasQuote  = 1 << 4
	isRare    = 1 << 5
	hasRider  = 1 << 6
)

type header struct {
	version, seq            uint64
	bookings, users, riders uint64 // about how many there are
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
	h = header{d.uvarint(), d.uvarint(), min(d.uvarint(), maxHint), min(d.uvarint(), maxHint),
		min(d.uvarint(), maxHint)}
	return h, d.err()
}

// A codec writes blocks.
type codec struct {
	users  map[*userIndex]uint64 // the number of each that has been written
	riders map[booking.RiderID]uint64

	out     []byte
	strings []byte

	count, applied, trips, passengers int // in this block
}

func (w *codec) begin() {
	w.out, w.strings = w.out[:0], w.strings[:0]
	w.count, w.applied, w.trips, w.passengers = 0, 0, 0, 0
}

func (w *codec) size() int { return len(w.out) + len(w.strings) }

// block returns the bookings that have been written since begin.
func (w *codec) block() []byte {
	head := []byte{blockBooking}
	for _, n := range []int{w.count, w.applied, w.trips, w.passengers, len(w.strings)} {
		head = binary.AppendUvarint(head, uint64(n))
	}
	out := make([]byte, 0, len(head)+w.size())
	return append(append(append(out, head...), w.strings...), w.out...)
}

// marksBlock returns the marks that have been written since begin.
func (w *codec) marksBlock() []byte {
	out := make([]byte, 0, 1+binary.MaxVarintLen64+w.size())
	out = binary.AppendUvarint(append(out, blockMarks), uint64(len(w.strings)))
	return append(append(out, w.strings...), w.out...)
}

func (w *codec) uvarint(n uint64)      { w.out = binary.AppendUvarint(w.out, n) }
func (w *codec) varint(n int64)        { w.out = binary.AppendVarint(w.out, n) }
func (w *codec) fixed(n uint64)        { w.out = binary.LittleEndian.AppendUint64(w.out, n) }
func (w *codec) float(f float64)       { w.fixed(math.Float64bits(f)) }
func (w *codec) after(n, m int64)      { w.varint(n - m) } // wraps around, and back when it is read
func (w *codec) afterU(n, m uint64)    { w.varint(int64(n - m)) }
func (w *codec) string(s string)       { w.uvarint(uint64(len(s))); w.strings = append(w.strings, s...) }
func (w *codec) place(p booking.Place) { w.float(p.Lat); w.float(p.Lng) }

func (w *codec) user(p *userIndex) {
	n, known := w.users[p]
	if !known {
		w.users[p] = uint64(len(w.users) + 1)
		w.passengers++
		w.uvarint(0)
		w.string(string(p.id))
		return
	}
	w.uvarint(n)
}

func (w *codec) rider(id booking.RiderID) {
	n, known := w.riders[id]
	if !known {
		w.riders[id] = uint64(len(w.riders) + 1)
		w.uvarint(0)
		w.string(string(id))
		return
	}
	w.uvarint(n)
}

func (w *codec) booking(r *record) {
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
	w.count++
	w.out = append(w.out, flags)
	w.string(string(r.id))
	w.user(r.user)
	if flags&hasRider != 0 {
		w.rider(r.rider.id)
	}
	w.varint(r.version)
	w.uvarint(r.requestedSeq)
	w.afterU(r.openedSeq, r.requestedSeq)
	w.afterU(r.seq, r.requestedSeq)
	w.varint(r.requestedAt)
	w.after(r.deadline, r.requestedAt)
	w.after(r.openedAt, r.requestedAt)
	w.after(r.updatedAt, r.requestedAt)
	w.uvarint(uint64(len(r.applied)))
	w.applied += len(r.applied)
	for _, mark := range r.applied {
		w.fixed(mark)
	}
	if r.trip != nil {
		w.trips++
		w.tripOf(r.trip)
	}
	if r.rare != nil {
		w.rareOf(r.rare)
	}
}

func (w *codec) tripOf(t *trip) {
	w.place(t.pickup)
	w.place(t.dropoff)
	if t.quoted {
		w.varint(t.quote.Metres)
		w.varint(t.quote.Minutes)
		w.varint(t.quote.Fare)
		w.string(t.quote.Currency)
	}
}

func (w *codec) rareOf(x *rare) {
	w.uvarint(uint64(len(x.releasedBy)))
	for _, id := range x.releasedBy {
		w.rider(id)
	}
	w.varint(int64(x.wrongCodes))
	w.varint(int64(x.userStars))
	w.varint(int64(x.riderStars))
	w.string(x.reason)
}

func (w *codec) marked(m marked) {
	w.string(string(m.id))
	w.uvarint(m.AgedAt)
	w.uvarint(uint64(len(m.Positions)))
	before := uint64(0)
	for i, p := range m.Positions {
		w.uvarint(p - before) // in ascending order
		before = p
		w.uvarint(m.Sequences[i])
	}
}
