package bustest

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// StepDowns periodically makes the leader of a stream step down. The caller must call stop, which
// returns how often a leader did. On one server, StepDowns does nothing.
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
			// without a leader, there is no answer
			ask, cancel := context.WithTimeout(ctx, every*3/4)
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
