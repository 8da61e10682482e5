// Package access holds the NATS permissions of every client, and renders them as server
// configuration. Call [LoadOrCreate] for the keys of all services, and pass them to [Conf]: the
// embedded server and the servers of a cluster enforce the same table.
//
// [Table] lists the permissions of Pillion's own processes, each of which authenticates with its
// own nkey. [Of] returns those of a client with an access token, which the server validates through
// package callout.
//
// NATS matches subjects and knows nothing of bookings. The table prevents a service from writing
// another service's events. Whether an event is true is for its readers to verify.
package access

import (
	_ "embed" // for access.conf.tmpl
	"fmt"
	"slices"
	"strings"
	"text/template"
)

// CalloutPatience is how long a server waits for authsvc to authenticate a client, in seconds.
// Without an answer it rejects the client. Existing connections stay.
const CalloutPatience = "1.5"

// PublicKeys are the public keys that a server's configuration names.
type PublicKeys struct {
	Services map[string]string // the key of each of Pillion's own processes, by its name
	Issuer   string            // the key that signs the callout's answers
	XKey     string            // the key that requests to the callout are encrypted for
}

// Variables returns names of variables in place of keys, for a configuration file that is the same
// in every installation. [PublicKeys.Define] returns their definitions.
func Variables() PublicKeys {
	p := PublicKeys{Services: map[string]string{}, Issuer: "$" + variable("issuer"), XKey: "$" + variable("xkey")}
	for _, g := range authenticated() {
		p.Services[g.Who] = "$" + variable(g.Who)
	}
	return p
}

// Define returns the lines that assign p to the names of [Variables].
func (p PublicKeys) Define() string {
	var b strings.Builder
	for _, g := range authenticated() {
		fmt.Fprintf(&b, "%s: %s\n", variable(g.Who), p.Services[g.Who])
	}
	fmt.Fprintf(&b, "%s: %s\n%s: %s\n", variable("issuer"), p.Issuer, variable("xkey"), p.XKey)
	return b.String()
}

func variable(name string) string { return "PILLION_" + strings.ToUpper(name) }

// authenticated returns the rows of the table whose clients have a key: all but the watcher's.
func authenticated() []Grant {
	return slices.DeleteFunc(Table(), func(g Grant) bool { return g.Account == WatchAccount })
}

//go:embed access.conf.tmpl
var confTemplate string

// Conf returns the part of a server's configuration that secures it: accounts, keys and
// permissions. With watch, clients without credentials may subscribe to the demo feed. Use it only
// on a server that is reachable from its own machine alone.
func Conf(p PublicKeys, watch bool) string {
	var known []string
	users := map[string][]Grant{}
	for _, g := range Table() {
		if g.Account == WatchAccount && !watch {
			continue
		}
		known = append(known, p.Services[g.Who])
		users[g.Account] = append(users[g.Account], g)
	}
	all := shares(watch)
	var sections []section
	for _, name := range accounts() {
		s := section{Name: name, JetStream: name == Account, Users: users[name]}
		for _, x := range all {
			if x.From == name {
				s.Exports = append(s.Exports, x)
			}
			if slices.Contains(x.To, name) {
				s.Imports = append(s.Imports, x)
			}
		}
		sections = append(sections, s)
	}
	conf := map[string]any{
		"Accounts": sections, "System": SystemAccount, "Callout": CalloutAccount, "Patience": CalloutPatience,
		"Issuer": p.Issuer, "XKey": p.XKey, "Known": strings.Join(known, ", "),
	}
	if watch {
		conf["Nobody"] = p.Services[Watcher]
	}
	text := template.New("access").Funcs(template.FuncMap{
		"key":  func(who string) string { return p.Services[who] },
		"list": func(names []string) string { return strings.Join(names, ", ") },
	})
	var b strings.Builder
	if err := template.Must(text.Parse(confTemplate)).Execute(&b, conf); err != nil {
		panic(err) // the template and the data are both in this package
	}
	return b.String()
}

// A section is the configuration of one account.
type section struct {
	Name             string
	JetStream        bool
	Exports, Imports []share
	Users            []Grant
}

// File returns the content of deploy/nats/access.conf, the configuration of external servers. It
// includes keys/keys.conf beside it, which defines [Variables].
func File() string {
	return "# Generated from package access by `go generate ./deploy`. Do not edit.\n\n" +
		"# The public halves of the keys, as `pillion keys init` writes them.\ninclude ./keys/keys.conf\n\n" +
		Conf(Variables(), false)
}
