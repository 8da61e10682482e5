package sim

import (
	"context"
	"fmt"

	"github.com/example/pillion/bus/inspect"
	"github.com/example/pillion/bus/ledger"
)

// Check inspects the whole ledger and adds the result to the report: acknowledged events that are
// missing, bookings with two riders, riders with two rides, and all other faults that an inspection
// finds. It needs an operator's access to the ledger.
//
// Errors are those of [inspect.Run]. Faults of the ledger are not errors.
func Check(ctx context.Context, ledger *ledger.Ledger, r *Report) error {
	found, err := inspect.Run(ctx, ledger, inspect.Options{Acknowledged: r.acknowledged})
	if err != nil {
		return fmt.Errorf("check the run against the ledger: %w", err)
	}
	l := &Ledger{
		Events: found.Events, Bookings: found.Bookings, Refused: found.Refused,
		Checked: len(r.acknowledged), Findings: []Finding{}, More: found.More,
	}
	for _, f := range found.Findings {
		l.Findings = append(l.Findings, Finding(f))
	}
	r.Ledger = l
	return nil
}
