// Package bench measures the built programs from outside. docs/performance.md holds what it prints,
// and says what each line means.
//
// Start with [BenchmarkTable] (`make bench`), and with [BenchmarkHistory], [BenchmarkFollowers] and
// [BenchmarkCluster] (`make bench-curves`). The load is in this process, and what is measured is in
// others. Systems that are compared take turns: while it is the turn of one, the processes of the
// other are stopped. A turn ends when the system has done all that follows from what it has
// acknowledged.
package bench

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/example/pillion/test/proctest"
)

var (
	turnTime = flag.Duration("turn", 3*time.Second, "how long clients work in one turn")
	pairs    = flag.Int("pairs", 5, "how many turns each of two systems takes")
	crowd    = flag.Int("riders", 1024, "accounts of riders; a turn accepts once for each at most")
	ours     = flag.String("ours", "", "folder with the programs to measure (default: built from this source)")
	before   = flag.String("before", "", "folder with the programs of another commit, to compare with")
	env      = flag.String("env", "", "settings to measure, NAME=value, separated by spaces; without -before they are compared with none")
	only     = flag.String("only", "", "the one task to measure, without the notes below the table (default: all)")
	spans    = flag.String("collector", "", "address at which a collector takes spans and drops them (default: none)")
	sizes    = flag.String("history", "10000,100000,1000000", "sizes of the ledger to measure at, in messages")
	charts   = flag.String("charts", "", "file for the charts, as JSON (default: none)")
)

func TestMain(m *testing.M) {
	if args := os.Getenv(bareEnv); args != "" {
		fmt.Fprintln(os.Stderr, bareMain(args))
		os.Exit(1)
	}
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() == "" { // the tests of this package need no program
		os.Exit(m.Run())
	}
	if *spans != "" {
		go func() {
			fmt.Fprintln(os.Stderr, http.ListenAndServe(*spans, http.HandlerFunc(collect)))
			os.Exit(1)
		}()
	}
	os.Exit(proctest.Main(m))
}

// collected is how many bytes of spans the collector has taken.
var collected atomic.Int64

// collect is the handler of a collector that takes spans and drops them.
func collect(_ http.ResponseWriter, r *http.Request) {
	n, _ := io.Copy(io.Discard, r.Body) // what does not arrive is dropped too
	collected.Add(n)
}

// beside returns the name and the programs of the second side: those of another commit, or the same
// ones without -env. Without either there is none, and the name is "".
func beside() (name, folder string) {
	switch {
	case *before != "":
		return "before", *before
	case *env != "":
		return "this without -env", programs()
	}
	return "", ""
}

// settingsOf returns the settings of the programs of a side.
func settingsOf(side string) []string {
	if side != "this" {
		return settings
	}
	return slices.Concat(settings, strings.Fields(*env))
}
