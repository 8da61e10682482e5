package bustest

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// StepDowns makes the leader of a stream step down again and again until stop is called, which waits for the last time and returns how often it did. Where
// there is one server, nothing happens.
func (e *Env) StepDowns(t testing.TB, stream string, every time.Duration) (stop func() int) {
	t.Helper()
	if e.Replicas == 1 {
		return func() int { return 0 }
	}
	var downs atomic.Int64
	conn := e.Connect(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			ask, cancel := context.WithTimeout(ctx, every*3/4) // where there is no leader, nobody answers
			m, err := conn.NATS().RequestWithContext(ask, "$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil)
			cancel()
			if err == nil && bytes.Contains(m.Data, []byte(`"success":true`)) {
				downs.Add(1)
			}
		}
	}()
	stop = func() int {
		cancel()
		<-ended
		return int(downs.Load())
	}
	t.Cleanup(func() { stop() })
	return stop
}
