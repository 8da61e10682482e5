package board

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/example/pillion/booking"
)

// A Loader makes a board from the blocks of a Capture. Authenticate the blocks first: a Loader
// rejects malformed blocks, but accepts well-formed forgeries.
type Loader struct {
	board   *Board
	seq     uint64
	begun   bool
	ended   bool
	open    []*record
	lost    []*record // by a rider
	decoder decoder
}

// ErrBlock says that the blocks do not come from a Capture of this Version.
var ErrBlock = errors.New("not the blocks of a captured board")

// NewLoader returns a Loader for one capture.
func NewLoader() *Loader { return new(Loader) }

// Take decodes the next block. It does not retain the block. Every error is ErrBlock, and final.
func (l *Loader) Take(block []byte) (err error) {
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
	case blockRefusals:
		err = l.refusals(block[1:])
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

// Board returns the board, advanced to the sequence of the capture. The error is ErrBlock before
// the last block.
func (l *Loader) Board() (*Board, error) {
	if !l.ended || l.board == nil {
		return nil, ErrBlock
	}
	return l.board, nil
}

func (l *Loader) header(rest []byte) error {
	h, err := parseHeader(rest)
	if err != nil {
		return err
	}
	if h.version != Version {
		return fmt.Errorf("%w: its version is %d", ErrBlock, h.version)
	}
	l.begun, l.seq = true, h.seq
	l.board = &Board{watchers: newWatchers(), contents: contents{
		bookings: make(map[booking.ID]*record, h.bookings),
		refusals: make(map[booking.ID]*booking.Refusals),
		users:    make(map[booking.UserID]*userIndex, h.users),
		riders:   make(map[booking.RiderID]*riderIndex, h.riders),
		enRoute:  make(map[*record]struct{}),
		oldest:   make([]*record, 0, h.bookings),
		applied:  h.seq,
	}}
	return nil
}

func (l *Loader) refusals(rest []byte) error {
	l.decoder.begin(rest)
	l.decoder.area(l.decoder.uvarint())
	for !l.decoder.failed && l.decoder.left() {
		m := l.decoder.idRefusals()
		if _, twice := l.board.refusals[m.id]; twice {
			return ErrBlock
		}
		l.board.refusals[m.id] = m.Refusals
	}
	return l.decoder.err()
}

func (l *Loader) bookings(rest []byte) error {
	d, b := &l.decoder, l.board
	d.begin(rest)
	records := d.slabs()
	for i := range records {
		r := &records[i]
		fresh := d.booking(r)
		if d.failed {
			return ErrBlock
		}
		if _, twice := b.bookings[r.id]; twice ||
			len(b.oldest) > 0 && b.oldest[len(b.oldest)-1].requestedSeq >= r.requestedSeq {
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
		if len(r.releases()) > 0 {
			l.lost = append(l.lost, r)
		}
	}
	if d.left() {
		return ErrBlock
	}
	return d.err()
}

func (l *Loader) end(rest []byte) error {
	if len(rest) > 0 {
		return ErrBlock
	}
	slices.SortFunc(l.open, func(a, b *record) int { return cmp.Compare(a.openedSeq, b.openedSeq) })
	for _, r := range l.open { // the index is fastest in this order
		l.board.addOpen(r)
	}
	for _, r := range l.lost { // now that all riders are known
		for _, id := range r.releases() {
			l.board.rider(id).lose(r)
		}
	}
	l.ended, l.open, l.lost = true, nil, nil
	l.board.Advance(l.seq)
	return nil
}
