package authsvc

import (
	"context"
	"errors"
	"fmt"
)

// A CopyReport says what became of the accounts that CopyAccounts found.
type CopyReport struct {
	Copied   int
	Existing int       // had been copied before
	Differ   []Account // there as well, but not as here: changed since, or another account of the pair. Left as it is there
}

// copyPage is how many accounts are read at a time.
const copyPage = 500

// CopyAccounts copies every account from one store to another, and reads each back. It may be interrupted and repeated: nothing that is
// there is overwritten. Accounts that are made or changed meanwhile may be missed: stop authsvc first, or copy once more when nobody uses the
// old store any longer.
func CopyAccounts(ctx context.Context, from, to AccountStore) (CopyReport, error) {
	var report CopyReport
	for cursor := ""; ; {
		page, next, err := from.List(ctx, cursor, copyPage)
		if err != nil {
			return report, fmt.Errorf("copy accounts: %w", err)
		}
		for _, a := range page {
			if err := report.copy(ctx, to, a); err != nil {
				return report, fmt.Errorf("copy account %s: %w", a.ID, err)
			}
		}
		if cursor = next; cursor == "" {
			return report, nil
		}
	}
}

// copy copies one account.
func (r *CopyReport) copy(ctx context.Context, to AccountStore, a Account) error {
	stored, err := to.Find(ctx, a.Email, a.Role)
	switch {
	case errors.Is(err, ErrNoAccount):
		switch err := to.Create(ctx, a); {
		case errors.Is(err, ErrTaken): // in this moment
			r.Differ = append(r.Differ, a)
			return nil
		case err != nil:
			return err
		}
		if stored, err = to.Find(ctx, a.Email, a.Role); err != nil {
			return err
		}
		if !a.same(stored) {
			return errors.New("what was stored reads back as another account")
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

// same reports whether two accounts are one and the same, in whatever stores.
func (a Account) same(b Account) bool {
	a.Revision, b.Revision = 0, 0
	return a == b
}
