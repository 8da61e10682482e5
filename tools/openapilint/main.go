// Openapilint lints OpenAPI documents by the rules of rules.yaml. It prints what it finds, and ends
// with status 1 if that is anything at all.
package main

import (
	"bytes"
	"context"
	_ "embed" // for rules.yaml
	"fmt"
	"os"
	"path/filepath"

	"github.com/speakeasy-api/openapi/linter"
	"github.com/speakeasy-api/openapi/openapi"
	rules "github.com/speakeasy-api/openapi/openapi/linter"
	"github.com/speakeasy-api/openapi/references"
)

//go:embed rules.yaml
var config []byte

func main() {
	clean := true
	for _, file := range os.Args[1:] {
		found, err := lint(file)
		for _, f := range append(found, err) {
			if f != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", file, f)
				clean = false
			}
		}
	}
	if !clean {
		os.Exit(1)
	}
}

// lint returns what the rules find in a document, or an error if it cannot be read.
func lint(file string) (found []error, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	// References in the document are relative to this path.
	path, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	doc, invalid, err := openapi.Unmarshal(ctx, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	c, err := linter.LoadConfig(bytes.NewReader(config))
	if err != nil {
		return nil, err
	}
	l, err := rules.NewLinter(c)
	if err != nil {
		return nil, err
	}
	version := doc.GetOpenAPI()
	out, err := l.Lint(ctx, linter.NewDocumentInfo(doc, path), invalid, &linter.LintOptions{
		VersionFilter: &version, ResolveOptions: &references.ResolveOptions{RootDocument: doc, TargetLocation: path},
	})
	if err != nil {
		return nil, err
	}
	return out.Results, nil
}
