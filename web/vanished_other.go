//go:build !linux

package web

import (
	"net"
	"time"
)

// setUserTimeout does nothing: this system retries for as long as it likes.
func setUserTimeout(*net.TCPConn, time.Duration) {}
