package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/example/pillion/cmd/internal/program"
	"github.com/example/pillion/cmd/internal/setting"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/trialca"
)

// certCommands are the commands about certificates for trying TLS.
type certCommands struct {
	Init initCerts `cmd:"" help:"Make a CA and certificates from it, for trying TLS: those that are missing. Not for production (see docs/tls.md)."`
}

type initCerts struct {
	Folder setting.Text   `name:"certs" env:"CERTS_DIR" default:"data/certs" placeholder:"FOLDER" group:"Storage:" help:"Where to put them: ca.crt, ca.key, and NAME.crt and NAME.key for each (default: ${default})."`
	Apart  setting.Text   `name:"apart" placeholder:"FOLDER" group:"Storage:" help:"Keep each key, that of the CA too, in a folder of its own in this one, and only the CA's certificate in --certs."`
	For    setting.Text   `name:"for" placeholder:"NAMES" default:"nats,authsvc,usersvc,ridersvc,pillion" help:"Whose certificates, separated by commas (default: ${default})."`
	Hosts  setting.Text   `name:"hosts" placeholder:"NAMES" help:"Further host names or addresses that all certificates are for, separated by commas."`
	Renew  setting.Switch `name:"renew" help:"Replace the certificates that are there, with new keys, by ones of the same CA."`
}

// errNoHolder refuses a name that no certificate is for.
var errNoHolder = fault.New(fault.Invalid, "certificate_holder", "Certificates are for nats, authsvc, usersvc, ridersvc and pillion. Name some of those with --for.")

// holders are those who listen, and where the containers of one machine and of a cluster reach them.
func holders(names, more []string) (all []trialca.Holder, err error) {
	for _, name := range names {
		h := trialca.Holder{Name: name, Hosts: slices.Concat([]string{"localhost", "127.0.0.1", "::1", name}, more)}
		switch name {
		case "nats":
			h.Hosts, h.Peer = append(h.Hosts, "nats-1", "nats-2", "nats-3"), true
		case "authsvc", "usersvc", "ridersvc":
			h.Hosts = append(h.Hosts, name+"-1", name+"-2") // for what balances their load
		case "pillion":
		default:
			return nil, errNoHolder
		}
		all = append(all, h)
	}
	return all, nil
}

// words are what is between commas.
func words(list string) (all []string) {
	for one := range strings.SplitSeq(list, ",") {
		if one = strings.TrimSpace(one); one != "" {
			all = append(all, one)
		}
	}
	return all
}

func (c initCerts) run(env program.Env) error {
	who, err := holders(words(c.For.Value), words(c.Hosts.Value))
	if err != nil {
		return err
	}
	make := trialca.Config{Folder: func(string) string { return c.Folder.Value }, Holders: who, Renew: c.Renew.On}
	if c.Apart.Value != "" {
		make.Folder, make.Public = func(name string) string { return filepath.Join(c.Apart.Value, name) }, c.Folder.Value
	}
	made, err := trialca.Make(make)
	if err != nil {
		return err
	}
	say := "All certificates were there, and stay; --renew makes new ones.\n"
	if len(made) > 0 {
		say = fmt.Sprintf("Made for trying, in %s: %s.\n", c.where(), strings.Join(made, ", "))
	}
	_, err = fmt.Fprint(env.Stdout, say)
	return err
}

// where names the folders for people.
func (c initCerts) where() string {
	if c.Apart.Value != "" {
		return c.Folder.Value + " and " + c.Apart.Value
	}
	return c.Folder.Value
}
