package postgres_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/authtest"
	"github.com/example/pillion/authsvc/postgres"
	"github.com/example/pillion/authsvc/postgres/postgrestest"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/wait"
	"github.com/example/pillion/token"
)

func TestMain(m *testing.M) { os.Exit(wait.Main(m)) }

// open returns the accounts of a database, with their table.
func open(t *testing.T, url string) *postgres.Accounts {
	t.Helper()
	s, err := postgres.Open(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAccounts(t *testing.T) {
	server := postgrestest.Start(t)
	authtest.AccountSuite(t, func(t *testing.T) authtest.Store {
		url := server.Database(t)
		return authtest.Store{One: open(t, url), Other: open(t, url)}
	})
	t.Run("many start at once", func(t *testing.T) {
		url := server.Database(t)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				s, err := postgres.Open(url)
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				if err := s.Migrate(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
	t.Run("what is there is kept", func(t *testing.T) {
		url := server.Database(t)
		a := authtest.Account(t, "john@example.com", token.User)
		if err := open(t, url).Create(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if got, err := open(t, url).Find(t.Context(), a.Email, a.Role); err != nil || got.ID != a.ID {
			t.Errorf("after another start: %v, %v", got, err)
		}
	})
	t.Run("no such database", func(t *testing.T) {
		s, err := postgres.Open(server.URL("nowhere"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Migrate(t.Context()); !errors.Is(err, postgres.ErrRefused) ||
			!strings.Contains(err.Error(), "3D000") {
			t.Errorf("%v, want ErrRefused with its reason", err)
		}
		// To somebody who logs in it is our trouble, not theirs.
		if _, err := s.Find(t.Context(), "john@example.com", token.User); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("Find = %v", err)
		}
	})
}

func TestURLs(t *testing.T) {
	for _, url := range []string{"postgres://pillion:hunter2@db:port/pillion",
		"postgres://pillion:hunter2@db/pillion?sslmode=perhaps", "mysql://pillion:hunter2@db"} {
		_, err := postgres.Open(url)
		if !errors.Is(err, postgres.ErrURL) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open(%s) = %v", url, err)
		}
	}
}

func TestWithoutADatabase(t *testing.T) {
	s, err := postgres.Open("postgres://pillion:hunter2@127.0.0.1:1/pillion")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a := authtest.Account(t, "john@example.com", token.User)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range map[string]error{
		"Ready": s.Ready(t.Context()), "Migrate": s.Migrate(t.Context()), "Create": s.Create(ended, a),
		"Replace": s.Replace(ended, authsvc.Account{Revision: 1}),
		"Find":    second(s.Find(t.Context(), a.Email, a.Role)),
	} {
		if fault.KindOf(err) != fault.Unavailable || fault.From(err).RetryAfter == 0 ||
			strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s = %v, want that it is away", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }
