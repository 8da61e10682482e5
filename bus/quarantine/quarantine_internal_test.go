package quarantine

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/example/pillion/bus"
)

func TestRecordsKeepNoToken(t *testing.T) {
	const tok = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
	long := strings.Repeat("x", keptBody-10) + tok // the cut goes through it
	for name, m := range map[string]bus.Message{
		"in the header":  {Header: nats.Header{bus.HeaderToken: {bus.Bearer + tok}, "authorization": {tok}, "X-Other": {tok}}},
		"in an id":       {Header: nats.Header{bus.HeaderID: {tok}}},
		"in the subject": {Subject: "ledger." + tok},
		"in the body":    {Data: []byte(`{"token":"` + tok + `"}`)},
		"across the cut": {Data: []byte(long)},
		"many":           {Data: []byte(strings.Repeat(tok+" ", 400))},
	} {
		out := quarantined(m, "test")
		var all strings.Builder
		for k, vs := range out.Header {
			all.WriteString(k + strings.Join(vs, ""))
		}
		all.Write(out.Data)
		if strings.Contains(all.String(), "eyJ") {
			t.Errorf("%s: the record has (part of) a token: %s", name, all.String())
		}
		if len(out.Data) > keptBody {
			t.Errorf("%s: %d bytes of the body are kept", name, len(out.Data))
		}
	}
}
