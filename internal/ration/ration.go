// Package ration keeps strangers from filling the log. [Lines] decides which lines are written.
package ration

import (
	"sync"
	"time"
)

// Lines rations lines that anybody can cause: one a second is written, and the others are counted.
// The zero value is ready, and safe for concurrent use.
type Lines struct {
	mu     sync.Mutex
	last   time.Time
	missed int
}

// every is the time between two lines.
const every = time.Second

// Next reports whether a line may be written now, and how many were not since the last one that
// was. A line that may be written counts as written.
func (l *Lines) Next(now time.Time) (missed int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if since := now.Sub(l.last); 0 <= since && since < every { // a clock may be set back
		l.missed++
		return 0, false
	}
	missed, l.missed, l.last = l.missed, 0, now
	return missed, true
}
