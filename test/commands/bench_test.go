package commands

import (
	"os"
	"testing"

	"github.com/example/pillion/test/proctest"
)

// BenchmarkStop measures how long it takes from a signal to its end, when nobody asks for anything and when a client does not finish its
// request. Less than two seconds are wanted.
func BenchmarkStop(b *testing.B) {
	for _, c := range []struct {
		name string
		busy bool
	}{{"idle", false}, {"a request under way", true}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				p := proctest.Pillion(b, b.TempDir())
				if c.busy {
					hold(b, p)
				}
				b.StartTimer()
				p.Signal(b, os.Interrupt)
				p.Wait(b)
			}
		})
	}
}
