package load

import (
	"context"
	"fmt"

	"github.com/example/pillion/bus/inspect"
	"github.com/example/pillion/bus/ledger"
)

// Check holds a report against the ledger and writes into it what it finds: what was acknowledged and is not there, bookings with two riders, riders
// with two rides, and whatever else an inspection finds, in all of the ledger. It needs to read the ledger, as an operator does.
//
// Errors are those of [bus.Ledger.Inspect]. A ledger with faults is no error.
func Check(ctx context.Context, ledger *ledger.Ledger, r *Report) error {
	found, err := inspect.Run(ctx, ledger, inspect.Options{Acknowledged: r.acknowledged})
	if err != nil {
		return fmt.Errorf("check the load against the ledger: %w", err)
	}
	l := &Ledger{
		Events: found.Events, Bookings: found.Bookings, Refused: found.Refused, Checked: len(r.acknowledged), Findings: []Finding{}, More: found.More,
	}
	for _, f := range found.Findings {
		l.Findings = append(l.Findings, Finding(f))
	}
	r.Ledger = l
	return nil
}
