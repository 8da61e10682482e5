package program

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// An Address is a listening address, as the banner shows it.
type Address struct {
	Name string // "usersvc"
	URL  string // "http://127.0.0.1:3001"
	For  string // its purpose, in a few words
}

// Banner writes the listening addresses, and shell commands to try, to w. It also logs the
// addresses. Call it once, when all addresses are bound.
func Banner(w io.Writer, log *slog.Logger, title string, addresses []Address, try []string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", title)
	attrs := make([]any, 0, len(addresses))
	for _, a := range addresses {
		fmt.Fprintf(&b, "  %-9s %-23s %s\n", a.Name, a.URL, a.For)
		attrs = append(attrs, slog.String(a.Name, a.URL))
	}
	if len(try) > 0 {
		fmt.Fprintf(&b, "\nTry, in another terminal:\n\n  %s\n", strings.Join(try, "\n  "))
	}
	b.WriteString("\nCtrl-C stops it.\n\n")
	log.Info("listening", attrs...)
	_, err := io.WriteString(w, b.String())
	return err
}
