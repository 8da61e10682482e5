package throttle_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/authsvc/throttle"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/internal/fault"
)

// All locks are used about equally, so that tries for different accounts rarely wait for each
// other.
func TestAllLocksAreUsed(t *testing.T) {
	used := make(map[int]int)
	const keys = 10_000
	for n := range keys {
		used[throttle.LockOf("account", "user", fmt.Sprintf("kim%d@example.com", n))]++
	}
	if len(used) != throttle.Locks {
		t.Errorf("%d locks of %d are used", len(used), throttle.Locks)
	}
	for lock, n := range used {
		if n > 2*keys/throttle.Locks {
			t.Errorf("lock %d has %d of %d keys", lock, n, keys)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	_, err := throttle.New(throttle.Config{})
	if err == nil || !strings.Contains(err.Error(), "Counters") || !strings.Contains(err.Error(), "Refreshes") {
		t.Errorf("New of an empty Config = %v, want an error that names everything that is wrong", err)
	}
	bucket := new(bus.Conn).Bucket("none")
	for _, edit := range []func(*throttle.Limits){
		func(l *throttle.Limits) { l.Account.Free = 0 },
		func(l *throttle.Limits) { l.Address.FirstWait = 0 },
		func(l *throttle.Limits) { l.Refreshes.LongestWait = time.Millisecond },
		func(l *throttle.Limits) { l.Registrations.ForgetAfter = l.Registrations.LongestWait },
		func(l *throttle.Limits) { l.Account.ForgetAfter = 13 * time.Hour },
	} {
		limits := throttle.DefaultLimits()
		edit(&limits)
		if _, err := throttle.New(throttle.Config{Counters: bucket, Familiar: bucket, Limits: limits}); err == nil {
			t.Errorf("New accepts %+v", limits)
		}
	}
	if k := fault.KindOf(throttle.ErrLimited); k != fault.Exhausted {
		t.Errorf("ErrLimited is of kind %s", k)
	}
}
