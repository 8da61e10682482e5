package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/example/pillion/bus/access"
	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/cmd/internal/wiring"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/secretfile"
	"github.com/example/pillion/token/trustkey"
)

// keyCommands manage the keys of Pillion's services.
type keyCommands struct {
	Init initKeys `cmd:"" help:"Create missing keys and the secret of rides, and write all public keys for the configuration of NATS servers."`
}

type initKeys struct {
	Services setting.Text   `name:"services" env:"SERVICES_DIR" default:"data/services" placeholder:"FOLDER" group:"Storage:" help:"Folder of the service keys and their public keys (default: ${default})."`
	Apart    setting.Text   `name:"apart" placeholder:"FOLDER" group:"Storage:" help:"Keep each service's key in its own subfolder of this folder, and only the public keys in --services."`
	Replace  setting.Switch `name:"replace-trust-key" help:"Replace the trust key by a successor that it signs, and do nothing else."`
	Conf     setting.Text   `name:"conf" placeholder:"FILE" group:"Storage:" help:"File for the public keys, which deploy/nats/access.conf includes as keys/keys.conf (default: standard output)."`
}

// errConf means that a file for the NATS servers cannot be written.
var errConf = fault.New(fault.Invalid, "keys_conf", "Cannot write the configuration of the NATS servers.")

func (c initKeys) Run(env program.Env) error {
	folder := func(who string) string { return c.Services.Value }
	if c.Apart.Value != "" {
		folder = func(who string) string { return filepath.Join(c.Apart.Value, who) }
	}
	trust := filepath.Join(folder(access.Authsvc), trustkey.KeyFile)
	if c.Replace.On {
		if err := trustkey.Replace(trust); err != nil {
			return err
		}
		_, err := fmt.Fprintf(env.Stdout, "%s is a new trust key, which the former one has signed. "+
			"Restart authsvc, then run `pillion keys init`, which gives every service its public half.\n", trust)
		return err
	}
	public, err := access.LoadOrCreateIn(folder)
	if err != nil {
		return err
	}
	if err := wiring.ShareSecret(c.secrets()...); err != nil {
		return err
	}
	if _, err := wiring.BindingKey(trust); err != nil {
		return err
	}
	if c.Apart.Value != "" {
		for _, who := range []string{access.Authsvc, access.Usersvc, access.Ridersvc, access.Operator} {
			file := filepath.Join(c.Services.Value, who+".pub")
			if err := secretfile.Create(file, []byte(public.Services[who]+"\n")); err != nil {
				return errConf.Sayingf(
					"Cannot write %s: %s. Make the folder writable, or choose another one with --services.",
					file, fault.Reason(err)).Because(err)
			}
		}
	}
	if c.Conf.Value == "" {
		_, err := fmt.Fprint(env.Stdout, public.Define())
		return err
	}
	if err := replace(c.Conf.Value, public.Define()); err != nil {
		return errConf.Sayingf(
			"Cannot write %s: %s. Make its folder writable, or choose another file with --conf.",
			c.Conf.Value, fault.Reason(err)).Because(err)
	}
	_, err = fmt.Fprintf(env.Stdout, "The keys exist, and their public keys for NATS are in %s.\n", c.Conf.Value)
	return err
}

// ridesFolder is the subfolder of --apart for the secret of rides.
const ridesFolder = "rides"

// secrets returns the files of the secret of rides. With --apart it is in a folder of its own.
// Earlier versions kept a copy beside the keys of usersvc and of ridersvc; where there is one, it
// is the secret.
func (c initKeys) secrets() (files []string) {
	if c.Apart.Value == "" {
		return []string{filepath.Join(c.Services.Value, setting.RidesSecret)}
	}
	for _, who := range []string{access.Usersvc, access.Ridersvc} {
		file := filepath.Join(c.Apart.Value, who, setting.RidesSecret)
		if _, err := os.Stat(file); err == nil {
			files = append(files, file)
		}
	}
	return append(files, filepath.Join(c.Apart.Value, ridesFolder, setting.RidesSecret))
}

// replace atomically writes a file that all users can read.
func replace(path, text string) error {
	temp := path + ".new"
	if err := os.WriteFile(temp, []byte(text), 0o644); err != nil { //nolint:gosec // public keys
		return err
	}
	return os.Rename(temp, path)
}
