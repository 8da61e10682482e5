package cmd_test

import (
	"os"
	"testing"

	"pillion/e2e/proctest"
)

// BenchmarkStart measures how long the whole system takes from its start until it says that it is ready, with an empty folder. Less than
// a second is wanted; most of what varies is how long it takes to find the primes of a key.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		p := proctest.Pillion(b, b.TempDir(), "--demo")
		b.StopTimer()
		p.Signal(b, os.Interrupt)
		p.Wait(b)
		b.StartTimer()
	}
}

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
