package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/backup"
	"github.com/example/pillion/bus/inspect"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
)

// remote holds the flags of commands that copy a system: the NATS server, the operator's key, and
// the time limit.
type remote struct {
	Timeout              setting.Duration `name:"timeout" env:"COPY_TIMEOUT" default:"1h" min:"1s" max:"240h" placeholder:"DURATION" help:"Time limit of the command (default: ${default})."`
	wiring.OperatorFlags `set:"log_level=error"`
}

type makeBackup struct {
	Out     setting.Text   `name:"out" required:"" placeholder:"FOLDER" help:"Folder for the backup; it must be empty or not exist."`
	Stopped setting.Switch `name:"stopped" help:"Require that all services are stopped and nothing is written meanwhile; for moving a system."`
	remote
}

type restoreBackup struct {
	Folder string `arg:"" name:"folder" help:"Folder of a backup made by pillion backup."`
	restoreSettings
	KeepSessions setting.Switch `name:"keep-sessions" help:"Restore login sessions too; use it only if nothing has run since the backup."`
	remote
}

// restoreSettings holds the flags that restore and move share.
type restoreSettings struct {
	Replicas setting.Number `name:"replicas" env:"REPLICAS" default:"0" oneof:"0 1 3 5" placeholder:"N" help:"Copies of every stream and bucket: 1, 3 or 5; 0 keeps their number (default: ${default})."`
}

type audit struct {
	Grace setting.Duration `name:"grace" default:"1m" min:"0s" max:"240h" placeholder:"DURATION" help:"How long after its deadline a booking may still be open (default: ${default})."`
	remote
}

// errFound means that an inspection or a comparison has found faults, which have been printed.
var errFound = errors.New("faults were found; see above")

// notInNATS lists what a backup does not contain.
const notInNATS = `These are not in NATS, and so not in the backup: authsvc's private keys (--private-key and its folder),
the service keys and rides.secret (--services), and accounts in PostgreSQL (--accounts).
Back them up as well, in another place.
`

func (c makeBackup) Run(ctx context.Context, env program.Env) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout.Value)
	defer cancel()
	return c.Operator(env, "pillion backup").WithStreams(ctx, func(ctx context.Context, conn *bus.Conn) error {
		_, err := copyTo(ctx, env.Stdout, conn, c.Out.Value, c.Stopped.On)
		if err == nil {
			_, err = io.WriteString(env.Stdout,
				"It contains tokens and password hashes. Protect it from other readers.\n"+notInNATS)
		}
		return err
	})
}

// copyTo makes a backup in a folder and prints its progress to out. still means that nothing is
// written meanwhile.
func copyTo(ctx context.Context, out io.Writer, conn *bus.Conn, folder string, still bool) (backup.Manifest, error) {
	m, err := backup.Make(ctx, conn, folder, backup.Options{Pillion: program.Version(), Still: still,
		Each: func(s backup.Stream) {
			fmt.Fprintf(out, "copied %-16s %d messages, to %d\n", s.Name, s.Messages(), s.Last())
		}})
	if err != nil {
		return m, err
	}
	_, err = fmt.Fprintf(out, "The backup in %s is complete. It contains everything acknowledged before %s.\n",
		folder, m.Began.Format(time.RFC3339))
	return m, err
}

func (c restoreBackup) Run(ctx context.Context, env program.Env) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout.Value)
	defer cancel()
	b, err := backup.Open(c.Folder)
	if err != nil {
		return err
	}
	return c.restore(ctx, env.Stdout, c.Operator(env, "pillion restore"), b, nil, c.KeepSessions.On)
}

// restore restores a backup and prints the result. before are the findings that the ledger had
// before the backup; the restore is not to blame for them.
func (s restoreSettings) restore(
	ctx context.Context, out io.Writer, o wiring.Operator, b *backup.Backup, before []inspect.Finding, sessions bool,
) error {
	found, err := o.Restore(ctx, b, backup.RestoreOptions{
		Replicas: s.Replicas.Value, KeepSessions: sessions,
		Each: func(s backup.Stream) { fmt.Fprintf(out, "restored %s\n", s.Name) },
	})
	if err != nil {
		return err
	}
	clean := report(out, found.Ledger)
	if !clean && slices.Equal(found.Ledger.Findings, before) {
		fmt.Fprintln(out, "The ledger had all of these faults before.")
		clean = true
	}
	for _, wrong := range found.Wrong {
		fmt.Fprintln(out, wrong)
	}
	if !clean || len(found.Wrong) > 0 {
		return errFound
	}
	fmt.Fprintf(out, "The system is restored to its state at %s.\n", b.Began.Format(time.RFC3339))
	if !sessions {
		fmt.Fprintln(out, "Everyone has to log in again: refresh tokens may have been used since the backup.")
	}
	return nil
}

func (c audit) Run(ctx context.Context, env program.Env) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout.Value)
	defer cancel()
	found, err := c.Operator(env, "pillion audit").Inspect(ctx, inspect.Options{Grace: max(c.Grace.Value, 1)})
	if err != nil {
		return err
	}
	if !report(env.Stdout, found) {
		return errFound
	}
	return nil
}

// report prints the result of an inspection. It returns whether the ledger has no faults.
func report(out io.Writer, i inspect.Report) bool {
	events := 0
	for _, n := range i.Events {
		events += n
	}
	fmt.Fprintf(out, "ledger: messages %d to %d, %d events, bookings: %s, refused: %s\n",
		i.First, i.Last, events, counts(i.Bookings), counts(i.Refused))
	for _, f := range i.Findings {
		fmt.Fprintln(out, f)
	}
	if i.More > 0 {
		fmt.Fprintf(out, "and %d more\n", i.More)
	}
	if len(i.Findings) == 0 {
		fmt.Fprintln(out, "The ledger has no faults.")
	}
	return len(i.Findings) == 0
}

// counts returns the counts of m, sorted by key.
func counts[K ~string](m map[K]int) string {
	if len(m) == 0 {
		return "none"
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%d %s", m[k], string(k)))
	}
	return strings.Join(parts, ", ")
}
