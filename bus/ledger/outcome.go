package ledger

import (
	"context"
	"errors"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
)

// An outcome is what the answer to a write says about it.
type outcome uint8

const (
	open    outcome = iota // nothing for certain: try again with the same IDs and guards
	wrote                  // stored, by this try
	decided                // not stored by this try, perhaps by an earlier one: read back
	refused                // not stored, and never will be
)

func outcomeOf(err error) outcome {
	if err == nil {
		return wrote
	}
	if errors.Is(err, errAckedBefore) || errors.Is(err, errOvertaken) || errors.Is(err, ErrFull) {
		return decided
	}
	api := bus.APIError(err)
	switch api.ErrorCode {
	case bus.CodeWrongLastSequence, bus.CodeStoreFailed, bus.CodeBatchDuplicate:
		return decided
	case bus.CodeDuplicateInFlight, bus.CodeGuardInFlight, bus.CodeBatchIncomplete, bus.CodeTooManyBatches:
		return open
	}
	if api.Code == 0 || api.Code >= 500 { // 0: a timeout, no responders, or no connection
		return open
	}
	return refused
}

// Reasons to read back although the server has rejected nothing.
var (
	errAckedBefore = errors.New("acknowledged as a duplicate")
	errOvertaken   = errors.New("overtaken by another write")
)

// errNoTurn says that a write was not tried, because too many others were in flight.
var errNoTurn = errors.New("too many writes were under way")

// certain reports whether err says for certain that nothing was stored, nor will be.
func certain(err error) bool {
	return errors.Is(err, booking.ErrMoved) || errors.Is(err, booking.ErrNotForYou) || errors.Is(err, ErrFull) ||
		errors.Is(err, ErrNoRoom)
}

// unsent reports whether an open try has certainly stored nothing itself: it never left this
// process, or the server has said that it did not accept the write for the moment.
func unsent(err error) bool {
	for _, local := range []error{bus.ErrDown, errNoTurn, nats.ErrReconnectBufExceeded} {
		if errors.Is(err, local) {
			return true
		}
	}
	switch bus.APIError(err).ErrorCode {
	case bus.CodeGuardInFlight, bus.CodeBatchIncomplete, bus.CodeTooManyBatches:
		return true
	}
	return false
}

// probe returns a function that asks the ledger's store to store its last event of a kind again.
// The store never does, because each subject is immutable; saying so, it shows that it works.
func (l *Ledger) probe(kind booking.Kind) func(context.Context) error {
	return func(ctx context.Context) error {
		last, err := l.conn.Last(ctx, bus.LedgerStream, bus.EventPattern(kind))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil // the next write will tell
		}
		if err != nil {
			return err
		}
		_, err = l.conn.Publish(ctx, &nats.Msg{Subject: last.Subject, Header: nats.Header{
			// Without this guard an event that has just aged would be stored again.
			jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(last.Seq, 10)},
		}}, once...)
		if bus.APIError(err).ErrorCode == bus.CodeStoreFailed {
			return nil
		}
		return err
	}
}
