package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/internal/fault"
)

// LedgerOptions are a Ledger's settings. Source and Tokens are required.
type LedgerOptions struct {
	Source string        // the service that writes, as ce-source says it: "/usersvc"
	Tokens TokenVerifier // verifies what is read
	// Shown returns the sequence of the newest event of a booking that this process shows to people, or 0: its board's LastSeq.
	// A fresh read reaches at least there. nil: nothing is shown.
	Shown func(booking.ID) uint64
	Now   func() time.Time
	NewID func() string
	// Board is what the room is reckoned by that the bookings of the ledger still need: somebody else feeds it. Without one only nine
	// tenths of the ledger are for new bookings.
	Board *board.Board
	Disk  Disk // what the ledger is on; nil: a server elsewhere sees to that
	// ForgetEvery is how often a board is rid of what has aged out of the ledger; a minute by default.
	ForgetEvery time.Duration
}

// A Ledger is the booking.Log on JetStream: the append is the state change, and there is no other. It needs neither the server
// nor the stream to be there when it is opened. It holds nothing that must be closed.
type Ledger struct {
	conn     *Conn
	js       jetstream.JetStream
	log      *slog.Logger
	metrics  *metrics
	verify   reverifier
	source   string
	now      func() time.Time
	newID    func() string
	appended atomic.Uint64 // the highest sequence that the leader has acknowledged
	shown    func(booking.ID) uint64

	forgetEvery time.Duration

	accepted *lru.Cache[booking.RiderID, *acceptances]
	room     *room
}

var _ booking.Log = (*Ledger)(nil)

// OpenLedger returns the ledger on c.
func OpenLedger(c *Conn, o LedgerOptions) (*Ledger, error) {
	if o.Tokens == nil || o.Source == "" {
		return nil, errors.New("open ledger: a source and a token verifier are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.NewID == nil {
		o.NewID = booking.NewID
	}
	if o.Shown == nil {
		o.Shown = func(booking.ID) uint64 { return 0 }
	}
	if o.ForgetEvery <= 0 {
		o.ForgetEvery = time.Minute
	}
	accepted, err := lru.New[booking.RiderID, *acceptances](mostAccepted)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	return &Ledger{
		accepted: accepted,
		conn:     c, js: c.js, log: c.log, metrics: c.metrics, verify: reverifier{o.Tokens},
		source: o.Source, now: o.Now, newID: o.NewID, forgetEvery: o.ForgetEvery, shown: o.Shown,
		room: &room{conn: c, board: o.Board, disk: o.Disk, now: o.Now, turn: make(chan struct{}, 1)},
	}, nil
}

const (
	// appendPatience is how long one append is tried before its outcome is called unknown. A killed leader is replaced
	// within 5 to 8 seconds.
	appendPatience = 10 * time.Second
	// attemptPatience is how long one try waits for its ack. Shorter ones only pile retries up behind a busy server.
	attemptPatience = time.Second
	// batchPatience is the same for a batch, which costs a server on its own three writes to the disk.
	batchPatience = 2 * time.Second
	// maxBatches is how many batches one process has under way: with more, a stream refuses some (50 at most), and a crowd that wants the same
	// booking only keeps the server from saying who has got it.
	maxBatches = 8
)

// Append stores the events of one command, all or none, guarded by the history that they were decided upon, and returns that
// history with them. One event is one guarded publish, several are one atomic batch.
//
// booking.ErrMoved says for certain that nothing was stored because the booking has moved on. ErrLedgerFull says that nothing
// booking.ErrMoved says for certain that nothing was stored because the booking has moved on. ErrLedgerFull says that nothing
// was stored because the room is kept for other bookings, ErrNoRoom because there is none, and ErrUnavailable because it could not
// be sent, or was refused for the moment. ErrOutcomeUnknown leaves the question open: the same command may be tried again, for its
// command id is found in the history if it was stored after all.
//
// A lost ack does not become a wrong answer: the same message ids and guards are sent again, and where the server then says
// that the guard is stale or the subject taken, the leader is asked whether what is there is ours.
func (l *Ledger) Append(ctx context.Context, c booking.Command, id booking.ID, after booking.History, events ...booking.Event) (booking.History, error) {
	if len(events) == 0 {
		return after, nil
	}
	return l.append(ctx, c, id, after, events, nil)
}

// append stores events, and where they engage a rider, the record of that before them.
func (l *Ledger) append(ctx context.Context, c booking.Command, id booking.ID, after booking.History, events []booking.Event, engages *engagement) (booking.History, error) {
	sent, msgs, err := l.prepare(ctx, c, id, after, events)
	if err != nil {
		return booking.History{}, err
	}
	if engages != nil {
		m, err := engages.message(sent[0], l.source, c.Proof)
		if err != nil {
			return booking.History{}, err
		}
		msgs = append([]*nats.Msg{m}, msgs...)
	}
	if err := l.conn.reachable(); err != nil {
		return booking.History{}, err
	}
	asked := ctx
	ctx, cancel := context.WithTimeout(ctx, appendPatience)
	defer cancel()

	unknown := false          // whether an earlier try may have been stored
	var silent error          // what the last try came to, where the server did not say that it stored or refused it
	var moved booking.History // what others have made of the booking
	grows := growth(after.Booking, events)
	try := func() (uint64, error) {
		admitted, err := l.room.admit(ctx, grows)
		if err != nil && !certain(err) {
			return 0, err // and nothing was sent
		}
		var seq uint64
		if err == nil {
			admitted.guard(msgs[0])
			seq, err = l.publish(ctx, msgs)
			admitted.leave()
		}
		silent = nil
		switch outcomeOf(err) {
		case wrote:
			return seq, nil
		case refused:
			return 0, backoff.Permanent(err)
		case decided: // by a write that may be our own
			why := err
			seq, moved, err = l.readBack(ctx, id, sent, after.Revision, engages, func() error { return l.whyNot(ctx, msgs, why) })
			if errors.Is(err, errAdmission) {
				return 0, err // ask for room again
			}
			if err != nil && !certain(err) {
				unknown = true
				return 0, err
			}
			if err != nil {
				return 0, backoff.Permanent(err)
			}
			return seq, nil
		default:
			if !unsent(err) {
				unknown, silent = true, err
			}
			l.metrics.attempts.WithLabelValues("retried").Inc()
			return 0, err
		}
	}
	seq, err := backoff.Retry(ctx, try, backoff.WithBackOff(newBackOff()), backoff.WithMaxElapsedTime(appendPatience))
	if errors.Is(err, booking.ErrMoved) {
		return moved, err
	}
	if silent != nil {
		l.conn.notStored(asked, LedgerStream, silent, l.conn.probeLedger(sent[0].Kind))
	}
	if err != nil {
		return booking.History{}, l.appendFailed(err, unknown)
	}
	l.conn.writes.stored(LedgerStream)
	l.metrics.attempts.WithLabelValues("stored").Inc()
	raise(&l.appended, seq)
	next := after.Clone()
	for i, e := range sent {
		e.Seq = seq - uint64(len(sent)-1-i) // a batch is stored without a gap
		if err := next.Apply(e); err != nil {
			return booking.History{}, fmt.Errorf("apply %s to booking %s after it was stored: %w", e.Kind, id, err)
		}
		next.Events = append(next.Events, e)
		l.metrics.appended.WithLabelValues(string(e.Kind)).Inc()
	}
	next.Revision = seq
	return next, nil
}

// prepare gives the events their ids and positions, checks that they follow, and makes their messages.
func (l *Ledger) prepare(ctx context.Context, c booking.Command, id booking.ID, after booking.History, events []booking.Event) ([]booking.Event, []*nats.Msg, error) {
	thread := after.EventSequencer.Clone()
	sent := make([]booking.Event, 0, len(events))
	msgs := make([]*nats.Msg, 0, len(events))
	decided := l.now()
	for i, e := range events {
		e.ID, e.Booking, e.Command, e.Request = booking.EventID(l.newID()), id, c.ID, c.Request
		e.N, e.Decided, e.At = thread.Next(e.Kind), decided, decided
		e.Seq = after.Revision + 1 + uint64(i) // until the server says which
		if err := thread.Apply(e); err != nil {
			return nil, nil, fmt.Errorf("append %s to booking %s: %w", e.Kind, id, err)
		}
		m, err := encode(e, l.source, c.Proof, after.Revision)
		if err != nil {
			return nil, nil, err
		}
		carryTrace(ctx, m.Header)
		sent, msgs = append(sent, e), append(msgs, m)
	}
	return sent, msgs, nil
}

// publish sends the messages once and returns the sequence of the last one.
func (l *Ledger) publish(ctx context.Context, msgs []*nats.Msg) (uint64, error) {
	if len(msgs) == 1 {
		ctx, cancel := context.WithTimeout(ctx, attemptPatience)
		defer cancel()
		ack, err := l.conn.publish(ctx, msgs[0], jetstream.WithExpectStream(LedgerStream), jetstream.WithRetryAttempts(0))
		if err != nil {
			return 0, err
		}
		if ack.Duplicate { // something with our message id is there; whether it is ours is for the leader to say
			return 0, errAckedBefore
		}
		return ack.Sequence, nil
	}
	leave, err := l.enter(ctx, msgs[len(msgs)-1])
	if err != nil {
		return 0, err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, batchPatience)
	defer cancel()
	if err := l.conn.link.wait(ctx); err != nil {
		return 0, err
	}
	b, err := jetstreamext.NewBatchPublisher(l.js, jetstreamext.BatchFlowControl{AckFirst: false, AckTimeout: batchPatience})
	if err != nil {
		return 0, err
	}
	for _, m := range msgs[:len(msgs)-1] {
		if err := b.AddMsg(m); err != nil {
			return 0, err
		}
	}
	ack, err := b.CommitMsg(ctx, msgs[len(msgs)-1])
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// enter waits until there is room for one more batch, and returns what makes it free again. Where that took a while and the aggregate of m has moved
// on meanwhile it returns errOvertaken: to ask is cheaper than to be refused.
func (l *Ledger) enter(ctx context.Context, m *nats.Msg) (leave func(), err error) {
	leave = func() { <-l.conn.batches }
	select {
	case l.conn.batches <- struct{}{}:
		return leave, nil
	default:
	}
	select {
	case l.conn.batches <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errNoTurn, ctx.Err())
	}
	last, err := l.conn.leaderGet(ctx, LedgerStream, getRequest{LastFor: m.Header.Get(jetstream.ExpectedLastSubjSeqSubjHeader)})
	if err == nil && strconv.FormatUint(last.seq, 10) != m.Header.Get(jetstream.ExpectedLastSubjSeqHeader) {
		leave()
		return nil, errOvertaken
	}
	return leave, nil // or the server will say what is wrong
}

// Why a place may be taken, without the server's having refused anything.
var (
	errAckedBefore = errors.New("acknowledged as a duplicate")
	errOvertaken   = errors.New("overtaken by another write")
)

// errNoTurn is that a write was not tried, because too many others were under way.
var errNoTurn = errors.New("too many writes were under way")

// unsent reports whether a try whose outcome is open has itself stored nothing, for certain: it never left this process, or the
// server has said that it did not take it for the moment.
func unsent(err error) bool {
	for _, local := range []error{errLinkDown, errNoTurn, nats.ErrReconnectBufExceeded} {
		if errors.Is(err, local) {
			return true
		}
	}
	var api jetstream.JetStreamError
	if !errors.As(err, &api) || api.APIError() == nil {
		return false
	}
	switch api.APIError().ErrorCode {
	case errGuardInFlight, errBatchIncomplete, errTooManyBatches:
		return true
	}
	return false
}

// An outcome is what the answer to a write says about it.
type outcome uint8

const (
	open    outcome = iota // nothing for certain: try again with the same ids and guards
	wrote                  // stored, by this try
	decided                // not stored by this try, perhaps by an earlier one of ours: read back
	refused                // never stored, and never will be
)

func outcomeOf(err error) outcome {
	if err == nil {
		return wrote
	}
	if errors.Is(err, errAckedBefore) || errors.Is(err, errOvertaken) || errors.Is(err, ErrLedgerFull) {
		return decided
	}
	var api jetstream.JetStreamError
	if !errors.As(err, &api) || api.APIError() == nil {
		return open // timeout, no responders, not connected
	}
	switch api.APIError().ErrorCode {
	case errWrongLastSequence, errStoreFailed, errBatchDuplicate:
		return decided
	case errDuplicateInFlight, errGuardInFlight, errBatchIncomplete, errTooManyBatches:
		return open
	}
	if api.APIError().Code >= 500 {
		return open
	}
	return refused
}

// certain reports whether err says for certain that nothing was stored, nor will be.
func certain(err error) bool {
	return errors.Is(err, booking.ErrMoved) || errors.Is(err, booking.ErrNotForYou) || errors.Is(err, ErrLedgerFull) || errors.Is(err, ErrNoRoom)
}

// whyNot tells why messages were not stored although nobody else has written in their place: there is no room, or the message id is
// burnt by a message that is not ours, which is no error. A new decision has new ids, so only a full ledger stays refused.
func (l *Ledger) whyNot(ctx context.Context, msgs []*nats.Msg, err error) error {
	var api jetstream.JetStreamError
	switch guarded := msgs[0].Header.Get(jetstream.ExpectedLastSeqHeader) != ""; {
	case errors.Is(err, ErrLedgerFull):
		return err
	case guarded && errors.As(err, &api) && api.APIError() != nil && api.APIError().ErrorCode == errWrongLastSequence:
		return errAdmission
	}
	return l.room.refusedFor(ctx, msgs)
}

// readBack asks the leader whether events, as they were sent, are in the history. It returns the sequence of the last one,
// booking.ErrMoved and the history where others are in their place, or whyNot's error where nobody is. Where only the rider that they
// engage has moved on it returns booking.ErrMoved, and booking.ErrNotForYou where the rider's record has been there before.
func (l *Ledger) readBack(ctx context.Context, id booking.ID, sent []booking.Event, guard uint64, engages *engagement,
	whyNot func() error,
) (uint64, booking.History, error) {
	h, err := l.Load(ctx, id, booking.Fresh)
	if err != nil {
		return 0, booking.History{}, err
	}
	want := sent[len(sent)-1]
	for _, e := range h.Events {
		if e.ID == want.ID && e.Command == want.Command {
			return e.Seq, booking.History{}, nil
		}
	}
	if h.Revision == guard && engages != nil {
		if moved, err := engages.moved(ctx, l); moved || err != nil {
			l.metrics.attempts.WithLabelValues("moved").Inc()
			return 0, booking.History{}, cmp.Or(err, error(booking.ErrMoved))
		}
	}
	if h.Revision == guard {
		if err := whyNot(); err != nil {
			if certain(err) {
				l.metrics.attempts.WithLabelValues("full").Inc()
			}
			return 0, booking.History{}, err
		}
	}
	l.metrics.attempts.WithLabelValues("moved").Inc()
	return 0, h, booking.ErrMoved
}

func (l *Ledger) appendFailed(err error, unknown bool) error {
	var f *fault.Error
	switch {
	case certain(err):
		return err
	case unknown:
		l.metrics.attempts.WithLabelValues("unknown").Inc()
		return ErrOutcomeUnknown.Because(err)
	case errors.As(err, &f):
		return err
	}
	return errNotRecorded.Because(fmt.Errorf("append: %w", err))
}

// raise makes v at least to.
func raise(v *atomic.Uint64, to uint64) {
	for have := v.Load(); have < to && !v.CompareAndSwap(have, to); have = v.Load() {
	}
}

// Appended returns the highest sequence that this Ledger has appended: a board that has reached it includes this process's own
// writes.
func (l *Ledger) Appended() uint64 { return l.appended.Load() }

// LedgerAge returns how long the ledger keeps events, from its leader. Errors are of kind fault.Unavailable.
func (c *Conn) LedgerAge(ctx context.Context) (time.Duration, error) {
	if err := c.reachable(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, attemptPatience)
	defer cancel()
	s, err := c.stream(ctx, LedgerStream)
	if err != nil {
		return 0, unavailable("look at the ledger", err)
	}
	return s.CachedInfo().Config.MaxAge, nil
}
