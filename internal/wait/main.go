package wait

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Main runs the tests of a package, and returns the exit status. It fails if goroutines are still
// left after [Patience]: some end late, such as those of the resolver, which nothing can cancel.
// Call it in TestMain.
func Main(m *testing.M) int {
	if code := m.Run(); code != 0 {
		return code
	}
	over := time.Now().Add(Patience)
	for {
		err := goleak.Find()
		if err == nil {
			return 0
		}
		if time.Now().After(over) {
			fmt.Fprintln(os.Stderr, "goroutines are left after all tests:", err)
			return 1
		}
	}
}
