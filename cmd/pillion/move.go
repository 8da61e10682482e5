package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/bus/backup"
	"github.com/example/pillion/bus/embedded"
	"github.com/example/pillion/bus/inspect"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/token/trustkey"
)

// move is the command that moves a system from the embedded NATS server to a remote one.
//
// It starts the embedded server itself, without a network address. So nothing is written after the
// copy. It also proves that pillion is stopped, because a second server cannot open the same
// folder.
type move struct {
	Data     setting.Text `name:"data" env:"PILLION_DATA" default:"./data" placeholder:"FOLDER" help:"Data folder of the system to move (default: ${default})."`
	Services setting.Text `name:"services" env:"SERVICES_DIR" placeholder:"FOLDER" help:"Folder of its service keys (default: services in the data folder)."`
	restoreSettings
	remote
}

// movedName is the file that marks a data folder whose system has moved.
const movedName = "MOVED"

var (
	errMoved  = fault.New(fault.Invalid, "moved", "The system of this data folder has moved.")
	errNoData = fault.New(fault.Invalid, "no_data", "This data folder contains no system.")
)

// refuseMoved returns errMoved for the data folder of a system that has moved. Its new bookings
// would be missing from the moved system.
func refuseMoved(data string) error {
	file := filepath.Join(data, movedName)
	where, err := os.ReadFile(file)
	switch _, gone := os.Lstat(file); {
	case errors.Is(gone, os.ErrNotExist):
		return nil
	case gone != nil: // the folder is another user's, or is none
		return embedded.ErrDir.Sayingf("The data folder %s cannot be used: %s. Choose another with --data.",
			data, fault.Reason(gone)).Because(gone)
	case err != nil:
		return errMoved.Sayingf("Cannot read %s, which tells whether the system has moved.",
			file).Because(err)
	}
	return errMoved.Sayingf("The system in %s has moved: %s. Use it at its new place with --nats-url, "+
		"or choose another folder with --data. To use the old system nevertheless, delete %s.",
		data, strings.TrimSpace(string(where)), file)
}

func (c move) Run(ctx context.Context, env program.Env) (err error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout.Value)
	defer cancel()
	if err := refuseMoved(c.Data.Value); err != nil {
		return err
	}
	folder, err := os.MkdirTemp(c.Data.Value, "move-")
	if err != nil {
		return errNoData.Sayingf(
			"Cannot write a copy of the system to %s: %s. Check that the folder exists and is writable.",
			c.Data.Value, fault.Reason(err)).Because(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(folder))
		}
	}()
	before, err := c.copy(ctx, env, folder)
	if err != nil {
		return err
	}
	b, err := backup.Open(folder)
	if err != nil {
		return err
	}
	if err := c.restore(ctx, env.Stdout, c.operator(env), b, before, true); err != nil {
		return err
	}
	// The remote system is complete. From here on the old one must not be used.
	note := fmt.Sprintf("on %s, to another NATS server\n", time.Now().UTC().Format(time.RFC3339))
	file := filepath.Join(c.Data.Value, movedName)
	if err := os.WriteFile(file, []byte(note), 0o600); err != nil {
		return fmt.Errorf("the system has moved, but %s cannot be written; "+
			"do not start pillion with this data folder again: %w", file, err)
	}
	_, err = fmt.Fprintf(env.Stdout,
		"The system has moved. pillion no longer starts with %s. Keep the copy in %s as a backup, or delete it.\n"+
			"Copy these files to the new services: authsvc's private keys (%s), the service keys and rides.secret (%s).\n",
		c.Data.Value, folder, filepath.Join(c.Data.Value, "keys"), c.services())
	return err
}

func (c move) services() string {
	if c.Services.Value != "" {
		return c.Services.Value
	}
	return filepath.Join(c.Data.Value, "services")
}

// operator returns the operator at the remote server. Its key is in the folder of the service keys,
// unless --service-key names it, and so is the public half of the trust key, which stays the same.
func (c move) operator(env program.Env) wiring.Operator {
	o := c.Operator(env, "pillion move")
	if c.File.Value == "" {
		o.Key = access.KeyFile(c.services(), access.Operator)
	}
	o.Anchor.Value = cmp.Or(o.Anchor.Value, filepath.Join(c.services(), trustkey.AnchorFile))
	return o
}

// copy makes a backup of the system in the data folder, and returns the faults of its ledger.
func (c move) copy(ctx context.Context, env program.Env, folder string) (before []inspect.Finding, err error) {
	streams := filepath.Join(c.Data.Value, "nats")
	if _, err := os.Stat(streams); err != nil {
		return nil, errNoData.Sayingf(
			"There is no system in %s, because %s does not exist. Choose the folder with --data.", c.Data.Value,
			streams).Because(err)
	}
	keys, err := access.LoadOrCreate(c.services())
	if err != nil {
		return nil, err
	}
	inside := c.operator(env)
	server, err := embedded.Start(embedded.Config{
		Dir: streams, SyncAlways: true, Log: inside.Log, Access: access.Conf(keys, false),
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	inside.At = bus.Config{InProcess: server.Provider(), Name: "pillion move"}
	inside.Key = access.KeyFile(c.services(), access.Operator)
	err = inside.WithStreams(ctx, func(ctx context.Context, conn *bus.Conn) error {
		m, err := copyTo(ctx, env.Stdout, conn, folder, true)
		if err != nil || m.Stream(bus.LedgerStream).Messages() == 0 {
			return err
		}
		found, err := inside.Inspect(ctx, inspect.Options{Grace: wiring.NeverOverdue})
		before = found.Findings
		return err
	})
	return before, err
}
