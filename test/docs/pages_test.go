package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pages returns the Markdown pages of the repository by their path from its root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := texts(t, func(path string) bool { return filepath.Ext(path) == ".md" })
	if len(found) < 40 {
		t.Fatalf("found %d pages, want at least 40", len(found))
	}
	return found
}

// texts returns the files of the repository that want names, by their path from its root.
func texts(t *testing.T, want func(path string) bool) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{".git", "bin", "data", "testdata"}, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !want(name) {
			return nil
		}
		text, err := os.ReadFile(path)
		found[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

var (
	fence   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	mention = regexp.MustCompile(`\bdocs/[a-z0-9/-]+\.md\b`)
	dropped = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors returns the anchors of a page's headings, as GitHub makes them.
func anchors(page string) []string {
	var all []string
	for _, h := range heading.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		all = append(all, strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-"))
	}
	return all
}

// Every link between pages leads to a file and a heading that exist.
func TestLinks(t *testing.T) {
	t.Parallel()
	all := pages(t)
	for path, page := range all {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %s, which does not exist", path, m[1])
			} else if anchor != "" && !slices.Contains(anchors(all[target]), anchor) {
				t.Errorf("%s links to %s, and %s has no such heading", path, m[1], target)
			}
		}
	}
}

// Every page that code, help or settings mention exists.
func TestMentions(t *testing.T) {
	t.Parallel()
	for path, text := range texts(t, func(path string) bool {
		return filepath.Base(path) == "Makefile" ||
			slices.Contains([]string{".go", ".yaml", ".yml", ".conf", ".md"}, filepath.Ext(path))
	}) {
		for _, page := range mention.FindAllString(text, -1) {
			if _, err := os.Stat(filepath.Join(root, page)); err != nil {
				t.Errorf("%s mentions %s, which does not exist", path, page)
			}
		}
	}
}

// Every page of docs is in the list of pages that docs/README.md keeps for readers, or in that of
// decisions.
func TestPagesAreListed(t *testing.T) {
	t.Parallel()
	all := pages(t)
	for path := range all {
		folder, name := filepath.Split(path)
		if !strings.HasPrefix(folder, "docs/") || name == "README.md" {
			continue
		}
		if !strings.Contains(all[folder+"README.md"], "]("+name+")") {
			t.Errorf("%sREADME.md does not list %s", folder, name)
		}
	}
}
