// Package postgrestest starts PostgreSQL servers for tests, with the programs installed on this
// machine. Call [Start]. Tests that do are skipped unless PILLION_POSTGRES is set, so that `make
// test` runs the same tests on every machine.
package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Server is an empty PostgreSQL server.
type Server struct {
	programs, dir string
	port          string
	as            *syscall.Credential
	process       *exec.Cmd
}

// Start starts a server and removes it after the test.
func Start(t testing.TB) *Server {
	t.Helper()
	if os.Getenv("PILLION_POSTGRES") == "" {
		t.Skip("PostgreSQL is tested by make check, and with PILLION_POSTGRES=1.")
	}
	programs := find()
	if programs == "" {
		t.Fatal("There is no PostgreSQL on this machine. To run this test, install it (Debian: postgresql).")
	}
	s := &Server{programs: programs, as: credential(t)}
	dir, err := os.MkdirTemp("", "pillion-postgres-") //nolint:usetesting // the user of the server must get into it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the server's folder: %v", err)
		}
	})
	s.dir = dir
	if err := os.Chmod(dir, 0o755); err != nil { // other users may reach the socket in it
		t.Fatal(err)
	}
	if s.as != nil {
		if err := os.Chown(dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	init := s.command("initdb", "--pgdata", filepath.Join(dir, "data"), "--username=pillion", "--auth=trust",
		"--no-sync", "--encoding=UTF8", "--locale=C")
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port = strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	_ = l.Close() // the server takes the port
	t.Cleanup(s.Kill)
	s.Run(t)
	return s
}

// find returns the folder of PostgreSQL's programs, or "".
func find() string {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path)
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb",
		"/opt/homebrew/opt/postgresql*/bin/initdb"} {
		if found, err := filepath.Glob(pattern); err == nil && len(found) > 0 {
			slices.Sort(found)
			return filepath.Dir(found[len(found)-1])
		}
	}
	return ""
}

// credential returns the user to run the server as: PostgreSQL refuses to run as root.
func credential(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
			gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
			if uidErr == nil && gidErr == nil {
				return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
			}
		}
	}
	t.Fatal("root cannot run PostgreSQL, and there is neither a user postgres nor a user nobody")
	return nil
}

func (s *Server) command(program string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(s.programs, program), args...)
	c.Dir = s.dir
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	return c
}

// Run starts the server, for the first time or again, and returns once it answers.
func (s *Server) Run(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var last error
	for ctx.Err() == nil {
		// The processes of a killed server live on for a moment, and keep a new one from starting.
		s.process = s.command("postgres", "-D", filepath.Join(s.dir, "data"), "-p", s.port, "-k", s.dir, "-c",
			"listen_addresses=127.0.0.1",
			"-c", "fsync=off", "-c", "shared_buffers=8MB", "-c", "max_connections=40")
		said := new(strings.Builder)
		s.process.Stdout, s.process.Stderr = said, said
		if err := s.process.Start(); err != nil {
			t.Fatalf("start PostgreSQL: %v", err)
		}
		ended := make(chan error, 1)
		go func(c *exec.Cmd) { ended <- c.Wait() }(s.process)
		for running := true; running && ctx.Err() == nil; {
			select {
			case last = <-ended:
				last = errors.Join(last, errors.New(said.String()))
				running = false
			case <-time.After(20 * time.Millisecond):
				c, err := pgx.Connect(ctx, s.URL("postgres"))
				if err == nil {
					_ = c.Close(ctx)
					return
				}
				last = err
			}
		}
	}
	t.Fatalf("PostgreSQL does not start: %v", last)
}

// Kill ends the server at once, as a power cut would. Run may start it again.
func (s *Server) Kill() { s.signal(syscall.SIGKILL) }

// Pause suspends all of the server's processes until Resume. It returns false if it cannot reach
// all of them.
func (s *Server) Pause() bool { return s.signal(syscall.SIGSTOP) }

// Resume continues a paused server.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

// signal signals all of the server's processes. Each child leads a session of its own, so one
// process group is not enough.
func (s *Server) signal(sig syscall.Signal) (all bool) {
	if s.process == nil || s.process.Process == nil {
		return false
	}
	pid := s.process.Process.Pid
	_ = syscall.Kill(pid, sig) // first, so that it begins no other; it may have ended by itself
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return false // there is no /proc; the children of a killed server notice by themselves
	}
	for _, child := range strings.Fields(string(children)) {
		if n, err := strconv.Atoi(child); err == nil {
			_ = syscall.Kill(n, sig)
		}
	}
	return true
}

// URL returns the URL of one of the server's databases.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgres://pillion@127.0.0.1:%s/%s?sslmode=disable", s.port, database)
}

// Folder returns the folder of the server's socket, which all users may use.
func (s *Server) Folder() string { return s.dir }

// Database creates an empty database and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	c, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	name := "test_" + strconv.FormatInt(time.Now().UnixNano(), 36)
	if _, err := c.Exec(t.Context(), "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		t.Fatal(err)
	}
	return s.URL(name)
}
