package commands

import (
	"os"
	"testing"

	"github.com/example/pillion/test/proctest"
)

// BenchmarkStop measures the time from a signal to the end of the process, without requests and
// with a client that does not finish its request. The target is less than two seconds.
func BenchmarkStop(b *testing.B) {
	for _, c := range []struct {
		name string
		busy bool
	}{{"idle", false}, {"a request in progress", true}} {
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
