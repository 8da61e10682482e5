// Package postgres keeps accounts in PostgreSQL.
//
// [Open] a store, and let [Accounts.Migrate] make its table, once at each start; then it is an
// authsvc.AccountStore. The database need not be there yet: until it is, and whenever it is away,
// calls fail with kind fault.Unavailable, and work again when it is back.
package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token"
)

var _ authsvc.AccountStore = (*Accounts)(nil)

const (
	patience      = 3 * time.Second // for one statement, the wait for a connection included
	insistence    = 6 * time.Second // for a write whose outcome got lost
	dialPatience  = 2 * time.Second
	healthChecks  = 5 * time.Second
	migrationTime = time.Minute
)

// What is said of a database.
var (
	// ErrURL is an address that cannot be one. It is never shown: there may be a password in it.
	ErrURL = fault.New(fault.Invalid, "accounts_url",
		"The address of the accounts' database cannot be read. Give one such as postgres://pillion:secret@db.internal:5432/pillion?sslmode=verify-full.")
	// ErrAway is a database that does not answer, or not now.
	ErrAway = fault.New(fault.Unavailable, "accounts_unavailable", "Accounts cannot be looked at right now. Please try again in a moment.").After(2 * time.Second)
	// ErrRefused is a database that does not let us in, or has no such name.
	ErrRefused = fault.New(fault.Invalid, "accounts_refused", "The accounts' database refuses us. Check its name, the user and the password.")
)

// Accounts is the store. It is safe for concurrent use.
type Accounts struct{ pool *pgxpool.Pool }

// Open returns the accounts in the database that a URL names (RFC 3986, as libpq reads it), or
// ErrURL. It connects when somebody asks for something. Close it.
func Open(url string) (*Accounts, error) {
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, ErrURL // err may show part of it
	}
	c.ConnConfig.ConnectTimeout = dialPatience
	c.HealthCheckPeriod = healthChecks
	c.ConnConfig.RuntimeParams["application_name"] = "pillion"
	c.ConnConfig.RuntimeParams["statement_timeout"] = fmt.Sprint(patience.Milliseconds())
	c.ConnConfig.RuntimeParams["timezone"] = "UTC"
	pool, err := pgxpool.NewWithConfig(context.Background(), c)
	if err != nil {
		return nil, ErrURL
	}
	return &Accounts{pool: pool}, nil
}

// Close closes all connections, when they are no longer in use.
func (s *Accounts) Close() { s.pool.Close() }

//go:embed migrations/*.sql
var migrations embed.FS

// Migrate brings the table to what this program needs. Of several at once one does it and the
// others wait for it. Errors: ErrAway, and ErrRefused where waiting does not help.
func (s *Accounts) Migrate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, migrationTime)
	defer cancel()
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("find the migrations: %w", err)
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return fmt.Errorf("make the migration's lock: %w", err)
	}
	db := stdlib.OpenDBFromPool(s.pool)
	defer db.Close() //nolint:errcheck // it is a view of the pool
	provider, err := goose.NewProvider(goose.DialectPostgres, db, steps, goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		var refused *pgconn.PgError
		if errors.As(err, &refused) && (strings.HasPrefix(refused.Code, "28") || strings.HasPrefix(refused.Code, "3D")) { // authorization, no database
			return ErrRefused.Because(reason(err))
		}
		return failed("bring the accounts' table up to date", err)
	}
	return nil
}

// Ready returns nil as long as the database answers.
func (s *Accounts) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	return failed("reach the accounts' database", s.pool.Ping(ctx))
}

const columns = "id, email, typed, role, hash, created, demo, disabled, era, not_before, pending, reset, reset_until, revision"

// scan reads an account. Times are those that Create was given: the table keeps microseconds.
func scan(row pgx.Row) (authsvc.Account, error) {
	var a authsvc.Account
	var notBefore, resetUntil *time.Time
	var revision int64
	err := row.Scan(&a.ID, &a.Email, &a.EmailAsEntered, &a.Role, &a.Hash, &a.Created, &a.Demo, &a.Disabled, &a.SessionEpoch, &notBefore,
		&a.Pending, &a.Reset, &resetUntil, &revision)
	if err != nil {
		return authsvc.Account{}, err
	}
	a.Created, a.Revision = a.Created.UTC(), uint64(revision)
	if notBefore != nil {
		a.NotBefore = notBefore.UTC()
	}
	if resetUntil != nil {
		a.ResetUntil = resetUntil.UTC()
	}
	return a, nil
}

// Find implements authsvc.AccountStore.
func (s *Accounts) Find(ctx context.Context, email authsvc.Email, role token.Role) (authsvc.Account, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	find := func() (authsvc.Account, error) {
		return scan(s.pool.QueryRow(ctx, "SELECT "+columns+" FROM accounts WHERE email = $1 AND role = $2", string(email), string(role)))
	}
	a, err := find()
	if lost(err) { // a connection from before the database was restarted: the next one is new
		a, err = find()
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return authsvc.Account{}, authsvc.ErrNoAccount
	}
	if err != nil {
		return authsvc.Account{}, failed("find account", err)
	}
	return a, nil
}

// Create implements authsvc.AccountStore.
func (s *Accounts) Create(ctx context.Context, a authsvc.Account) error {
	return s.insist(ctx, func(ctx context.Context, _ bool) error {
		done, err := s.pool.Exec(ctx, `INSERT INTO accounts (`+columns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 1)
			ON CONFLICT (email, role) DO NOTHING`,
			a.ID, string(a.Email), a.EmailAsEntered, string(a.Role), a.Hash, a.Created, a.Demo, a.Disabled, a.SessionEpoch, orNull(a.NotBefore),
			a.Pending, a.Reset, orNull(a.ResetUntil))
		if err != nil {
			return failed("create account", err)
		}
		if done.RowsAffected() == 1 {
			return nil
		}
		stored, err := s.Find(ctx, a.Email, a.Role)
		if err == nil && stored.ID != a.ID {
			return authsvc.ErrTaken
		}
		return err
	})
}

// Replace implements authsvc.AccountStore.
func (s *Accounts) Replace(ctx context.Context, a authsvc.Account) error {
	return s.insist(ctx, func(ctx context.Context, unknown bool) error {
		done, err := s.pool.Exec(ctx, `UPDATE accounts SET typed = $5, hash = $6, created = $7, demo = $8, disabled = $9, era = $10, not_before = $11,
			pending = $12, reset = $13, reset_until = $14,
			revision = revision + 1 WHERE email = $1 AND role = $2 AND id = $3 AND revision = $4`,
			string(a.Email), string(a.Role), a.ID, int64(a.Revision),
			a.EmailAsEntered, a.Hash, a.Created, a.Demo, a.Disabled, a.SessionEpoch, orNull(a.NotBefore), a.Pending, a.Reset, orNull(a.ResetUntil))
		if err != nil {
			return failed("replace account", err)
		}
		if done.RowsAffected() == 1 {
			return nil
		}
		if unknown { // an earlier try may have been the one
			stored, err := s.Find(ctx, a.Email, a.Role)
			ours := a
			ours.Revision++
			if err == nil && stored == ours {
				return nil
			}
			if err != nil && !errors.Is(err, authsvc.ErrNoAccount) {
				return err
			}
		}
		return authsvc.ErrStaleAccount
	})
}

// Delete implements authsvc.AccountStore. The row is gone at once; its bytes are freed by the
// next vacuum.
func (s *Accounts) Delete(ctx context.Context, a authsvc.Account) error {
	return s.insist(ctx, func(ctx context.Context, _ bool) error {
		done, err := s.pool.Exec(ctx, "DELETE FROM accounts WHERE email = $1 AND role = $2 AND id = $3 AND revision = $4",
			string(a.Email), string(a.Role), a.ID, int64(a.Revision))
		if err != nil {
			return failed("delete account", err)
		}
		if done.RowsAffected() == 1 {
			return nil
		}
		stored, err := s.Find(ctx, a.Email, a.Role)
		switch {
		case errors.Is(err, authsvc.ErrNoAccount) || err == nil && stored.ID != a.ID: // it is gone
			return nil
		case err != nil:
			return err
		}
		return authsvc.ErrStaleAccount
	})
}

// List implements authsvc.AccountStore. The order is that of the ids.
func (s *Accounts) List(ctx context.Context, after string, limit int) (page []authsvc.Account, next string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	limit = max(limit, 1)
	rows, err := s.pool.Query(ctx, "SELECT "+columns+" FROM accounts WHERE id > $1 ORDER BY id LIMIT $2", after, limit+1)
	if err != nil {
		return nil, "", failed("list accounts", err)
	}
	page, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (authsvc.Account, error) { return scan(row) })
	if err != nil {
		return nil, "", failed("list accounts", err)
	}
	if len(page) > limit {
		page = page[:limit]
		next = page[limit-1].ID
	}
	return page, next, nil
}

// orNull returns the null of the zero time.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// insist tries a write until its outcome is known, as long as ctx and the insistence allow. The
// write is told whether an earlier try may have succeeded.
func (s *Accounts) insist(ctx context.Context, write func(ctx context.Context, unknown bool) error) error {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval = 20 * time.Millisecond
	unknown := false
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		err := write(ctx, unknown)
		unknown = err != nil
		if err != nil && fault.KindOf(err) != fault.Unavailable {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(insistence))
	if err != nil && fault.KindOf(err) == fault.Internal && ctx.Err() != nil {
		return ErrAway.Because(err)
	}
	return err
}

// lost reports whether err says that the connection is gone, or never was.
func lost(err error) bool {
	var refused *pgconn.PgError
	return err != nil && !errors.Is(err, pgx.ErrNoRows) && !errors.As(err, &refused) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
}

// passing are the classes of SQLSTATE that waiting mends, or an operator, and a client cannot
// help: connections, authorization, resources, intervention, rollbacks, a database that is a
// standby.
var passing = []string{"08", "28", "3D", "40", "53", "55", "57", "25006", "58"}

// failed returns what a caller is told of a failure, or nil.
func failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		for _, class := range passing {
			if strings.HasPrefix(refused.Code, class) {
				return ErrAway.Because(fmt.Errorf("%s: %w", doing, reason(err)))
			}
		}
		return fmt.Errorf("%s: %w", doing, reason(err))
	}
	var broken *pgx.ScanArgError
	if errors.As(err, &broken) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return ErrAway.Because(fmt.Errorf("%s: %w", doing, reason(err)))
}

// reason returns what may be shown of an error. The messages of pgx name the user and the
// database, but never the password; those of the server may quote values, which its detail does
// and its message does not.
func reason(err error) error {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return fmt.Errorf("%s (SQLSTATE %s)", refused.Message, refused.Code)
	}
	var dialled *net.OpError
	if errors.As(err, &dialled) {
		return dialled
	}
	return err
}
