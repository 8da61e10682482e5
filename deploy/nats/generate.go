//go:build ignore

// Command generate writes access.conf from the table in package access, and copies the files of a
// cluster to where kustomize can read them.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/example/pillion/bus/access"
)

func main() {
	err := os.WriteFile("access.conf", []byte(access.File()), 0o644)
	for _, name := range []string{"cluster.conf", "tls.conf", "access.conf"} {
		text, reading := os.ReadFile(name)
		err = errors.Join(err, reading, os.WriteFile(filepath.Join("../k8s/base/nats", name), text, 0o644))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
