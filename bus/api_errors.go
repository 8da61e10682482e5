package bus

import (
	"errors"

	"github.com/nats-io/nats.go/jetstream"
)

// Error codes of the JetStream API that nats.go does not name.
const (
	CodeWrongLastSequence jetstream.ErrorCode = 10071 // the guard is stale
	CodeStoreFailed       jetstream.ErrorCode = 10077 // the subject is taken, or the stream is full
	CodeDuplicateInFlight jetstream.ErrorCode = 10158 // the same message ID is being stored
	CodeGuardInFlight     jetstream.ErrorCode = 10164 // a write with the same guard is being stored
	CodeBatchIncomplete   jetstream.ErrorCode = 10176
	CodeBatchDuplicate    jetstream.ErrorCode = 10201 // the same batch has been stored before
	CodeTooManyBatches    jetstream.ErrorCode = 10210

	codeNoPeers               jetstream.ErrorCode = 10005
	codeInsufficientResources jetstream.ErrorCode = 10023
	codeNoMessageFound        jetstream.ErrorCode = 10037
	codeInsufficientStorage   jetstream.ErrorCode = 10047
)

// APIError returns the server's answer in err, or a zero value where the server has not answered.
func APIError(err error) jetstream.APIError {
	var api jetstream.JetStreamError
	if !errors.As(err, &api) || api.APIError() == nil {
		return jetstream.APIError{}
	}
	return *api.APIError()
}
