package throttle

// Locks is the number of locks that all counters share.
const Locks = locks

// LockOf returns the index of a counter's lock.
func LockOf(parts ...string) int { return lockOf(counterKey(parts...)) }
