package ridersvc

import (
	"sync"

	"github.com/example/pillion/booking"
)

// attempts keeps the riders of this process from all running at the same booking: riders who ask for any booking are offered
// the one that waits longest, so without it each of n riders would lose up to n-1 races, every one a write that the ledger
// refuses. It decides nothing: the ledger alone says who won, also against other processes.
type attempts struct {
	mu    sync.Mutex
	under map[booking.ID]chan struct{} // closed when the attempt has ended
}

// begin marks id as being attempted by the caller, who must call end; or it returns the channel that is closed when the rider
// who is attempting it already has won or lost.
func (a *attempts) begin(id booking.ID) (end func(), under <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if under, ok := a.under[id]; ok {
		return nil, under
	}
	done := make(chan struct{})
	a.under[id] = done
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.under, id)
		close(done)
	}, nil
}
