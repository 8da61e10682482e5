package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// comment matches the tests that a claim names, in a comment of its page's source.
var comment = regexp.MustCompile(`<!-- (.+?) -->`)

// Each promise of docs/promises.md names, in a comment of its source, the tests that show it, and
// these tests exist.
func TestPromisesAreShown(t *testing.T) {
	t.Parallel()
	bullets := strings.Split(read(t, "docs/promises.md"), "\n- ")[1:]
	if len(bullets) < 6 {
		t.Fatalf("docs/promises.md has %d promises, want at least 6", len(bullets))
	}
	for _, b := range bullets {
		if !comment.MatchString(b) {
			t.Errorf("no test is named for this promise: %s", b)
		}
	}
	hasTests(t, "docs/promises.md")
}

// Each thing that holds according to docs/security.md, and what most stolen things are not worth,
// names the tests that show it, and these tests exist.
func TestThreatModelIsShown(t *testing.T) {
	t.Parallel()
	page := read(t, "docs/security.md")
	_, rest, _ := strings.Cut(page, "\n## What holds\n")
	holds, _, _ := strings.Cut(rest, "\n## ")
	bullets := strings.Split(holds, "\n- ")[1:]
	for _, b := range bullets {
		if !comment.MatchString(b) {
			t.Errorf("no test is named for this claim: %s", b)
		}
	}
	if named := len(comment.FindAllString(page, -1)); len(bullets) < 6 || named < 20 {
		t.Errorf("docs/security.md has %d claims, and names tests in %d places; want at least 6 and 20", len(bullets),
			named)
	}
	hasTests(t, "docs/security.md")
}

// read returns a file of the repository.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// hasTests fails the test unless all tests exist that the comments of a page name.
func hasTests(t *testing.T, page string) {
	t.Helper()
	for _, m := range comment.FindAllStringSubmatch(read(t, page), -1) {
		for one := range strings.SplitSeq(m[1], ", ") {
			folder, name, _ := strings.Cut(one, " ")
			if !hasTest(t, folder, name) {
				t.Errorf("%s names the test %s in %s, which does not exist", page, name, folder)
			}
		}
	}
}

func hasTest(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+name+"(t *testing.T)") {
			return true
		}
	}
	return false
}
