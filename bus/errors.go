package bus

import "github.com/nats-io/nats.go/jetstream"

// Error codes of the JetStream API that nats.go has no names for. What each one means for a write is told in [Ledger.Append].
const (
	errInsufficientResources jetstream.ErrorCode = 10023
	errNoMessageFound        jetstream.ErrorCode = 10037
	errInsufficientStorage   jetstream.ErrorCode = 10047
	errNoPeers               jetstream.ErrorCode = 10005

	errWrongLastSequence jetstream.ErrorCode = 10071 // the guard is stale
	errStoreFailed       jetstream.ErrorCode = 10077 // the subject is taken, or the stream is full
	errDuplicateInFlight jetstream.ErrorCode = 10158 // our own message id is being stored
	errGuardInFlight     jetstream.ErrorCode = 10164 // a write with the same guard is being stored
	errBatchIncomplete   jetstream.ErrorCode = 10176
	errBatchDuplicate    jetstream.ErrorCode = 10201 // our own batch has been stored before
	errTooManyBatches    jetstream.ErrorCode = 10210
)
