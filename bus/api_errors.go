package bus

import (
	"errors"
	"regexp"
	"strconv"
	"strings"

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
	codeStorageExceeded       jetstream.ErrorCode = 10047
	codeReplicasNotSupported  jetstream.ErrorCode = 10074 // the server is not one of a cluster
)

// innerCode is at the end of the description of a failed restore: the code of its cause.
var innerCode = regexp.MustCompile(`\((\d{5})\)$`)

// causeOf returns the server's answer in err, with the code of its cause if it names one.
func causeOf(err error) jetstream.APIError {
	api := APIError(err)
	if found := innerCode.FindStringSubmatch(api.Description); found != nil {
		code, _ := strconv.ParseUint(found[1], 10, 16) // five digits that do not fit are no code
		api.ErrorCode = jetstream.ErrorCode(code)
	}
	return api
}

// LacksStorage reports whether err says that NATS has too little file storage for a stream. A
// cluster says so by finding no server for it.
func LacksStorage(err error) bool {
	api := causeOf(err)
	return api.ErrorCode == codeStorageExceeded ||
		api.ErrorCode == codeNoPeers && strings.Contains(api.Description, "storage")
}

// LacksServers reports whether err says that NATS has too few servers for a number of replicas.
func LacksServers(err error) bool {
	switch causeOf(err).ErrorCode {
	case codeNoPeers, codeInsufficientResources, codeReplicasNotSupported:
		return !LacksStorage(err)
	}
	return false
}

// APIError returns the server's answer in err, or a zero value where the server has not answered.
func APIError(err error) jetstream.APIError {
	var api jetstream.JetStreamError
	if !errors.As(err, &api) || api.APIError() == nil {
		return jetstream.APIError{}
	}
	return *api.APIError()
}
