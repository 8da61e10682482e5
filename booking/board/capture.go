package board

import (
	"errors"
	"io"
	"maps"
	"slices"

	"github.com/example/pillion/booking"
)

// Version is the version of the encoding of a Capture, and of the rules that make a board from
// events. Discard a captured board of another version, and read the events again. Increment Version
// with every change of the encoding, and with every change after which the same events make a
// different board; TestBoardVersion detects those.
const Version = 4

// ErrCaptureLost says that Become replaced the board during the capture.
var ErrCaptureLost = errors.New("the board was replaced while it was captured")

// A Capture reads the contents of a board at one moment, in blocks of bytes for a [Loader]. The
// board may change meanwhile: the capture keeps the old version of each changed booking until it
// has read it. So it needs no second board, and locks the board for the time of one block only.
// Read a Capture to its end, or call End.
type Capture struct {
	board    *Board
	seq      uint64
	read     uint64 // RequestedSeq of the last booking in a block
	kept     map[*record]*record
	begun    bool
	done     bool
	refusals []idRefusals // not in a block yet
	encoder  encoder
}

// idRefusals are the refusals of one booking.
type idRefusals struct {
	id booking.ID
	*booking.Refusals
}

const (
	blockBookings = 256     // bookings in a block, which takes a fraction of a millisecond
	blockBytes    = 1 << 17 // size at which a block ends early; it may exceed this by one booking
)

// Capture begins a capture of the board, and ends one in progress. Call it between two messages:
// Advance must have been called for all applied events, and each message needs its own sequence.
func (b *Board) Capture() *Capture {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &Capture{board: b, seq: b.progress.now(), kept: make(map[*record]*record)}
	for _, id := range slices.Sorted(maps.Keys(b.refusals)) {
		c.refusals = append(c.refusals, idRefusals{id, b.refusals[id].Clone()})
	}
	c.encoder = encoder{
		users:  make(map[*userIndex]uint64, len(b.users)),
		riders: make(map[booking.RiderID]uint64, len(b.riders)),
	}
	b.capture = c
	return c
}

// Seq returns the sequence of the last message that the captured board includes.
func (c *Capture) Seq() uint64 { return c.seq }

// End ends the capture.
func (c *Capture) End() {
	c.board.mu.Lock()
	defer c.board.mu.Unlock()
	if c.board.capture == c {
		c.board.capture = nil
	}
	c.kept = nil
}

// Next returns the next block, which belongs to the caller, or io.EOF after the last one. A block
// has at most about a hundred kilobytes, unless a single booking has more. Other errors:
// ErrCaptureLost.
func (c *Capture) Next() ([]byte, error) {
	switch {
	case c.done:
		return nil, io.EOF
	case !c.begun:
		c.begun = true
		return c.header(), nil
	case len(c.refusals) > 0:
		return c.refusalsBlock(), nil
	}
	block, err := c.bookings()
	if err != nil {
		return nil, err
	}
	if block == nil {
		c.done = true
		c.End()
		return []byte{blockEnd}, nil
	}
	return block, nil
}

// bookings returns the next block of bookings, or nil after the last one.
func (c *Capture) bookings() ([]byte, error) {
	b := c.board
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.capture != c {
		return nil, ErrCaptureLost
	}
	w := &c.encoder
	w.begin()
	for _, r := range b.oldest[before(b.oldest, c.read+1):] {
		if r.requestedSeq > c.seq || w.count == blockBookings || w.size() >= blockBytes {
			break
		}
		if was, changed := c.kept[r]; changed {
			w.booking(was)
		} else {
			w.booking(r)
		}
		c.read = r.requestedSeq
	}
	if w.count == 0 {
		return nil, nil
	}
	return w.block(), nil
}

// keep saves a booking that is about to change, unless a block has it or it is newer than the
// capture. The caller holds the board's lock. A nil Capture keeps nothing.
func (c *Capture) keep(r *record) {
	if c == nil || r.requestedSeq <= c.read || r.requestedSeq > c.seq {
		return
	}
	if _, kept := c.kept[r]; !kept {
		was := *r
		c.kept[r] = &was
	}
}

func (c *Capture) header() []byte {
	b := c.board
	b.mu.RLock()
	defer b.mu.RUnlock()
	return header{
		version: Version, seq: c.seq, bookings: uint64(len(b.bookings)), users: uint64(len(b.users)),
		riders: uint64(len(b.riders)),
	}.block()
}

func (c *Capture) refusalsBlock() []byte {
	w := &c.encoder
	w.begin()
	n := 0
	for n < len(c.refusals) && w.size() < blockBytes {
		w.idRefusals(c.refusals[n])
		n++
	}
	c.refusals = c.refusals[n:]
	return w.refusalsBlock()
}
