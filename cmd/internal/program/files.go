//go:build unix

package program

import (
	"math"
	"syscall"
)

// FileLimit returns how many files and connections this process may have open at a time, or 0 if
// that is not known. Go has raised the limit to the highest that the system allows.
func FileLimit() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	return int(min(uint64(l.Cur), math.MaxInt32)) //nolint:unconvert // it is signed on some systems
}
