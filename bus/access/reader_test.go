package access_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/bustest"
)

// All instances of a service share an account. One whose key was stolen can have an answer sent to
// where the others hear the ledger, with a message of its own bucket in it. They take nothing for
// an event that is not in the ledger.
func TestReaderTakesNothingFromOtherStreams(t *testing.T) {
	t.Parallel()
	e := bustest.RunClosed(t, false)
	evil, good := e.ConnectAs(t, access.Usersvc), e.ConnectAs(t, access.Usersvc)
	stream, err := good.Stream(t.Context(), bus.LedgerStream)
	if err != nil {
		t.Fatal(err)
	}
	r, err := good.Read(t.Context(), stream, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for seq := range 3 { // the ledger's next sequence is among them
		// The header that an answer lacks, to make it look like what NATS republishes.
		ack, err := evil.JetStream().PublishMsg(t.Context(), &nats.Msg{Subject: "$KV.BOARDS.x" + strconv.Itoa(seq),
			Header: nats.Header{"Nats-Last-Sequence": {"0"}}, Data: []byte("forged")})
		if err != nil {
			t.Fatal(err)
		}
		for _, body := range []string{`{"seq":%d}`, `{"seq":%d,"batch":1}`} {
			if err := evil.NATS().PublishRequest("$JS.API.DIRECT.GET.KV_BOARDS", "booking."+b+".1.requested",
				[]byte(strings.ReplaceAll(body, "%d", strconv.FormatUint(ack.Sequence, 10)))); err != nil {
				t.Fatal(err)
			}
		}
	}
	// An answer of its own comes after the others.
	if _, err := evil.Get(t.Context(), bus.BucketStream(bus.BoardsBucket), bus.GetRequest{Seq: 1}); err != nil {
		t.Fatal(err)
	}
	subject := bus.BookingPrefix + booking.NewID() + ".1.requested"
	if _, err := evil.JetStream().PublishMsg(t.Context(), &nats.Msg{Subject: subject, Data: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	m, _, err := r.Next()
	if err != nil || m.Subject != subject || m.Seq != 1 {
		t.Errorf("read %s as message %d, %v, want %s", m.Subject, m.Seq, err, subject)
	}
}
