// Package docs checks the pages of documentation against the code, and against each other.
//
// `go generate ./test/docs` brings the generated columns of docs/errors.md up to date. The package
// has nothing for others to import.
package docs

import (
	"cmp"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/web"
)

//go:generate go test -run ^TestErrorsPage$ -count=1 . -update

// root is the folder of the repository, seen from this package.
const root = "../.."

var update = flag.Bool("update", false, "write docs/errors.md again in place of comparing it")

// docs/errors.md lists every stable code once, with the status and the sentence that the code gives
// it. The last column is written by hand, and survives an update.
func TestErrorsPage(t *testing.T) {
	t.Parallel()
	found := codes(t)
	if len(found) < 100 {
		t.Fatalf("found %d codes in the source, want at least 100", len(found))
	}
	file := filepath.Join(root, "docs", "errors.md")
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	page := rewrite(string(old), found)
	if *update {
		if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if page != string(old) {
		t.Errorf("docs/errors.md is not what the code says. Run: go generate ./test/docs\n%s",
			difference(string(old), page))
	}
	if strings.Contains(page, unsorted) {
		t.Error("docs/errors.md has new codes at its end. Move each to the table where a reader looks for it")
	}
	for line := range strings.Lines(page) {
		if cells, ok := row(line); ok && cells[len(cells)-1] == "" {
			t.Errorf("docs/errors.md does not say what to do about %s", cells[0])
		}
	}
}

// A code is one stable code, with what all its declarations say.
type code struct{ statuses, sentences []string }

// codes returns every code that a package outside of tests declares: each call of fault.New, and
// each call that passes an HTTP status with a code directly behind it.
func codes(t *testing.T) map[string]*code {
	t.Helper()
	found := map[string]*code{}
	for _, files := range packages(t) {
		texts := constants(files)
		for _, file := range files {
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				name, status, sentence := declared(call, texts)
				if name == "" {
					return true
				}
				c := found[name]
				if c == nil {
					c = new(code)
					found[name] = c
				}
				c.statuses, c.sentences = with(c.statuses, status), with(c.sentences, sentence)
				return true
			})
		}
	}
	return found
}

// packages parses the Go files that are neither tests nor used by tests only, by folder.
func packages(t *testing.T) map[string][]*ast.File {
	t.Helper()
	forTests := regexp.MustCompile(`(test|^testdata|^tools|^bin|^\..+)$`)
	found := map[string][]*ast.File{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && forTests.MatchString(d.Name()):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		found[filepath.Dir(path)] = append(found[filepath.Dir(path)], file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// constants returns the string constants of a package by name.
func constants(files []*ast.File) map[string]string {
	texts := map[string]string{}
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Names) == len(spec.Values) {
				for i, name := range spec.Names {
					if value, ok := text(spec.Values[i], texts); ok {
						texts[name.Name] = value
					}
				}
			}
			return true
		})
	}
	return texts
}

// declared returns what a call declares, with an empty code where it declares none.
func declared(call *ast.CallExpr, texts map[string]string) (name, status, sentence string) {
	if selected(call.Fun, "fault") == "New" && len(call.Args) == 3 {
		name, _ := text(call.Args[1], texts)
		status := "any"
		if kind := selected(call.Args[0], "fault"); kind != "" {
			status = strconv.Itoa(web.Status(kindNamed(kind)))
		}
		sentence, ok := text(call.Args[2], texts)
		if !ok {
			sentence = "(it depends)"
		}
		return name, status, sentence
	}
	for i := range len(call.Args) - 2 {
		if selected(call.Args[i], "http") != "StatusMethodNotAllowed" {
			continue
		}
		name, _ := text(call.Args[i+1], texts)
		sentence, _ := text(call.Args[i+2], texts)
		return name, "405", sentence
	}
	return "", "", ""
}

// selected returns NAME of the expression pkg.NAME, and nothing for any other.
func selected(e ast.Expr, pkg string) string {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if x, ok := s.X.(*ast.Ident); !ok || x.Name != pkg {
		return ""
	}
	return s.Sel.Name
}

// kindNamed returns the kind whose identifier is name. It is Internal for one that does not exist.
func kindNamed(name string) fault.Kind {
	for k := fault.Internal; k <= fault.Unavailable; k++ {
		if strings.EqualFold(strings.ReplaceAll(k.String(), "_", ""), name) {
			return k
		}
	}
	return fault.Internal
}

// verb matches what fmt puts a value in place of, and a link of such places.
var verb = regexp.MustCompile(`%[-+#0-9.]*[a-z]`)

// text returns the text of an expression: of a literal, a constant, a sum of texts, or a format. A
// part that is known only when the program runs is an ellipsis.
func text(e ast.Expr, texts map[string]string) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		s, err := strconv.Unquote(e.Value)
		return s, err == nil
	case *ast.Ident:
		s, ok := texts[e.Name]
		return s, ok
	case *ast.BinaryExpr:
		left, okLeft := text(e.X, texts)
		right, okRight := text(e.Y, texts)
		return cmp.Or(left, "…") + cmp.Or(right, "…"), e.Op == token.ADD && (okLeft || okRight)
	case *ast.CallExpr:
		if selected(e.Fun, "fmt") == "Sprintf" {
			s, ok := text(e.Args[0], texts)
			return verb.ReplaceAllString(s, "…"), ok
		}
	}
	return "", false
}

// with returns list with one more text, sorted and without repetitions.
func with(list []string, one string) []string {
	list = append(list, one)
	slices.Sort(list)
	return slices.Compact(list)
}

const unsorted = "\n## New codes\n"

// row returns the cells of a table's line that begins with a code.
func row(line string) ([]string, bool) {
	if !strings.HasPrefix(line, "| `") {
		return nil, false
	}
	cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	return cells, true
}

// rewrite returns the page with the statuses and sentences of the code. Rows of three cells have no
// status. Rows of codes that are no more leave the page, and new codes come to its end.
func rewrite(page string, found map[string]*code) string {
	left := maps.Clone(found)
	var b strings.Builder
	for line := range strings.Lines(page) {
		cells, ok := row(line)
		if !ok {
			b.WriteString(line)
			continue
		}
		name := strings.Trim(cells[0], "`")
		c := left[name]
		if c == nil {
			continue
		}
		delete(left, name)
		sentences := strings.ReplaceAll(strings.Join(c.sentences, "<br>"), "|", "\\|")
		switch len(cells) {
		case 4:
			line = strings.Join([]string{cells[0], strings.Join(c.statuses, ", "), sentences, cells[3]}, " | ")
		default:
			line = strings.Join([]string{cells[0], sentences, cells[len(cells)-1]}, " | ")
		}
		b.WriteString("| " + line + " |\n")
	}
	if len(left) > 0 {
		b.WriteString(unsorted + "\n| code | status | sentence | what to do |\n|---|---|---|---|\n")
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		cells := []string{"`" + name + "`", strings.Join(left[name].statuses, ", "),
			strings.Join(left[name].sentences, "<br>")}
		b.WriteString("| " + strings.Join(cells, " | ") + " |  |\n")
	}
	return b.String()
}

// difference returns the lines of each page that the other one lacks.
func difference(old, page string) string {
	var b strings.Builder
	for line := range strings.Lines(old) {
		if !strings.Contains(page, line) {
			b.WriteString("- " + line)
		}
	}
	for line := range strings.Lines(page) {
		if !strings.Contains(old, line) {
			b.WriteString("+ " + line)
		}
	}
	return b.String()
}
