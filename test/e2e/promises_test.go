package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPromisesAreShown checks that each promise of the README names existing tests, in a comment of
// its source.
func TestPromisesAreShown(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, promises, _ := strings.Cut(string(readme), "What you can count on:")
	promises, _, _ = strings.Cut(promises, "\n## ")
	bullets := strings.Split(promises, "\n- ")[1:]
	if len(bullets) < 6 {
		t.Fatalf("the README has %d promises", len(bullets))
	}
	comment := regexp.MustCompile(`<!-- (.+) -->`)
	for _, b := range bullets {
		m := comment.FindStringSubmatch(b)
		if m == nil {
			t.Errorf("nothing shows this: %s", b)
			continue
		}
		for one := range strings.SplitSeq(m[1], ", ") {
			folder, name, _ := strings.Cut(one, " ")
			if !hasTest(t, folder, name) {
				t.Errorf("there is no test %s in %s", name, folder)
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
