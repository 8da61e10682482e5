package bus

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
)

// A Disk tells how many bytes a disk has in all, and how many of them are free. known is false
// where that cannot be learnt.
type Disk func() (total, free int64, known bool)

// spare is what bookings leave free of a disk that has total bytes: for everything else that is
// written there, and for files that are rewritten.
func spare(total int64) int64 { return min(max(total/8, 32<<20), 512<<20) }

const (
	// messageRoom is what a message of the ledger takes at most, taken over the life of a booking:
	// three quarters of it as a rule, half of which is its token.
	messageRoom = 2 << 10
	// ledgerSpare is the part of the ledger that nothing is reckoned with: forgeries take room too.
	ledgerSpare = 32
	// allowancePart is the part of what is free that one process may use without asking again, and
	// allowanceLife for how long. Where that is less than allowanceLeast each booking asks.
	allowancePart  = 16
	allowanceLife  = time.Second
	allowanceLeast = 1 << 20
	// refusalLife is how long a refusal holds.
	refusalLife = 200 * time.Millisecond
	// boardPatience is how long a board is waited for that decides whether there is room.
	boardPatience = time.Second
)

// errAdmission is that others have written to the ledger while its last room was given away: ask
// for it again.
var errAdmission = booking.ErrContended.Saying("Many bookings want the room that is left. Please try again in a moment.")

// A room is what is left of the ledger for new bookings, after all that the bookings there are
// still need until they are over: so whatever was begun can be ended. See ADR 21.
//
// Mostly a process takes an allowance, which is a small part of what is left, and uses it up
// without asking. Where little is left one booking after another asks the ledger's leader, and is
// stored only if nothing else has been stored meanwhile.
type room struct {
	conn  *Conn
	board *board.Board // nil: it is not known what the bookings need
	disk  Disk         // nil: a server elsewhere has a limit
	now   func() time.Time

	turn      chan struct{} // has a value while somebody looks at the rest, or is the only one to write
	allowance int64         // bytes
	expires   time.Time     // when that is over
	refused   time.Time     // when there was none
	wanted    int64         // for so many bytes
	underWay  int64         // bytes that were given away, and are not stored yet
}

// growth returns how many messages more than before are to be kept room for once events have been
// appended to a booking.
func growth(b booking.Booking, events []booking.Event) (messages int) {
	for _, e := range events {
		messages += b.Growth(e.Kind)
	}
	return messages
}

// An admission is leave to write what takes room. Call leave when it has been tried.
type admission struct {
	leave func()
	last  uint64 // the only sequence of the ledger that it is good for; 0: any
}

// guard makes the server refuse m where the admission is not good any more.
func (a admission) guard(m *nats.Msg) {
	m.Header.Del(jetstream.ExpectedLastSeqHeader)
	if a.last > 0 {
		m.Header.Set(jetstream.ExpectedLastSeqHeader, strconv.FormatUint(a.last, 10))
	}
}

// admit returns leave to write that room is kept for so many messages more, or ErrLedgerFull.
// Whatever room was kept for already is always admitted. Other errors are worth another try.
func (r *room) admit(ctx context.Context, messages int) (admission, error) {
	if messages == 0 {
		return admission{leave: func() {}}, nil
	}
	if err := r.enter(ctx); err != nil {
		return admission{}, err
	}
	need := int64(messages) * messageRoom
	now := r.now()
	if r.allowance >= need && now.Before(r.expires) {
		defer r.exit()
		return r.grant(need), nil
	}
	if need >= r.wanted && now.Sub(r.refused) < refusalLife {
		defer r.exit()
		return admission{}, ErrLedgerFull
	}
	left, last, err := r.left(ctx, need)
	if err == nil && left < need {
		r.refused, r.wanted, err = now, need, ErrLedgerFull
	}
	if err != nil {
		defer r.exit()
		return admission{}, err
	}
	if part := left / allowancePart; part >= max(need, allowanceLeast) {
		defer r.exit()
		r.allowance, r.expires = part, now.Add(allowanceLife)
		return r.grant(need), nil
	}
	r.allowance = 0
	return admission{leave: r.exit, last: last}, nil
}

// grant takes something from the allowance.
func (r *room) grant(need int64) admission {
	r.allowance -= need
	r.underWay += need
	return admission{leave: func() {
		r.turn <- struct{}{}
		r.underWay -= need
		r.exit()
	}}
}

func (r *room) enter(ctx context.Context) error {
	select {
	case r.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *room) exit() { <-r.turn }

// left returns how many bytes nothing is kept for, which may be less than none, and the last
// sequence of the ledger then. It waits for the board only where that decides whether there is what
// is needed.
func (r *room) left(ctx context.Context, need int64) (int64, uint64, error) {
	info, err := r.conn.ledgerInfo(ctx)
	if err != nil {
		return 0, 0, unavailable("ask for the ledger's size", err)
	}
	last := info.State.LastSeq
	free := r.free(info)
	if r.board == nil {
		return free - max(info.Config.MaxBytes, 0)/10 - r.underWay, last, nil
	}
	kept := func() int64 {
		// What the board has not read yet may be new bookings, all of it. It is asked first how far
		// it is: what it learns meanwhile is counted twice rather than not at all.
		behind := max(int64(last)-int64(r.board.Seq()), 0)
		return (behind*int64(wholeLife) + int64(r.board.Remaining())) * messageRoom
	}
	left := free - kept() - r.underWay
	if left < need && r.board.Seq() < last {
		waiting, cancel := context.WithTimeout(ctx, boardPatience)
		defer cancel()
		if r.board.Await(waiting, last) != nil {
			return 0, 0, ErrNotCaughtUp
		}
		left = free - kept() - r.underWay
	}
	return left, last, nil
}

// wholeLife is how many messages a new booking is kept room for.
var wholeLife = new(booking.Booking).Growth(booking.Requested)

// free returns how many bytes the ledger and its disk have free.
func (r *room) free(info *jetstream.StreamInfo) int64 {
	free := int64(1 << 60)
	if most := info.Config.MaxBytes; most > 0 {
		free = most - most/ledgerSpare - int64(info.State.Bytes)
	}
	if r.disk != nil {
		if total, rest, known := r.disk(); known {
			free = min(free, rest-spare(total))
		}
	}
	return free
}

// Room returns nil when there is room for a new booking, ErrLedgerFull when what is left is kept
// for others, or why that is not known.
func (l *Ledger) Room(ctx context.Context) error {
	if err := l.room.enter(ctx); err != nil {
		return err
	}
	defer l.room.exit()
	need := int64(wholeLife) * messageRoom
	left, _, err := l.room.left(ctx, need)
	if err == nil && left < need {
		return ErrLedgerFull.Because(fmt.Errorf("%d KiB are left, and a booking is kept %d KiB", max(left, 0)>>10, need>>10))
	}
	return err
}

// refusedFor tells why the server does not store messages that it should: ErrNoRoom where there is
// no room for them, nil where it is something else.
func (r *room) refusedFor(ctx context.Context, msgs []*nats.Msg) error {
	info, err := r.conn.ledgerInfo(ctx)
	if err != nil {
		return unavailable("ask for the ledger's size", err)
	}
	var size int64
	for _, m := range msgs {
		size += int64(m.Size())
	}
	if most := info.Config.MaxBytes; most > 0 && int64(info.State.Bytes)+max(size, int64(len(msgs)*messageRoom)) > most {
		return ErrNoRoom
	}
	return nil
}

// ledgerInfo returns what the ledger's leader says of it.
func (c *Conn) ledgerInfo(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptPatience)
	defer cancel()
	s, err := c.stream(ctx, LedgerStream)
	if err != nil {
		return nil, err
	}
	return s.CachedInfo(), nil
}
