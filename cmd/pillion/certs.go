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

// certCommands create certificates for trying TLS.
type certCommands struct {
	Init initCerts `cmd:"" help:"Create a CA and its certificates for trying TLS, if they are missing. Not for production; see docs/tls.md."`
}

type initCerts struct {
	Folder setting.Text   `name:"certs" env:"CERTS_DIR" default:"data/certs" placeholder:"FOLDER" group:"Storage:" help:"Folder for ca.crt, ca.key, and each NAME.crt and NAME.key (default: ${default})."`
	Apart  setting.Text   `name:"apart" placeholder:"FOLDER" group:"Storage:" help:"Keep each private key in its own subfolder of this folder, and only the CA's certificate in --certs."`
	For    setting.Text   `name:"for" placeholder:"NAMES" default:"nats,authsvc,usersvc,ridersvc,pillion" help:"Names of the certificates, separated by commas (default: ${default})."`
	Hosts  setting.Text   `name:"hosts" placeholder:"NAMES" help:"Additional host names or addresses for all certificates, separated by commas."`
	Renew  setting.Switch `name:"renew" help:"Replace existing certificates and their keys, with the same CA."`
}

// errNoHolder means that --for has an unknown name.
var errNoHolder = fault.New(fault.Invalid, "certificate_holder",
	"There are certificates for nats, authsvc, usersvc, ridersvc, gateway and pillion. Choose some of these with --for.")

// holders returns the servers with the given names, and their host names on one machine, in
// containers and in a cluster.
func holders(names, more []string) (all []trialca.Holder, err error) {
	for _, name := range names {
		h := trialca.Holder{Name: name, Hosts: slices.Concat([]string{"localhost", "127.0.0.1", "::1", name}, more)}
		switch name {
		case "nats":
			h.Hosts, h.Peer = append(h.Hosts, "nats-1", "nats-2", "nats-3"), true
		case "authsvc", "usersvc", "ridersvc":
			h.Hosts = append(h.Hosts, name+"-1", name+"-2") // for their load balancer
		case "pillion", "gateway":
		default:
			return nil, errNoHolder
		}
		all = append(all, h)
	}
	return all, nil
}

// words splits a list at its commas.
func words(list string) (all []string) {
	for one := range strings.SplitSeq(list, ",") {
		if one = strings.TrimSpace(one); one != "" {
			all = append(all, one)
		}
	}
	return all
}

func (c initCerts) Run(env program.Env) error {
	who, err := holders(words(c.For.Value), words(c.Hosts.Value))
	if err != nil {
		return err
	}
	make := trialca.Config{Folder: func(string) string { return c.Folder.Value }, Holders: who, Renew: c.Renew.On}
	if c.Apart.Value != "" {
		make.Folder, make.Public = func(name string) string { return filepath.Join(c.Apart.Value, name) },
			c.Folder.Value
	}
	made, err := trialca.Make(make)
	if err != nil {
		return err
	}
	message := "All certificates exist already. Replace them with --renew.\n"
	if len(made) > 0 {
		message = fmt.Sprintf("Created for trying TLS, in %s: %s.\n", c.where(), strings.Join(made, ", "))
	}
	_, err = fmt.Fprint(env.Stdout, message)
	return err
}

// where returns the folders for a message.
func (c initCerts) where() string {
	if c.Apart.Value != "" {
		return c.Folder.Value + " and " + c.Apart.Value
	}
	return c.Folder.Value
}
