package program

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/example/pillion/cmd/internal/setting"
)

// An Address is a listening address, as the banner shows it.
type Address struct {
	Name string // "usersvc"
	URL  string // "http://127.0.0.1:3001"
	For  string // its purpose, in a few words
}

// Banner logs the addresses on which the program listens. Where the log is text for people, it also
// prints them on standard error with the version and shell commands to try: a log in JSON must have
// nothing else between its lines. Call it once, when all addresses are bound.
func (e Env) Banner(s setting.Log, addresses []Address, try []string) {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s %s\n\n", e.Name, Version())
	attrs := make([]any, 0, len(addresses))
	for _, a := range addresses {
		fmt.Fprintf(&b, "  %-9s %-23s %s\n", a.Name, a.URL, a.For)
		attrs = append(attrs, slog.String(a.Name, a.URL))
	}
	if len(try) > 0 {
		fmt.Fprintf(&b, "\nTry, in another terminal:\n\n  %s\n", strings.Join(try, "\n  "))
	}
	b.WriteString("\nCtrl-C stops it.\n\n")
	e.Logger(s).Info("listening", attrs...)
	if isText(s, e.Stderr) {
		fmt.Fprint(e.Stderr, b.String())
	}
}
