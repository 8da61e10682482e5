package main

import (
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
)

// move is the command that takes a system out of the server inside pillion, for services that use a NATS server elsewhere.
//
// It starts that server itself, reachable by nobody else. So nothing can be written after the copy, and pillion, which starts no second server on the
// same folder, is known to be stopped.
type move struct {
	Data     setting.Text `name:"data" env:"PILLION_DATA" default:"./data" placeholder:"FOLDER" help:"The data folder of the pillion that has the system now (default: ${default})."`
	Services setting.Text `name:"services" env:"SERVICES_DIR" placeholder:"FOLDER" help:"Where the keys of its services are (default: services in the data folder)."`
	restored
	there
}

// movedName is the file in a data folder that says that the system in it has gone elsewhere.
const movedName = "MOVED"

var (
	errMoved  = fault.New(fault.Invalid, "moved", "The system in that data folder has moved.")
	errNoData = fault.New(fault.Invalid, "no_data", "There is no system in that data folder.")
)

// refuseMoved refuses to start a system that goes on elsewhere: what would be booked here would be lost there.
func refuseMoved(data string) error {
	file := filepath.Join(data, movedName)
	where, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return errMoved.Saying(fmt.Sprintf("%s cannot be read, which says whether the system has moved.", file)).Because(err)
	}
	return errMoved.Saying(fmt.Sprintf("The system in %s has moved: %s. Use it there, with --nats-url, or another folder with --data. To go on with what is here nevertheless, delete %s.",
		data, strings.TrimSpace(string(where)), file))
}

func (c move) run(ctx context.Context, env program.Env) (err error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout.Value)
	defer cancel()
	if err := refuseMoved(c.Data.Value); err != nil {
		return err
	}
	folder, err := os.MkdirTemp(c.Data.Value, "move-")
	if err != nil {
		return errNoData.Saying(fmt.Sprintf("%s cannot take a copy of the system. See that it is there, and that you may write to it.", c.Data.Value)).Because(err)
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
	if err := c.fill(ctx, env.Stdout, c.log(env), c.at("move"), c.key(), b, before, true); err != nil {
		return err
	}
	// From here on the system is there.
	said := fmt.Sprintf("on %s, to another NATS server\n", time.Now().UTC().Format(time.RFC3339))
	if err := os.WriteFile(filepath.Join(c.Data.Value, movedName), []byte(said), 0o600); err != nil {
		return fmt.Errorf("the system has moved, but that could not be written down; do not start pillion with %s again: %w", c.Data.Value, err)
	}
	_, err = fmt.Fprintf(env.Stdout, "The system has moved, and pillion starts with %s no more. The copy in %s may be kept as a backup, or deleted.\n"+
		"Give the services there the files that they had here: the private keys of authsvc (%s), the keys of services and rides.secret (%s).\n",
		c.Data.Value, folder, filepath.Join(c.Data.Value, "keys"), c.services())
	return err
}

func (c move) services() string {
	if c.Services.Value != "" {
		return c.Services.Value
	}
	return filepath.Join(c.Data.Value, "services")
}

// key returns where the operator's key is: with the others, unless it is named.
func (c move) key() string {
	if c.File.Value != "" {
		return c.File.Value
	}
	return access.KeyFile(c.services(), access.Operator)
}

// copy makes a backup of the system in the data folder, and returns what is wrong with its ledger.
func (c move) copy(ctx context.Context, env program.Env, folder string) (before []inspect.Finding, err error) {
	streams := filepath.Join(c.Data.Value, "nats")
	if _, err := os.Stat(streams); err != nil {
		return nil, errNoData.Saying(fmt.Sprintf("There is no system in %s, since there is no %s. Name the folder with --data.", c.Data.Value, streams)).Because(err)
	}
	keys, err := access.LoadOrCreate(c.services())
	if err != nil {
		return nil, err
	}
	log := c.log(env)
	server, err := embedded.Start(embedded.Config{Dir: streams, SyncAlways: true, Log: log, Access: access.Conf(keys, false)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	at, key := bus.Config{InProcess: server.Provider(), Name: "pillion move"}, access.KeyFile(c.services(), access.Operator)
	err = wiring.AsOperator(ctx, log, at, key, func(ctx context.Context, conn *bus.Conn) error {
		m, err := copyTo(ctx, env.Stdout, conn, folder, true)
		if err != nil || m.Stream(bus.LedgerStream).Messages() == 0 {
			return err
		}
		found, err := wiring.Inspect(ctx, log, at, key, inspect.Options{Grace: wiring.NeverOverdue})
		before = found.Findings
		return err
	})
	return before, err
}
