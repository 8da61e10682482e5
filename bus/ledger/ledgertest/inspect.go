package ledgertest

import (
	"context"
	"testing"
	"time"

	"github.com/example/pillion/bus/inspect"
	"github.com/example/pillion/bus/ledger"
)

// Inspect returns what an inspection of the ledger says.
func Inspect(t testing.TB, l *ledger.Ledger, o inspect.Options) inspect.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	found, err := inspect.Run(ctx, l, o)
	if err != nil {
		t.Fatalf("inspect: %v", err)
	}
	return found
}
