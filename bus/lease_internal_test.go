package bus

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A leader's word counts while it has recently heard from a majority, itself included.
func TestHasQuorum(t *testing.T) {
	const lately, long = heardLately - 1, heardLately
	for _, test := range []struct {
		name   string
		active []time.Duration // since each other replica was heard; nil: there are none
		led    bool
		by     string // the leader; "": there is none
	}{
		{"one server", nil, true, "n1"},
		{"three that talk", []time.Duration{lately, lately}, true, "n1"},
		{"one of three is gone", []time.Duration{lately, long}, true, "n1"},
		{"cut off", []time.Duration{long, long}, false, "n1"},
		{"new, and nobody has answered yet", []time.Duration{0, 0}, false, "n1"},
		{"new, and one has answered", []time.Duration{0, lately}, true, "n1"},
		{"two of four others", []time.Duration{lately, lately, long, long}, true, "n1"},
		{"one of four others", []time.Duration{lately, long, long, long}, false, "n1"},
		{"a replica, while nobody leads", []time.Duration{lately, lately}, false, ""},
		{"half of them is not most of them", []time.Duration{lately, long, long}, false, "n1"},
	} {
		info := &jetstream.StreamInfo{}
		if test.active != nil {
			info.Cluster = &jetstream.ClusterInfo{Leader: test.by}
			for _, d := range test.active {
				info.Cluster.Replicas = append(info.Cluster.Replicas, &jetstream.PeerInfo{Current: true, Active: d})
			}
		}
		if err := hasQuorum(info); (err == nil) != test.led || err != nil && !errors.Is(err, errNoQuorum) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
