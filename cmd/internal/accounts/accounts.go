// Package accounts opens the account store that a setting names. It is apart from package wiring,
// so that programs without accounts carry no database driver. Call [Open].
package accounts

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/example/pillion/authsvc/postgres"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
	"github.com/example/pillion/web"
)

// Open returns the account store at a place, which need not be available yet. The caller must
// Close it. binding is the key of accounts in NATS; without one they can be read unverified, and
// not be changed.
func Open(conn *bus.Conn, at setting.AccountsAt, binding []byte) (wiring.Accounts, error) {
	if at.PostgreSQL == "" {
		return wiring.NATSAccounts(conn, binding), nil
	}
	store, err := postgres.Open(at.PostgreSQL)
	if err != nil {
		return wiring.Accounts{}, err
	}
	var prepared atomic.Bool
	return wiring.Accounts{
		AccountStore: store,
		Prepare: func(ctx context.Context) error {
			err := store.Migrate(ctx)
			prepared.Store(err == nil)
			return err
		},
		Close: store.Close,
		Checks: []web.Check{{Name: "accounts database", Ready: func(ctx context.Context) error {
			if !prepared.Load() {
				return errors.New("its table has not been created yet")
			}
			return store.Ready(ctx)
		}}},
	}, nil
}
