package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/backup"
	"github.com/example/pillion/bus/inspect"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
)

// there is a NATS server elsewhere, and how long an operator works on it.
type there struct {
	Timeout setting.Duration `name:"timeout" env:"COPY_TIMEOUT" default:"1h" min:"1s" max:"240h" placeholder:"DURATION" help:"How long the command may take (default: ${default})."`
	setting.ServiceKey
	setting.Remote
	Level  setting.Choice `name:"log-level" env:"LOG_LEVEL" default:"error" oneof:"debug info warn error" placeholder:"LEVEL" group:"Log:" help:"debug, info, warn or error (default: ${default})."`
	Format setting.Choice `name:"log-format" env:"LOG_FORMAT" default:"" oneof:"text json" placeholder:"FORMAT" group:"Log:" help:"text or json (default: text on a terminal, else json)."`
}

func (t there) at(command string) bus.Config {
	return wiring.At(t.Remote, "pillion "+command)
}
func (t there) key() string { return t.Path(access.Operator) }
func (t there) log(env program.Env) *slog.Logger {
	return env.Logger(setting.Log{Level: t.Level, Format: t.Format})
}

type makeBackup struct {
	Out     setting.Text   `name:"out" required:"" placeholder:"FOLDER" help:"Where to put it: a folder that is empty, or not there yet."`
	Stopped setting.Switch `name:"stopped" help:"Only where all services are stopped, and nothing is written meanwhile: for a system that is to go on elsewhere."`
	there
}

type restoreBackup struct {
	Folder string `arg:"" name:"folder" help:"A folder that pillion backup has made."`
	restored
	KeepSessions setting.Switch `name:"keep-sessions" help:"Keep everybody logged in. Only where nothing has run since the backup was made."`
	there
}

// restored is how a system is restored.
type restored struct {
	Replicas setting.Number `name:"replicas" env:"REPLICAS" default:"0" oneof:"0 1 3 5" placeholder:"N" help:"Copies of every stream and bucket: 1, 3 or 5; 0 is as many as they had (default: ${default})."`
}

type audit struct {
	Grace setting.Duration `name:"grace" default:"1m" min:"0s" max:"240h" placeholder:"DURATION" help:"How long after its deadline a booking may still wait to be expired (default: ${default})."`
	there
}

// errFound is that an inspection or a comparison has found something; what it is has been printed.
var errFound = errors.New("not all is as it should be; see above")

// notInNATS says what an operator must not forget.
const notInNATS = `Not in NATS, and so not in it: the private keys of authsvc (--private-key and its folder), the keys of services with rides.secret
(--services), and accounts in PostgreSQL (--accounts). Keep copies of those as well, apart from this one.
`

func (c makeBackup) run(ctx context.Context, env program.Env) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout.Value)
	defer cancel()
	return wiring.AsOperator(ctx, c.log(env), c.at("backup"), c.key(), func(ctx context.Context, conn *bus.Conn) error {
		_, err := copyTo(ctx, env.Stdout, conn, c.Out.Value, c.Stopped.On)
		if err == nil {
			_, err = io.WriteString(env.Stdout, "It holds tokens and hashes of passwords: whoever can read it can try them.\n"+notInNATS)
		}
		return err
	})
}

func copyTo(ctx context.Context, out io.Writer, conn *bus.Conn, folder string, still bool) (backup.Manifest, error) {
	m, err := backup.Make(ctx, conn, folder, backup.Options{Pillion: program.Version(), Still: still, Each: func(s backup.Stream) {
		fmt.Fprintf(out, "copied %-16s %d messages, to %d\n", s.Name, s.Messages(), s.Last())
	}})
	if err != nil {
		return m, err
	}
	_, err = fmt.Fprintf(out, "The backup in %s is complete, with everything that was acknowledged before %s.\n", folder, m.Began.Format(time.RFC3339))
	return m, err
}

func (c restoreBackup) run(ctx context.Context, env program.Env) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout.Value)
	defer cancel()
	b, err := backup.Open(c.Folder)
	if err != nil {
		return err
	}
	return c.fill(ctx, env.Stdout, c.log(env), c.at("restore"), c.key(), b, nil, c.KeepSessions.On)
}

// fill restores a backup, and says what has become of it. What was found in the ledger before, where somebody has looked, is not the restore's fault.
func (r restored) fill(ctx context.Context, out io.Writer, log *slog.Logger, at bus.Config, key string, b *backup.Backup, before []inspect.Finding, sessions bool) error {
	found, err := wiring.Restore(ctx, log, at, key, b, backup.RestoreOptions{Replicas: r.Replicas.Value, KeepSessions: sessions, Each: func(s backup.Stream) {
		fmt.Fprintf(out, "restored %s\n", s.Name)
	}})
	if err != nil {
		return err
	}
	clean := report(out, found.Ledger)
	if !clean && slices.Equal(found.Ledger.Findings, before) {
		fmt.Fprintln(out, "All of that was so before.")
		clean = true
	}
	for _, wrong := range found.Wrong {
		fmt.Fprintln(out, wrong)
	}
	if !clean || len(found.Wrong) > 0 {
		return errFound
	}
	fmt.Fprintf(out, "All is there that was there at %s.\n", b.Began.Format(time.RFC3339))
	if !sessions {
		fmt.Fprintln(out, "Everybody has to log in again: who has used which refresh token since then is not known.")
	}
	return nil
}

func (c audit) run(ctx context.Context, env program.Env) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout.Value)
	defer cancel()
	found, err := wiring.Inspect(ctx, c.log(env), c.at("audit"), c.key(), inspect.Options{Grace: max(c.Grace.Value, 1)})
	if err != nil {
		return err
	}
	if !report(env.Stdout, found) {
		return errFound
	}
	return nil
}

// report prints what an inspection has found, and returns whether nothing of it should not be.
func report(out io.Writer, i inspect.Report) bool {
	events := 0
	for _, n := range i.Events {
		events += n
	}
	fmt.Fprintf(out, "ledger: messages %d to %d, %d events, bookings: %s, refused: %s\n", i.First, i.Last, events, counts(i.Bookings), counts(i.Refused))
	for _, f := range i.Findings {
		fmt.Fprintln(out, f)
	}
	if i.More > 0 {
		fmt.Fprintf(out, "and %d more\n", i.More)
	}
	if len(i.Findings) == 0 {
		fmt.Fprintln(out, "Nothing is wrong with the ledger.")
	}
	return len(i.Findings) == 0
}

func counts[K ~string](of map[K]int) string {
	if len(of) == 0 {
		return "none"
	}
	var words []string
	for _, k := range slices.Sorted(maps.Keys(of)) {
		words = append(words, fmt.Sprintf("%d %s", of[k], string(k)))
	}
	return strings.Join(words, ", ")
}
