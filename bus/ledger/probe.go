package ledger

import (
	"context"
	"errors"
	"strconv"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// probeLedger asks the ledger's store to store once more what it has, the last event of a kind. It
// never does, for each subject is taken for good; that it says so shows that it is at work.
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
			jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(last.Seq, 10)}, // were it gone it would not be stored anew
		}}, jetstream.WithExpectStream(bus.LedgerStream), jetstream.WithRetryAttempts(0))
		var api *jetstream.APIError
		if errors.As(err, &api) && api.ErrorCode == bus.CodeStoreFailed {
			return nil
		}
		return err
	}
}
