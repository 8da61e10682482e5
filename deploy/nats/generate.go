//go:build ignore

// Command generate writes access.conf from the table in package access.
package main

import (
	"fmt"
	"os"

	"github.com/example/pillion/bus/access"
)

func main() {
	if err := os.WriteFile("access.conf", []byte(access.File()), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
