package bus

import "github.com/nats-io/nats.go/jetstream"

// Error codes of the JetStream API that nats.go has no names for. What each one means for a write is told in [Ledger.Append].
const (
	codeInsufficientResources jetstream.ErrorCode = 10023
	codeNoMessageFound        jetstream.ErrorCode = 10037
	codeInsufficientStorage   jetstream.ErrorCode = 10047
	codeNoPeers               jetstream.ErrorCode = 10005

	CodeWrongLastSequence jetstream.ErrorCode = 10071 // the guard is stale
	CodeStoreFailed       jetstream.ErrorCode = 10077 // the subject is taken, or the stream is full
	CodeDuplicateInFlight jetstream.ErrorCode = 10158 // our own message id is being stored
	CodeGuardInFlight     jetstream.ErrorCode = 10164 // a write with the same guard is being stored
	CodeBatchIncomplete   jetstream.ErrorCode = 10176
	CodeBatchDuplicate    jetstream.ErrorCode = 10201 // our own batch has been stored before
	CodeTooManyBatches    jetstream.ErrorCode = 10210
)
