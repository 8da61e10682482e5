package bus

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// The codes are those that the server gives to what their names say.
func TestServerCodes(t *testing.T) {
	for code, want := range map[jetstream.ErrorCode]server.ErrorIdentifier{
		CodeWrongLastSequence:     server.JSStreamWrongLastSequenceErrF,
		CodeStoreFailed:           server.JSStreamStoreFailedF,
		CodeDuplicateInFlight:     server.JSStreamDuplicateMessageConflict,
		CodeGuardInFlight:         server.JSStreamWrongLastSequenceConstantErr,
		CodeBatchIncomplete:       server.JSAtomicPublishIncompleteBatchErr,
		CodeBatchDuplicate:        server.JSAtomicPublishContainsDuplicateMessageErr,
		CodeTooManyBatches:        server.JSAtomicPublishTooManyInflight,
		codeNoPeers:               server.JSClusterNoPeersErrF,
		codeInsufficientResources: server.JSInsufficientResourcesErr,
		codeNoMessageFound:        server.JSNoMessageFoundErr,
		codeStorageExceeded:       server.JSStorageResourcesExceededErr,
		codeReplicasNotSupported:  server.JSStreamReplicasNotSupportedErr,
	} {
		if code != jetstream.ErrorCode(want) {
			t.Errorf("the code is %d, and the server's is %d", code, want)
		}
	}
}

// Only a server without room for a stream is told to have too little storage.
func TestWhatNATSLacks(t *testing.T) {
	const noPeers = "no suitable peers for placement"
	for _, c := range []struct {
		code             server.ErrorIdentifier
		says             string
		storage, servers bool
	}{
		{server.JSStorageResourcesExceededErr, "", true, false},
		{server.JSClusterNoPeersErrF, noPeers + ", insufficient storage", true, false},
		{server.JSClusterNoPeersErrF, noPeers, false, true},
		{server.JSInsufficientResourcesErr, "", false, true},
		{server.JSStreamReplicasNotSupportedErr, "", false, true},
		{server.JSMemoryResourcesExceededErr, "", false, false}, // all streams are files
		{server.JSStreamCreateErrF, "", false, false},           // whatever is wrong
		{server.JSStreamRestoreErrF, "restore failed: EOF", false, false},
		{server.JSStreamRestoreErrF, "restore failed: replicas > 1 not supported in non-clustered mode (10074)", false, true},
		{server.JSStreamRestoreErrF, "restore failed: insufficient storage resources available (10047)", true, false},
	} {
		err := &jetstream.APIError{ErrorCode: jetstream.ErrorCode(c.code), Description: c.says}
		if got := LacksStorage(err); got != c.storage {
			t.Errorf("code %d %q: it lacks storage: %v", c.code, c.says, got)
		}
		if got := LacksServers(err); got != c.servers {
			t.Errorf("code %d %q: it lacks servers: %v", c.code, c.says, got)
		}
	}
}
