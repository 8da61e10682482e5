//go:build !unix

package program

// FileLimit returns 0: this system has no such limit.
func FileLimit() int { return 0 }
