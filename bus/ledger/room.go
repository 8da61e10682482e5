package ledger

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
)

const (
	// messageRoom is the average size of a message over the life of a booking, rounded up: usually
	// three quarters of it, half of that for the token.
	messageRoom = 2 << 10
	// ledgerSpare is the fraction of the ledger that stays out of account, because forgeries take
	// room too.
	ledgerSpare = 32
	// allowancePart is the fraction of the free bytes that one process may use without asking
	// again, for allowanceLife. Where that is less than allowanceLeast, each booking asks.
	allowancePart  = 16
	allowanceLife  = time.Second
	allowanceLeast = 1 << 20
	// refusalLife is how long a refusal holds.
	refusalLife = 200 * time.Millisecond
	// boardPatience is how long admit waits for a board that decides whether there is room.
	boardPatience = time.Second
)

// errAdmission says that others have written to the ledger while its last room was given away: ask
// again.
var errAdmission = booking.ErrContended.Saying("Many bookings compete for the remaining storage. Please try " +
	"again in a moment.")

// A room manages what is left of the ledger for new bookings, after everything that open bookings
// still need: so whatever was begun can be ended. See ADR 21.
//
// Mostly a process takes an allowance, a small part of what is left, and uses it up without asking.
// When little is left, one booking after another asks the leader, and is stored only if nothing
// else was stored meanwhile.
type room struct {
	conn  *bus.Conn
	board *board.Board // nil: the needs of bookings are unknown
	disk  bus.Disk     // nil: a server elsewhere has a limit
	now   func() time.Time

	turn      chan struct{} // a lock: holds a value while one caller reads the room or writes alone
	allowance int64         // bytes
	expires   time.Time     // the end of the allowance
	refused   time.Time     // when there was no room
	wanted    int64         // for how many bytes
	underWay  int64         // granted bytes that are not stored yet
}

// growth returns for how many messages more room must be reserved once events are appended to a
// booking.
func growth(b booking.Booking, events []booking.Event) (messages int) {
	for _, e := range events {
		messages += b.Growth(e.Kind)
	}
	return messages
}

// An admission is the permission to write what takes room. Call leave after the write.
type admission struct {
	leave func()
	last  uint64 // the ledger's last sequence that it holds for; 0: any
}

// guard makes the server reject m where the admission no longer holds.
func (a admission) guard(m *nats.Msg) {
	m.Header.Del(jetstream.ExpectedLastSeqHeader)
	if a.last > 0 {
		m.Header.Set(jetstream.ExpectedLastSeqHeader, strconv.FormatUint(a.last, 10))
	}
}

// admit returns the permission to reserve room for so many messages more, or ErrFull. Writes into
// reserved room are always admitted. Other errors are worth another try.
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
		return admission{}, ErrFull
	}
	left, last, err := r.left(ctx, need)
	if err == nil && left < need {
		r.refused, r.wanted, err = now, need, ErrFull
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

// left returns how many bytes are not reserved, possibly fewer than none, and the ledger's last
// sequence at that time. It waits for the board only where that decides whether need fits.
func (r *room) left(ctx context.Context, need int64) (int64, uint64, error) {
	ledger, err := r.conn.Stream(ctx, bus.LedgerStream)
	if err != nil {
		return 0, 0, bus.Unavailable("ask for the ledger's size", err)
	}
	info := ledger.CachedInfo()
	last := info.State.LastSeq
	free := r.free(info)
	if r.board == nil {
		return free - max(info.Config.MaxBytes, 0)/10 - r.underWay, last, nil
	}
	kept := func() int64 {
		// All unread messages may be new bookings. The board's position is read first, so that what
		// it learns meanwhile counts twice rather than not at all.
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

// wholeLife is the number of messages for which a new booking reserves room.
var wholeLife = new(booking.Booking).Growth(booking.Requested)

// free returns how many bytes the ledger and its disk have free.
func (r *room) free(info *jetstream.StreamInfo) int64 {
	free := int64(1 << 60)
	if most := info.Config.MaxBytes; most > 0 {
		free = most - most/ledgerSpare - int64(info.State.Bytes)
	}
	if r.disk != nil {
		if total, rest, known := r.disk(); known {
			free = min(free, rest-bus.SpareRoom(total))
		}
	}
	return free
}

// Room returns nil when there is room for a new booking, ErrFull when the rest is reserved, or why
// that is unknown.
func (l *Ledger) Room(ctx context.Context) error {
	if err := l.room.enter(ctx); err != nil {
		return err
	}
	defer l.room.exit()
	need := int64(wholeLife) * messageRoom
	left, _, err := l.room.left(ctx, need)
	if err == nil && left < need {
		return ErrFull.Because(fmt.Errorf("%d KiB are left, and a booking reserves %d KiB", max(left, 0)>>10, need>>10))
	}
	return err
}

// refusedFor explains why the server does not store messages: it returns ErrNoRoom where there is
// no room for them, and nil otherwise.
func (r *room) refusedFor(ctx context.Context, msgs []*nats.Msg) error {
	ledger, err := r.conn.Stream(ctx, bus.LedgerStream)
	if err != nil {
		return bus.Unavailable("ask for the ledger's size", err)
	}
	info := ledger.CachedInfo()
	var size int64
	for _, m := range msgs {
		size += int64(m.Size())
	}
	if most := info.Config.MaxBytes; most > 0 && int64(info.State.Bytes)+max(size,
		int64(len(msgs)*messageRoom)) > most {
		return ErrNoRoom
	}
	return nil
}
