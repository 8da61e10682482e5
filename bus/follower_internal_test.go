package bus

import (
	"context"
	"testing"
	"time"

	"github.com/example/pillion/booking/board"
)

// A leader that is seen behind the board, and then not seen for a while, is not known to have been behind all that time.
func TestBehindIsSeenWithoutABreak(t *testing.T) {
	for what, pause := range map[string]struct {
		do    func(*Follower)
		lasts time.Duration
	}{
		"nobody has looked":            {func(*Follower) {}, sightingGap + time.Second},
		"the stream could not be read": {func(f *Follower) { _ = f.session(ended(t), newBackOff()) }, sightingGap},
		"the leader had everything":    {func(f *Follower) { f.lost(5) }, sightingGap},
	} {
		t.Run(what, func(t *testing.T) {
			conn, err := Connect(Config{URL: "nats://127.0.0.1:1"}) // nobody is there
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(conn.nc.Close)
			now := time.Now()
			f := (&Ledger{conn: conn, now: func() time.Time { return now }}).Follow(board.New())
			f.board.Advance(5)
			look := func(after time.Duration) bool {
				now = now.Add(after)
				return f.lost(4)
			}
			for range 4 {
				if look(2 * time.Second) {
					t.Fatal("lost at first sight")
				}
			}
			pause.do(f)
			if look(pause.lasts) {
				t.Error("lost, after a break")
			}
			for range 9 {
				if look(time.Second) {
					t.Fatal("lost too early")
				}
			}
			if !look(readPatience - 9*time.Second) {
				t.Error("not lost, although it was seen behind for long enough")
			}
		})
	}
}

// ended returns a context that has ended.
func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
