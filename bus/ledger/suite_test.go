package ledger_test

import (
	"context"
	"testing"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/bookingtest"
	"github.com/example/pillion/bus/ledger/ledgertest"
)

func TestLedgerIsALog(t *testing.T) {
	t.Parallel() // most of it is waiting
	ledgertest.Races(t, func(t *testing.T, k *ledgertest.Kit) {
		conn := k.Connect(t)
		bookingtest.LogSuite(t, func(t *testing.T) bookingtest.Env {
			return bookingtest.Env{
				Log:   k.Ledger(t),
				Other: k.Ledger(t),
				As: func(role booking.Role) (booking.Actor, string) {
					p := k.Person(role)
					return p.Actor, p.Proof
				},
				Forge: func(ctx context.Context, id booking.ID, n int, kind booking.Kind) error {
					m := ledgertest.Message(id, n, kind, booking.Actor{ID: booking.NewID(), Role: booking.Rider},
						"forged")
					_, err := conn.JetStream().PublishMsg(ctx, m)
					return err
				},
			}
		})
	})
}
