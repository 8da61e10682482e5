package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each promise of docs/promises.md names, in a comment of its source, the tests that show it, and
// these tests exist.
func TestPromisesAreShown(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/promises.md")
	if err != nil {
		t.Fatal(err)
	}
	bullets := strings.Split(string(page), "\n- ")[1:]
	if len(bullets) < 6 {
		t.Fatalf("docs/promises.md has %d promises, want at least 6", len(bullets))
	}
	comment := regexp.MustCompile(`<!-- (.+) -->`)
	for _, b := range bullets {
		m := comment.FindStringSubmatch(b)
		if m == nil {
			t.Errorf("no test is named for this promise: %s", b)
			continue
		}
		for one := range strings.SplitSeq(m[1], ", ") {
			folder, name, _ := strings.Cut(one, " ")
			if !hasTest(t, folder, name) {
				t.Errorf("docs/promises.md names the test %s in %s, which does not exist", name, folder)
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
