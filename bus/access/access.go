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
	"fmt"
	"slices"
	"strings"
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

// Conf returns the part of a server's configuration that secures it: accounts, keys and
// permissions. With watch, clients without credentials may subscribe to the demo feed. Use it only
// on a server that is reachable from its own machine alone.
func Conf(p PublicKeys, watch bool) string {
	b := &strings.Builder{}
	b.WriteString("accounts {\n")
	fmt.Fprintf(b, "  %s {\n    exports: [\n", SystemAccount)
	for _, s := range []string{ConnectionsSubject("*"), KickSubject("*")} {
		fmt.Fprintf(b, "      { service: %q, response_type: stream, accounts: [%s] }\n", s, CalloutAccount)
	}
	b.WriteString("    ]\n  }\n")

	fmt.Fprintf(b, "  %s {\n    imports: [\n", CalloutAccount)
	for _, s := range []string{ConnectionsSubject("*"), KickSubject("*")} {
		fmt.Fprintf(b, "      { service: { account: %s, subject: %q } }\n", SystemAccount, s)
	}
	b.WriteString("    ]\n")
	users(b, p, CalloutAccount)
	b.WriteString("  }\n")

	fmt.Fprintf(b, "  %s {\n    jetstream: enabled\n", Account)
	if watch {
		fmt.Fprintf(b, "    exports: [\n      { stream: %q, accounts: [%s] }\n", exportedFeed, WatchAccount)
		for _, s := range watcher().Publish {
			fmt.Fprintf(b, "      { service: %q, accounts: [%s] }\n", s, WatchAccount)
		}
		b.WriteString("    ]\n")
	}
	users(b, p, Account)
	b.WriteString("  }\n")

	fmt.Fprintf(b, "  %s {\n", WatchAccount)
	if watch {
		fmt.Fprintf(b, "    imports: [\n      { stream: { account: %s, subject: %q }, to: \"booking.>\" }\n", Account,
			exportedFeed)
		for _, s := range watcher().Publish {
			fmt.Fprintf(b, "      { service: { account: %s, subject: %q } }\n", Account, s)
		}
		b.WriteString("    ]\n")
		users(b, p, WatchAccount)
	}
	b.WriteString("  }\n}\n")

	fmt.Fprintf(b, "system_account: %s\n", SystemAccount)
	known := []string{}
	for _, g := range authenticated() {
		known = append(known, p.Services[g.Who])
	}
	if watch {
		known = append(known, p.Services[Watcher])
		// clients without credentials act as this user
		fmt.Fprintf(b, "no_auth_user: %s\n", p.Services[Watcher])
	}
	fmt.Fprintf(b, "authorization {\n  timeout: %s\n"+
		"  auth_callout { issuer: %s, xkey: %s, account: %s, auth_users: [%s] }\n}\n",
		CalloutPatience, p.Issuer, p.XKey, CalloutAccount, strings.Join(known, ", "))
	return b.String()
}

// File returns the content of deploy/nats/access.conf, the configuration of external servers. It
// includes keys/keys.conf beside it, which defines [Variables].
func File() string {
	return "# Generated from package access by `go generate ./deploy`. Do not edit.\n\n" +
		"# The public halves of the keys, as `pillion keys init` writes them.\ninclude ./keys/keys.conf\n\n" +
		Conf(Variables(), false)
}

// exportedFeed is exported to watchers as booking.>.
const exportedFeed = "feed.booking.>"

// users writes the rows of the table that belong to an account.
func users(b *strings.Builder, p PublicKeys, account string) {
	b.WriteString("    users: [\n")
	for _, g := range Table() {
		if g.Account != account {
			continue
		}
		fmt.Fprintf(b, "      # %s\n      { nkey: %s\n", g.Who, p.Services[g.Who])
		fmt.Fprintf(b, "        permissions: {\n          publish: { allow: [\n%s          ]", lines(g.Publish))
		if len(g.NeverPublish) > 0 {
			fmt.Fprintf(b, ", deny: [\n%s          ]", lines(g.NeverPublish))
		}
		fmt.Fprintf(b, " }\n          subscribe: { allow: [\n%s          ] }\n", lines(g.Subscribe))
		if g.Answers {
			b.WriteString("          allow_responses: { max: 100, expires: \"10s\" }\n")
		}
		b.WriteString("        }\n      }\n")
	}
	b.WriteString("    ]\n")
}

func lines(subjects []string) string {
	var b strings.Builder
	for _, s := range subjects {
		fmt.Fprintf(&b, "            %q\n", s)
	}
	return b.String()
}
