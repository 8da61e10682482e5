package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/secretfile"
)

// keyCommands are the commands about the keys of our own services.
type keyCommands struct {
	Init initKeys `cmd:"" help:"Make the keys that are missing, and write down the public halves of all of them for the configuration of NATS servers."`
}

type initKeys struct {
	Services setting.Text `name:"services" env:"SERVICES_DIR" default:"data/services" placeholder:"FOLDER" group:"Storage:" help:"Where the keys of our own services are, and their public halves (default: ${default})."`
	Apart    setting.Text `name:"apart" placeholder:"FOLDER" group:"Storage:" help:"Keep each service's key in a folder of its own in this one, and only the public halves in --services."`
	Conf     setting.Text `name:"conf" placeholder:"FILE" group:"Storage:" help:"Where to write what deploy/nats/access.conf includes as keys/keys.conf (default: standard output)."`
}

// errConf is that the configuration could not be written.
var errConf = fault.New(fault.Invalid, "keys_conf", "The file for the NATS servers could not be written.")

func (c initKeys) run(env program.Env) error {
	folder := func(who string) string { return c.Services.Value }
	if c.Apart.Value != "" {
		folder = func(who string) string { return filepath.Join(c.Apart.Value, who) }
	}
	public, err := access.LoadOrCreateIn(folder)
	if err != nil {
		return err
	}
	if c.Apart.Value != "" {
		for _, who := range []string{access.Authsvc, access.Usersvc, access.Ridersvc, access.Operator} {
			file := filepath.Join(c.Services.Value, who+".pub")
			if err := secretfile.Create(file, []byte(public.Services[who]+"\n")); err != nil {
				return errConf.Saying(fmt.Sprintf("%s could not be written. Make that folder writable, or name another with --services.", file)).Because(err)
			}
		}
	}
	if c.Conf.Value == "" {
		_, err := fmt.Fprint(env.Stdout, public.Define())
		return err
	}
	if err := replace(c.Conf.Value, public.Define()); err != nil {
		return errConf.Saying(fmt.Sprintf("%s could not be written. Make its folder writable, or name another file with --conf.", c.Conf.Value)).Because(err)
	}
	_, err = fmt.Fprintf(env.Stdout, "The keys are there, and %s says to NATS which they are.\n", c.Conf.Value)
	return err
}

// replace writes a file that anybody may read, and that is there as a whole or as it was before.
func replace(path, text string) error {
	temp := path + ".new"
	if err := os.WriteFile(temp, []byte(text), 0o644); err != nil { //nolint:gosec // they are public
		return err
	}
	return os.Rename(temp, path)
}
