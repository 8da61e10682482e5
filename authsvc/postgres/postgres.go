// Package postgres stores accounts in PostgreSQL.
//
// [Open] a store and call [Accounts.Migrate] once at each start, which creates its table. It is
// an authsvc.AccountStore then. While the database is unavailable, also before its first start,
// calls fail with kind fault.Unavailable.
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

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/retry"
	"github.com/example/pillion/token"
)

var _ authsvc.AccountStore = (*Accounts)(nil)

const (
	statementTimeout = 3 * time.Second // includes the wait for a connection
	dialTimeout      = 2 * time.Second
	healthChecks     = 5 * time.Second
	migrationTimeout = time.Minute
)

// writes says how long a write is repeated while its outcome is unknown.
var writes = retry.Policy{
	First: 20 * time.Millisecond, Longest: time.Second, Within: 6 * time.Second, When: retry.Unavailable,
}

// Errors of a database.
var (
	// ErrURL refuses a malformed address. It never shows the address, which may contain a password.
	ErrURL = fault.New(fault.Invalid, "accounts_url",
		"The address of the account database is malformed. Give one such as postgres://pillion:secret@db.internal:5432/pillion?sslmode=verify-full.")
	// ErrAway says that the database does not answer.
	ErrAway = fault.New(fault.Unavailable, "accounts_unavailable",
		"The account database is unavailable right now. Please try again in a moment.").After(2 * time.Second)
	// ErrRefused says that the database rejects the login, or that there is no such database.
	ErrRefused = fault.New(fault.Invalid, "accounts_refused",
		"The account database rejects the login. Check its name, the user and the password.")
)

// Accounts is the store. It is safe for concurrent use.
type Accounts struct{ pool *pgxpool.Pool }

// Open returns the accounts in the database at a URL (RFC 3986, as libpq reads it), or ErrURL. It
// connects at the first call. The caller must Close it.
func Open(url string) (*Accounts, error) {
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, ErrURL // err may show part of the URL
	}
	c.ConnConfig.ConnectTimeout = dialTimeout
	c.HealthCheckPeriod = healthChecks
	c.ConnConfig.RuntimeParams["application_name"] = "pillion"
	c.ConnConfig.RuntimeParams["statement_timeout"] = fmt.Sprint(statementTimeout.Milliseconds())
	c.ConnConfig.RuntimeParams["timezone"] = "UTC"
	pool, err := pgxpool.NewWithConfig(context.Background(), c)
	if err != nil {
		return nil, ErrURL
	}
	return &Accounts{pool: pool}, nil
}

// Close closes all connections once they are idle.
func (s *Accounts) Close() { s.pool.Close() }

//go:embed migrations/*.sql
var migrations embed.FS

// Migrate creates the table or updates it to what this program needs. Of several simultaneous
// calls one does the work and the others wait. Errors: ErrAway, and ErrRefused, for which waiting
// does not help.
func (s *Accounts) Migrate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, migrationTimeout)
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
	provider, err := goose.NewProvider(goose.DialectPostgres, db, steps, goose.WithSessionLocker(locker),
		goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		var refused *pgconn.PgError
		// 28 is a failed login, and 3D an unknown database.
		if errors.As(err, &refused) &&
			(strings.HasPrefix(refused.Code, "28") || strings.HasPrefix(refused.Code, "3D")) {
			return ErrRefused.Because(reason(err))
		}
		return failed("update the account table", err)
	}
	return nil
}

// Ready returns nil while the database answers.
func (s *Accounts) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return failed("reach the account database", s.pool.Ping(ctx))
}

const columns = "id, email, typed, role, hash, created, demo, disabled, era, not_before, " +
	"pending, reset, reset_until, revision"

// scan reads an account. The table keeps times in microseconds.
func scan(row pgx.Row) (authsvc.Account, error) {
	var a authsvc.Account
	var notBefore, resetUntil *time.Time
	var revision int64
	err := row.Scan(&a.ID, &a.Email, &a.EmailAsEntered, &a.Role, &a.Hash, &a.Created, &a.Demo, &a.Disabled,
		&a.SessionEpoch, &notBefore,
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
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	find := func() (authsvc.Account, error) {
		return scan(s.pool.QueryRow(ctx, "SELECT "+columns+" FROM accounts WHERE email = $1 AND role = $2",
			string(email), string(role)))
	}
	a, err := find()
	if lost(err) { // the connection was older than the database's restart; the next one is new
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
	return s.write(ctx, func(ctx context.Context, _ bool) error {
		done, err := s.exec(ctx, "create account", `INSERT INTO accounts (`+columns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 1)
			ON CONFLICT (email, role) DO NOTHING`,
			a.ID, string(a.Email), a.EmailAsEntered, string(a.Role), a.Hash, a.Created, a.Demo, a.Disabled,
			a.SessionEpoch, orNull(a.NotBefore),
			a.Pending, a.Reset, orNull(a.ResetUntil))
		if done || err != nil {
			return err
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
	return s.write(ctx, func(ctx context.Context, unknown bool) error {
		done, err := s.exec(ctx, "replace account", `UPDATE accounts SET typed = $5, hash = $6, created = $7, demo = $8, disabled = $9, era = $10, not_before = $11,
			pending = $12, reset = $13, reset_until = $14,
			revision = revision + 1 WHERE email = $1 AND role = $2 AND id = $3 AND revision = $4`,
			string(a.Email), string(a.Role), a.ID, int64(a.Revision),
			a.EmailAsEntered, a.Hash, a.Created, a.Demo, a.Disabled, a.SessionEpoch, orNull(a.NotBefore), a.Pending,
			a.Reset, orNull(a.ResetUntil))
		if done || err != nil {
			return err
		}
		if unknown { // an earlier try may have succeeded
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

// Delete implements authsvc.AccountStore. It deletes the row at once; the next vacuum frees its
// bytes.
func (s *Accounts) Delete(ctx context.Context, a authsvc.Account) error {
	return s.write(ctx, func(ctx context.Context, _ bool) error {
		done, err := s.exec(ctx, "delete account",
			"DELETE FROM accounts WHERE email = $1 AND role = $2 AND id = $3 AND revision = $4",
			string(a.Email), string(a.Role), a.ID, int64(a.Revision))
		if done || err != nil {
			return err
		}
		stored, err := s.Find(ctx, a.Email, a.Role)
		switch {
		case errors.Is(err, authsvc.ErrNoAccount) || err == nil && stored.ID != a.ID:
			return nil
		case err != nil:
			return err
		}
		return authsvc.ErrStaleAccount
	})
}

// List implements authsvc.AccountStore, in the order of ids.
func (s *Accounts) List(ctx context.Context, after string, limit int) (page []authsvc.Account, next string, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	limit = max(limit, 1)
	rows, err := s.pool.Query(ctx, "SELECT "+columns+" FROM accounts WHERE id > $1 ORDER BY id LIMIT $2", after,
		limit+1)
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

// orNull returns null for the zero time.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// write repeats a write while its outcome is unknown, as long as the policy writes and ctx allow.
// It tells do whether an earlier try may have succeeded.
func (s *Accounts) write(ctx context.Context, do func(ctx context.Context, unknown bool) error) error {
	unknown := false
	return writes.Do(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, statementTimeout)
		defer cancel()
		err := do(ctx, unknown)
		unknown = err != nil
		return err
	})
}

// exec executes a statement about one account, and reports whether it has changed a row.
func (s *Accounts) exec(ctx context.Context, doing, statement string, args ...any) (bool, error) {
	tag, err := s.pool.Exec(ctx, statement, args...)
	return err == nil && tag.RowsAffected() == 1, failed(doing, err)
}

// lost reports whether err says that there is no connection any more, or never was one.
func lost(err error) bool {
	var refused *pgconn.PgError
	return err != nil && !errors.Is(err, pgx.ErrNoRows) && !errors.As(err, &refused) &&
		!errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
}

// passing are the classes of SQLSTATE that waiting or an operator can mend: connections,
// authorization, resources, intervention, rollbacks, and a database that is a standby.
var passing = []string{"08", "28", "3D", "40", "53", "55", "57", "25006", "58"}

// failed returns the error for the caller, or nil if err is nil.
func failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		for _, class := range passing {
			if strings.HasPrefix(refused.Code, class) {
				return ErrAway.Because(fmt.Errorf("%s: %w", doing, reason(err)))
			}
		}
		return fmt.Errorf("%s: %w", doing, reason(err))
	}
	if _, ok := errors.AsType[*pgx.ScanArgError](err); ok {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return ErrAway.Because(fmt.Errorf("%s: %w", doing, reason(err)))
}

// reason returns what a log may show of an error. The messages of pgx name the user and the
// database, but never the password. The server's message quotes no values; its detail does.
func reason(err error) error {
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fmt.Errorf("%s (SQLSTATE %s)", refused.Message, refused.Code)
	}
	if dialled, ok := errors.AsType[*net.OpError](err); ok {
		return dialled
	}
	return err
}
