// Package access says who may do what on NATS, in one table ([Table], and [Of] for those who come with a token), and writes it down as the
// configuration of a server ([Conf]): the one inside this process and those of a cluster are closed by the same words.
//
// Each of our own processes proves who it is with a key of its own ([LoadOrCreate]). Whoever else comes brings a token, and the server asks
// authsvc about it (package callout). NATS compares subjects and knows nothing of bookings, so this table keeps a service from writing
// another one's events, and that an event is true is still for its readers to verify.
package access

import (
	"fmt"
	"strings"
)

// CalloutPatience is how long a server waits for authsvc to say who somebody is. Without an answer it refuses them, and those who are
// connected stay.
const CalloutPatience = "1.5"

// Public are the public halves of keys, as a server needs them.
type Public struct {
	Services map[string]string // of each of our own processes, by its name
	Issuer   string            // what the callout signs with
	XKey     string            // what a question to the callout is sealed for
}

// Variables are names in the place of keys, for a configuration that is the same everywhere; see [Public.Define].
func Variables() Public {
	p := Public{Services: map[string]string{}, Issuer: "$" + variable("issuer"), XKey: "$" + variable("xkey")}
	for _, g := range keyed() {
		p.Services[g.Who] = "$" + variable(g.Who)
	}
	return p
}

// Define returns the lines that give Variables their values.
func (p Public) Define() string {
	var b strings.Builder
	for _, g := range keyed() {
		fmt.Fprintf(&b, "%s: %s\n", variable(g.Who), p.Services[g.Who])
	}
	fmt.Fprintf(&b, "%s: %s\n%s: %s\n", variable("issuer"), p.Issuer, variable("xkey"), p.XKey)
	return b.String()
}

func variable(name string) string { return "PILLION_" + strings.ToUpper(name) }

// keyed are those who have a key: everybody in the table who is somebody.
func keyed() []Grant {
	var keyed []Grant
	for _, g := range Table() {
		if g.Account != WatchAccount {
			keyed = append(keyed, g)
		}
	}
	return keyed
}

// Conf returns the part of a server's configuration that closes it: accounts, keys and permissions. With watch, anybody may watch what
// happens, without any credential: for demonstrations, on a server that is reached from its own machine only.
func Conf(p Public, watch bool) string {
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
		fmt.Fprintf(b, "    imports: [\n      { stream: { account: %s, subject: %q }, to: %q }\n", Account, exportedFeed, "booking.>")
		for _, s := range watcher().Publish {
			fmt.Fprintf(b, "      { service: { account: %s, subject: %q } }\n", Account, s)
		}
		b.WriteString("    ]\n")
		users(b, p, WatchAccount)
	}
	b.WriteString("  }\n}\n")

	fmt.Fprintf(b, "system_account: %s\n", SystemAccount)
	known := []string{}
	for _, g := range keyed() {
		known = append(known, p.Services[g.Who])
	}
	if watch {
		known = append(known, p.Services[Watcher])
		fmt.Fprintf(b, "no_auth_user: %s\n", p.Services[Watcher]) // who brings nothing is taken for its owner
	}
	fmt.Fprintf(b, "authorization {\n  timeout: %s\n  auth_callout { issuer: %s, xkey: %s, account: %s, auth_users: [%s] }\n}\n",
		CalloutPatience, p.Issuer, p.XKey, CalloutAccount, strings.Join(known, ", "))
	return b.String()
}

// File returns the configuration for servers elsewhere, deploy/nats/access.conf. It includes the values of Variables from keys/keys.conf beside it.
func File() string {
	return "# Generated from package access by `go generate ./deploy`. Do not edit.\n\n" +
		"# The public halves of the keys, as `pillion keys init` writes them.\ninclude ./keys/keys.conf\n\n" + Conf(Variables(), false)
}

// exportedFeed is what watchers see as booking.>.
const exportedFeed = "feed.booking.>"

// users writes those of the table that belong to an account.
func users(b *strings.Builder, p Public, account string) {
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
