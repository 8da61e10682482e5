package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pillion/bus"
	"pillion/bus/access"
	"pillion/bus/backup"
	"pillion/bus/embedded"
	"pillion/cmd/internal/program"
	"pillion/cmd/internal/setting"
	"pillion/cmd/internal/wiring"
	"pillion/fault"
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
	folder, err := c.copy(ctx, env)
	if err != nil {
		return err
	}
	b, err := backup.Open(folder)
	if err != nil {
		return err
	}
	at := c.at("move")
	if err := c.fill(ctx, env.Stdout, c.log(env), at, c.key(), b, true); err != nil {
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

// copy makes a backup of the system in the data folder, and returns where that is.
func (c move) copy(ctx context.Context, env program.Env) (to string, err error) {
	streams := filepath.Join(c.Data.Value, "nats")
	if _, err := os.Stat(streams); err != nil {
		return "", errNoData.Saying(fmt.Sprintf("There is no system in %s, since there is no %s. Name the folder with --data.", c.Data.Value, streams)).Because(err)
	}
	keys, err := access.LoadOrCreate(c.services())
	if err != nil {
		return "", err
	}
	log := c.log(env)
	server, err := embedded.Start(embedded.Config{Dir: streams, SyncAlways: true, Log: log, Access: access.Conf(keys, false)})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	if to, err = os.MkdirTemp(c.Data.Value, "move-"); err != nil {
		return "", fmt.Errorf("make a folder for the copy: %w", err)
	}
	at := bus.Config{InProcess: server.Provider(), Name: "pillion move"}
	err = wiring.AsOperator(ctx, log, at, access.KeyFile(c.services(), access.Operator), func(ctx context.Context, conn *bus.Conn) error {
		_, err := copyTo(ctx, env.Stdout, conn, to, true)
		return err
	})
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(to))
	}
	return to, nil
}
