package authsvc

import (
	"context"
	"errors"
	"fmt"
)

// A CopyReport says what CopyAccounts has done.
type CopyReport struct {
	Copied   int
	Existing int // were copied before
	// Differ are accounts of which the destination has another version, or another account of the
	// pair. They were left alone.
	Differ []Account
}

// CopyAccounts copies every account from one store to another and reads each back. It never
// overwrites, so it may be interrupted and repeated. It may miss accounts that are created or
// changed meanwhile: stop authsvc first, or copy again when nobody uses the old store any more.
func CopyAccounts(ctx context.Context, from, to AccountStore) (CopyReport, error) {
	var report CopyReport
	err := each(ctx, from, func(a Account) error {
		if err := report.copy(ctx, to, a); err != nil {
			return fmt.Errorf("account %s: %w", a.ID, err)
		}
		return nil
	})
	if err != nil {
		return report, fmt.Errorf("copy accounts: %w", err)
	}
	return report, nil
}

// each calls do with every account of a store, until do fails.
func each(ctx context.Context, store AccountStore, do func(Account) error) error {
	const pageSize = 500
	for cursor := ""; ; {
		page, next, err := store.List(ctx, cursor, pageSize)
		if err != nil {
			return err
		}
		for _, a := range page {
			if err := do(a); err != nil {
				return err
			}
		}
		if cursor = next; cursor == "" {
			return nil
		}
	}
}

// copy copies one account.
func (r *CopyReport) copy(ctx context.Context, to AccountStore, a Account) error {
	stored, err := to.Find(ctx, a.Email, a.Role)
	switch {
	case errors.Is(err, ErrNoAccount):
		switch err := to.Create(ctx, a); {
		case errors.Is(err, ErrTaken): // just now
			r.Differ = append(r.Differ, a)
			return nil
		case err != nil:
			return err
		}
		if stored, err = to.Find(ctx, a.Email, a.Role); err != nil {
			return err
		}
		if !a.same(stored) {
			return errors.New("the stored account differs from the original")
		}
		r.Copied++
	case err != nil:
		return err
	case a.same(stored):
		r.Existing++
	default:
		r.Differ = append(r.Differ, a)
	}
	return nil
}

// same reports whether two accounts are equal, apart from their stores' revisions.
func (a Account) same(b Account) bool {
	a.Revision, b.Revision = 0, 0
	return a == b
}
