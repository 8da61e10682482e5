package bookings

import (
	"context"
	"time"

	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/internal/fault"
)

// ErrCatchingUp is the answer to a read while the board is incomplete.
var ErrCatchingUp = fault.New(fault.Unavailable, "catching_up",
	"The list of bookings is still loading. Please try again in a moment.").After(time.Second)

// boardPatience is how long a read waits for the board to include an event of the ledger.
const boardPatience = 2 * time.Second

// A TrustedBoard is a board that a request reads only after one of its checks. All fields are
// required.
type TrustedBoard struct {
	*board.Board
	Ready    func(context.Context) error // nil once the board can be trusted
	Appended func() uint64               // the highest sequence that this process has appended
}

// Check returns ErrCatchingUp while the board cannot be trusted.
func (b TrustedBoard) Check(ctx context.Context) error {
	if err := b.Ready(ctx); err != nil {
		return ErrCatchingUp.Because(err)
	}
	return nil
}

// CatchUp waits until the board can be trusted and includes what this process has written. Errors:
// ErrCatchingUp.
func (b TrustedBoard) CatchUp(ctx context.Context) error {
	if err := b.Check(ctx); err != nil {
		return err
	}
	return b.Reach(ctx, b.Appended())
}

// Reach waits up to 2 seconds until the board includes every event up to sequence seq. Errors:
// ErrCatchingUp.
func (b TrustedBoard) Reach(ctx context.Context, seq uint64) error {
	ctx, cancel := context.WithTimeout(ctx, boardPatience)
	defer cancel()
	if err := b.Await(ctx, seq); err != nil {
		return ErrCatchingUp.Because(err)
	}
	return nil
}
