package bustest

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// Main runs the tests of a package, and returns the exit status. It fails if goroutines are left
// after all servers and connections have been stopped. Call it in TestMain.
func Main(m *testing.M) int {
	code := m.Run()
	if code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, "goroutines left after all servers and connections were stopped:", err)
		return 1
	}
	return 0
}
