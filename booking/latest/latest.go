// Package latest keeps in memory what a process has lately verified of bookings and riders, so that
// a [booking.Quick] read need not ask the log.
package latest

import (
	"errors"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/example/pillion/booking"
)

const (
	kept      = 4096 // bookings, and riders, that are in memory
	mostInOne = 64   // events of one of them; a ride has about five
)

// Histories are the latest histories of bookings and engagements of riders. They may be stale, and
// the log finds that out when somebody appends to one. All of them are verdicts of the same epoch:
// they are dropped when it ends. There are none before the first Add, because without a follower
// they would only get older. Histories are safe for concurrent use.
type Histories struct {
	now func() uint64 // the present epoch

	mu       sync.Mutex
	followed bool   // whether there was an Add
	epoch    uint64 // of what follows
	bookings *simplelru.LRU[booking.ID, booking.History]
	riders   *simplelru.LRU[booking.RiderID, booking.Engagement]
}

// New returns Histories without any. epoch returns the number of the present epoch of verdicts.
func New(epoch func() uint64) (*Histories, error) {
	bookings, err := simplelru.NewLRU[booking.ID, booking.History](kept, nil)
	riders, ridersErr := simplelru.NewLRU[booking.RiderID, booking.Engagement](kept, nil)
	return &Histories{now: epoch, bookings: bookings, riders: riders}, errors.Join(err, ridersErr)
}

// lock locks h, and drops what is of an earlier epoch.
func (h *Histories) lock() {
	h.mu.Lock()
	if now := h.now(); now != h.epoch {
		h.epoch = now
		h.bookings.Purge()
		h.riders.Purge()
	}
}

// Booking returns the history of a booking, if it is in memory.
func (h *Histories) Booking(id booking.ID) (booking.History, bool) {
	h.lock()
	defer h.mu.Unlock()
	return h.bookings.Get(id)
}

// Rider returns the engagement of a rider, if it is in memory.
func (h *Histories) Rider(id booking.RiderID) (booking.Engagement, bool) {
	h.lock()
	defer h.mu.Unlock()
	return h.riders.Get(id)
}

// Keep keeps a history that was read, and verified in an epoch.
func (h *Histories) Keep(epoch uint64, read booking.History) {
	h.lock()
	defer h.mu.Unlock()
	had, _ := h.bookings.Peek(read.Booking.ID)
	if h.followed && epoch == h.epoch && read.Booking.ID != "" && read.Revision > had.Revision {
		h.put(read)
	}
}

// Add adds the next event of the log, verified in an epoch, with its booking before and after it.
// Events must come in the order of the log.
func (h *Histories) Add(epoch uint64, e booking.Event, before, after booking.Booking) {
	h.lock()
	defer h.mu.Unlock()
	h.followed = true
	if epoch != h.epoch {
		return
	}
	h.engage(e)
	had, known := h.bookings.Peek(e.Booking)
	switch {
	case known && had.Revision >= e.Seq: // this process has written it, or read it
	case known && had.Booking.Version != before.Version:
		h.bookings.Remove(e.Booking)
	case known || before.State == booking.StateNone:
		had.Booking, had.Events, had.Revision = after, append(had.Events, e), e.Seq
		h.put(had)
	}
}

// Wrote adds events that this process has just stored after a revision of their booking.
func (h *Histories) Wrote(after uint64, events ...booking.Event) {
	h.lock()
	defer h.mu.Unlock()
	had, _ := h.bookings.Peek(events[0].Booking)
	fits := h.followed && had.Revision == after
	if fits {
		had = had.Clone()
	}
	for _, e := range events {
		h.engage(e)
		if fits = fits && had.Apply(e) == nil; fits {
			had.Events, had.Revision = append(had.Events, e), e.Seq
		}
	}
	if fits {
		h.put(had)
	}
}

// put replaces the history of a booking, unless the new one is too long. The caller holds the lock.
func (h *Histories) put(history booking.History) {
	if len(history.Events) > mostInOne {
		h.bookings.Remove(history.Booking.ID)
		return
	}
	h.bookings.Add(history.Booking.ID, history)
}

// engage notes a rider's engagement, whose record comes directly before the acceptance. The caller
// holds the lock.
func (h *Histories) engage(e booking.Event) {
	rider := booking.RiderID(e.Actor.ID)
	if at, _ := h.riders.Peek(rider); h.followed && e.Kind == booking.Accepted && at.Revision < e.Seq {
		h.riders.Add(rider, booking.Engagement{Booking: e.Booking, Revision: e.Seq - 1})
	}
}

// Forget drops the bookings whose first event has aged out of the log, which begins at sequence
// first. Nothing can follow from them.
func (h *Histories) Forget(first uint64) {
	h.lock()
	defer h.mu.Unlock()
	for _, id := range h.bookings.Keys() {
		if had, _ := h.bookings.Peek(id); had.Booking.RequestedSeq < first {
			h.bookings.Remove(id)
		}
	}
}

// Drop forgets a booking of which a message was refused.
func (h *Histories) Drop(id booking.ID) {
	h.lock()
	defer h.mu.Unlock()
	h.bookings.Remove(id)
}
