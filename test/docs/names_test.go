package docs

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// name matches a package, a function or a method in code, such as `bus`, `web.Require` or
// `booking.Desk.Book`.
var name = regexp.MustCompile("`([a-z]+(?:/[a-z]+)*)((?:\\.[A-Za-z]+){0,2})`")

// outside are words in code on docs/architecture.md that name no package.
var outside = []string{"accepted", "engaged", "expired", "pillion", "released"}

// Every package, function and method that docs/architecture.md names exists.
func TestArchitecture(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := packages(t)
	found := 0
	for _, m := range name.FindAllStringSubmatch(string(page), -1) {
		folder, names := m[1], strings.Split(strings.TrimPrefix(m[2], "."), ".")
		if slices.Contains(outside, folder) {
			continue
		}
		if _, err := os.Stat(filepath.Join(root, folder)); err != nil && m[2] == "" {
			if _, err := os.Stat(filepath.Join(root, "internal", folder)); err != nil {
				t.Errorf("docs/architecture.md names the package %s, which does not exist", folder)
			}
			continue
		}
		if m[2] != "" && !declares(all[filepath.Join(root, folder)], names) {
			t.Errorf("docs/architecture.md names %s, which is not declared", folder+m[2])
		}
		found++
	}
	if found < 25 {
		t.Errorf("docs/architecture.md names %d packages and functions, want at least 25", found)
	}
}

// declares says whether a package declares a function or type of one name, or a method of two
// names: its type's and its own.
func declares(files []*ast.File, names []string) bool {
	for _, file := range files {
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.Name == names[len(names)-1] && receiver(d) == strings.Join(names[:len(names)-1], ".") {
					return true
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if s, ok := spec.(*ast.TypeSpec); ok && len(names) == 1 && s.Name.Name == names[0] {
						return true
					}
				}
			}
		}
	}
	return false
}

// receiver returns the name of the type whose method a function is. It is empty for a plain
// function.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	e := d.Recv.List[0].Type
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	if id, ok := e.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}
