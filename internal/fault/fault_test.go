package fault_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/example/pillion/internal/fault"
)

var errTaken = fault.New(fault.Conflict, "taken", "That is taken. Choose another.")

func TestCopiesStillMatch(t *testing.T) {
	err := fmt.Errorf("reserve: %w", errTaken.Because(io.ErrUnexpectedEOF).After(time.Second).Sayingf("Taken by %d.", 2))
	if !errors.Is(err, errTaken) {
		t.Error("a copy with a cause does not match the original")
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("the chain lacks the cause")
	}
	f := fault.From(err)
	if f.RetryAfter != time.Second || f.Message != "Taken by 2." || f.Kind != fault.Conflict {
		t.Errorf("From = %+v", f)
	}
	if errTaken.Cause != nil || errTaken.RetryAfter != 0 || errTaken.Message != "That is taken. Choose another." {
		t.Errorf("the original changed: %+v", errTaken)
	}
}

func TestUnknownIsInternal(t *testing.T) {
	err := errors.New("pq: password authentication failed")
	if got := fault.KindOf(err); got != fault.Internal {
		t.Errorf("KindOf = %v", got)
	}
	f := fault.From(err)
	if f.Kind != fault.Internal || f.Message != fault.ErrInternal.Message || !errors.Is(f, err) {
		t.Errorf("From = %+v", f)
	}
	if fault.From(nil) != nil {
		t.Error("From(nil) is not nil")
	}
}

func TestCodesTellFaultsApart(t *testing.T) {
	other := fault.New(fault.Conflict, "gone", "Gone.")
	if errors.Is(other, errTaken) {
		t.Error("two faults with the same kind and different codes match")
	}
}
