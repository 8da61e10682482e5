package board

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/example/pillion/booking"
)

// Version is the version of what a Capture yields, and of the rules by which a board came to know
// it. A board that was captured under another one is worth nothing: read the events again. It goes
// up with every change of the encoding, and with every change after which the same events make
// another board; TestBoardVersion tells when that is.
const Version = 1

// ErrCaptureLost is that the board has become another one while it was captured.
var ErrCaptureLost = errors.New("the board was read anew while it was captured")

// A Capture is what a board knew at one moment, in blocks of bytes that [Loading] makes a board of
// again. The board goes on meanwhile: what changes on it is kept as it was until it has been read,
// so that neither a second board is needed nor anybody held up for longer than one block takes.
// Read it to its end, or End it.
type Capture struct {
	board   *Board
	seq     uint64
	read    uint64 // RequestedSeq of the last booking that has been read
	kept    map[*record]*record
	begun   bool
	done    bool
	marks   []marked
	writing codec
}

// marked are the marks of one thread.
type marked struct {
	id booking.ID
	*booking.Refusals
}

const (
	blockBookings = 256     // bookings in a block: a fraction of a millisecond
	blockBytes    = 1 << 17 // after so many a block ends early; one booking more may be in it
)

// Capture begins to read what the board knows now. Call it between two messages: what has been
// applied must have been advanced to, and their sequences must be different. A capture that is
// under way ends.
func (b *Board) Capture() *Capture {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &Capture{board: b, seq: b.progress.now(), kept: make(map[*record]*record)}
	for _, id := range slices.Sorted(maps.Keys(b.refusals)) {
		c.marks = append(c.marks, marked{id, b.refusals[id].Clone()})
	}
	c.writing = codec{users: make(map[*userIndex]uint64, len(b.users)),
		riders: make(map[booking.RiderID]uint64, len(b.riders))}
	b.capture = c
	return c
}

// Seq returns the sequence up to which the board knew everything.
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

// Next returns the next block, which is the caller's, or io.EOF after the last. Blocks are about a
// hundred kilobytes long at most, unless one booking has more than that. Other errors:
// ErrCaptureLost.
func (c *Capture) Next() ([]byte, error) {
	switch {
	case c.done:
		return nil, io.EOF
	case !c.begun:
		c.begun = true
		return c.header(), nil
	case len(c.marks) > 0:
		return c.marksBlock(), nil
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

// bookings returns a block of those that have not been read, or nil.
func (c *Capture) bookings() ([]byte, error) {
	b := c.board
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.capture != c {
		return nil, ErrCaptureLost
	}
	w := &c.writing
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

// keep keeps a booking that is about to change, unless it has been read or is newer than the
// capture. The caller holds the board's lock.
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
	return header{version: Version, seq: c.seq, bookings: uint64(len(b.bookings)), users: uint64(len(b.users)),
		riders: uint64(len(b.riders))}.block()
}

func (c *Capture) marksBlock() []byte {
	w := &c.writing
	w.begin()
	n := 0
	for n < len(c.marks) && w.size() < blockBytes {
		w.marked(c.marks[n])
		n++
	}
	c.marks = c.marks[n:]
	return w.marksBlock()
}

// A Loading makes a board of the blocks of a Capture. What it is given should be known to be from
// one: it refuses what cannot be, but a forger can make it believe anything about bookings.
type Loading struct {
	board   *Board
	seq     uint64
	begun   bool
	ended   bool
	open    []*record
	reading decoder
}

// ErrBlock is that blocks are not what a Capture of this version yields.
var ErrBlock = errors.New("that is not a captured board")

// NewLoading returns a Loading that waits for the first block.
func NewLoading() *Loading { return new(Loading) }

// Take takes the next block, and keeps nothing of it. Any error is ErrBlock and for good.
func (l *Loading) Take(block []byte) (err error) {
	if len(block) == 0 || l.ended {
		return ErrBlock
	}
	kind := block[0]
	if l.begun == (kind == blockHeader) {
		return ErrBlock
	}
	switch kind {
	case blockHeader:
		err = l.header(block[1:])
	case blockMarks:
		err = l.marks(block[1:])
	case blockBooking:
		err = l.bookings(block[1:])
	case blockEnd:
		err = l.end(block[1:])
	default:
		err = ErrBlock
	}
	if err != nil {
		l.ended = true
		l.board = nil
	}
	return err
}

// Board returns the board, advanced to the sequence of the capture, or ErrBlock before the last
// block.
func (l *Loading) Board() (*Board, error) {
	if !l.ended || l.board == nil {
		return nil, ErrBlock
	}
	return l.board, nil
}

func (l *Loading) header(rest []byte) error {
	h, err := parseHeader(rest)
	if err != nil {
		return err
	}
	if h.version != Version {
		return fmt.Errorf("%w: its version is %d", ErrBlock, h.version)
	}
	l.begun, l.seq = true, h.seq
	l.board = &Board{watchers: newWatchers(), contents: contents{
		bookings: make(map[booking.ID]*record, h.bookings), refusals: make(map[booking.ID]*booking.Refusals),
		users: make(map[booking.UserID]*userIndex, h.users), riders: make(map[booking.RiderID]*riderIndex, h.riders),
		enRoute: make(map[*record]struct{}),
		oldest:  make([]*record, 0, h.bookings), applied: h.seq,
	}}
	return nil
}

func (l *Loading) marks(rest []byte) error {
	l.reading.begin(rest)
	l.reading.area(l.reading.uvarint())
	for !l.reading.failed && l.reading.left() {
		m := l.reading.marked()
		if _, twice := l.board.refusals[m.id]; twice {
			return ErrBlock
		}
		l.board.refusals[m.id] = m.Refusals
	}
	return l.reading.err()
}

func (l *Loading) bookings(rest []byte) error {
	d, b := &l.reading, l.board
	d.begin(rest)
	records := d.slabs()
	for i := range records {
		r := &records[i]
		fresh := d.booking(r)
		if d.failed {
			return ErrBlock
		}
		if _, twice := b.bookings[r.id]; twice || len(b.oldest) > 0 &&
			b.oldest[len(b.oldest)-1].requestedSeq >= r.requestedSeq {
			return ErrBlock
		}
		if fresh {
			b.users[r.user.id] = r.user
		}
		b.bookings[r.id] = r
		b.remaining += r.remaining()
		b.oldest = append(b.oldest, r)
		b.trackEnRoute(r)
		r.user.put(r.state.bucket(), r)
		if r.rider != nil {
			b.riders[r.rider.id] = r.rider
			r.rider.put(r.state.bucket(), r)
		}
		if r.state == openState {
			l.open = append(l.open, r)
		}
	}
	if d.left() {
		return ErrBlock
	}
	return d.err()
}

func (l *Loading) end(rest []byte) error {
	if len(rest) > 0 {
		return ErrBlock
	}
	slices.SortFunc(l.open, func(a, b *record) int { return cmp.Compare(a.openedSeq, b.openedSeq) })
	for _, r := range l.open { // in the order in which the index is fast
		l.board.offer(r)
	}
	l.ended, l.open = true, nil
	l.board.Advance(l.seq)
	return nil
}
