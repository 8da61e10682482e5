package ridersvc

import (
	"sync"

	"github.com/example/pillion/booking"
)

// inFlight holds the bookings that riders of this process are trying to accept. Riders who ask for
// any booking are offered the same one first. Without inFlight, n riders would lose up to n-1 races
// each, and each lost race is a write that the ledger rejects. The ledger alone decides who wins.
type inFlight struct {
	mu   sync.Mutex
	done map[booking.ID]chan struct{} // closed when the attempt has ended
}

// begin marks a booking as in flight, and returns end, which the caller must call. If it is in
// flight already, begin returns a channel instead, which is closed when that attempt has ended.
func (f *inFlight) begin(id booking.ID) (end func(), busy <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if busy, ok := f.done[id]; ok {
		return nil, busy
	}
	done := make(chan struct{})
	f.done[id] = done
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.done, id)
		close(done)
	}, nil
}
