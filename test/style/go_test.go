package style

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// The limits of Go code. Columns count a tab as four.
const (
	maxCommentColumns = 100
	maxCodeColumns    = 120
	maxFileLines      = 400
	maxFunctionLines  = 80
	maxPackageLines   = 3000
	maxRootFolders    = 16
)

// forbidden are identifiers that were replaced by the usual term, in lower case.
var forbidden = []string{"footing", "teller", "steward", "lapses", "office", "solo", "insist", "sieve", "roomy",
	"outage", "thread"}

// urlText matches a URL: a line that is long because of one is allowed.
var urlText = regexp.MustCompile(`\b[a-z]+://\S+`)

// tableRow matches a row of a test's table, which reads better on one line.
var tableRow = regexp.MustCompile(`^\s*("[^"]*": *)?\{.*\},?$`)

// checkGo applies the rules for Go code to one file.
func checkGo(file string, text []byte) []violation {
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, file, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return []violation{{file, 0, "syntax", err.Error()}}
	}
	if ast.IsGenerated(parsed) {
		return nil
	}
	found := checkTokens(file, text)
	if strings.HasSuffix(file, "_test.go") {
		return found
	}
	if lines := countLines(text); lines > maxFileLines {
		found = append(found, violation{file, 0, "file size",
			fmt.Sprintf("%d lines, the limit is %d", lines, maxFileLines)})
	}
	for _, declared := range parsed.Decls {
		function, ok := declared.(*ast.FuncDecl)
		if !ok {
			continue
		}
		first, last := fset.Position(function.Pos()).Line, fset.Position(function.End()).Line
		if lines := last - first + 1; lines > maxFunctionLines {
			found = append(found, violation{file, first, "function size",
				fmt.Sprintf("%s has %d lines, the limit is %d", function.Name.Name, lines, maxFunctionLines)})
		}
	}
	return found
}

// A lineUse says what a line of Go consists of.
type lineUse struct {
	comment bool // has a comment, or a part of one
	// may be of any length: a directive, the expected output of an example, or a raw string
	free    bool
	strings int // string literals that start here
	others  int // tokens other than string literals and punctuation
}

// checkTokens looks for long lines, forbidden identifiers, and tests that use the routes of a
// service without holding their answers against the OpenAPI document.
func checkTokens(file string, text []byte) []violation {
	var found []violation
	lines := bytes.Split(text, []byte("\n"))
	uses := make([]lineUse, len(lines)+1) // by line number, from 1

	fset := token.NewFileSet()
	source := fset.AddFile(file, fset.Base(), len(text))
	var scan scanner.Scanner
	scan.Init(source, text, nil, scanner.ScanComments)
	output := 0 // the last line of an example's expected output so far
	for {
		pos, tok, literal := scan.Scan()
		if tok == token.EOF {
			break
		}
		line := source.Line(pos)
		use := &uses[line]
		switch {
		case tok == token.COMMENT:
			isOutput := strings.HasPrefix(literal, "// Output:") || strings.HasPrefix(literal, "// Unordered output:")
			if isOutput || output == line-1 && output != 0 {
				output = line
				use.free = true
			}
			use.free = use.free || strings.HasPrefix(literal, "//go:") || strings.HasPrefix(literal, "//nolint")
			for i := range strings.Count(literal, "\n") + 1 {
				uses[line+i].comment = true
			}
		case tok == token.STRING:
			use.strings++
			if end := line + strings.Count(literal, "\n"); end > line {
				for i := line; i <= end; i++ {
					uses[i].free = true
				}
			}
		case tok == token.IDENT && slices.Contains(forbidden, strings.ToLower(literal)):
			found = append(found, violation{file, line, "forbidden identifier", literal})
			use.others++
		case !tok.IsOperator():
			use.others++
		}
	}
	for i, line := range lines {
		found = append(found, checkWidth(file, i+1, string(line), uses[i+1])...)
		if isTest(file) && bytes.Contains(line, []byte(".Routes()"+")")) {
			found = append(found, violation{file, i + 1, "unchecked answers", "wrap them in webtest.Checked"})
		}
	}
	return found
}

// checkWidth measures one line of Go.
func checkWidth(file string, number int, line string, use lineUse) []violation {
	wide := columns(line)
	switch {
	case wide <= maxCommentColumns || use.free || urlText.MatchString(line):
		return nil
	case use.comment:
		return []violation{{file, number, "comment width",
			fmt.Sprintf("%d columns, the limit is %d", wide, maxCommentColumns)}}
	case wide <= maxCodeColumns, use.strings == 1 && use.others == 0:
		return nil
	case strings.HasSuffix(line, "`"): // a struct tag cannot be split
		return nil
	case isTest(file) && (use.strings > 0 || tableRow.MatchString(line)): // input is long
		return nil
	}
	return []violation{{file, number, "code width",
		fmt.Sprintf("%d columns, the limit is %d", wide, maxCodeColumns)}}
}

// isTest reports whether a file is a test, or in a package that only tests import.
func isTest(file string) bool {
	return strings.HasSuffix(file, "_test.go") || strings.HasSuffix(filepath.Dir(file), "test")
}

// columns is the width of a line, with tabs of four.
func columns(line string) int {
	return utf8.RuneCountInString(line) + 3*strings.Count(line, "\t")
}

// countLines counts lines, with comments and blank lines.
func countLines(text []byte) int {
	return bytes.Count(text, []byte("\n"))
}
