// Package style holds Pillion's source to its own limits: the width of lines, the size of files,
// functions and packages, words that have been replaced, and the number of folders at the root.
//
// TestStyle reads the whole repository and lists each violation by file and line.
package style

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is the repository, as seen from this folder.
const root = "../.."

// A violation is one place that breaks a rule.
type violation struct {
	file string // from the root, with slashes
	line int    // 0 where the rule is about the whole file or folder
	rule string
	text string
}

func (v violation) String() string {
	if v.line == 0 {
		return fmt.Sprintf("%s: %s: %s", v.file, v.rule, v.text)
	}
	return fmt.Sprintf("%s:%d: %s: %s", v.file, v.line, v.rule, v.text)
}

// TestStyle fails with a list of all violations, sorted by file, and the number of violations of
// each rule.
func TestStyle(t *testing.T) {
	found := checkFolders(t)
	packages := map[string]int{} // lines of non-test code by folder

	for _, file := range sourceFiles(t) {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case strings.HasSuffix(file, ".go"):
			found = append(found, checkGo(file, text)...)
			if !strings.HasSuffix(file, "_test.go") {
				packages[filepath.ToSlash(filepath.Dir(file))] += countLines(text)
			}
		case strings.HasSuffix(file, ".md"):
			found = append(found, checkMarkdown(file, string(text))...)
		}
		found = append(found, checkPhrases(file, string(text))...)
	}
	for folder, lines := range packages {
		if lines > maxPackageLines {
			found = append(found, violation{folder, 0, "package size",
				fmt.Sprintf("%d lines, the limit is %d", lines, maxPackageLines)})
		}
	}
	report(t, found)
}

// report lists the violations by file and line, and then their number by rule.
func report(t *testing.T, found []violation) {
	t.Helper()
	if len(found) == 0 {
		return
	}
	slices.SortStableFunc(found, func(a, b violation) int {
		if a.file != b.file {
			return strings.Compare(a.file, b.file)
		}
		return a.line - b.line
	})
	var list strings.Builder
	rules := map[string]int{}
	for _, v := range found {
		fmt.Fprintf(&list, "%s\n", v)
		rules[v.rule]++
	}
	names := make([]string, 0, len(rules))
	for rule := range rules {
		names = append(names, rule)
	}
	slices.Sort(names)
	for _, rule := range names {
		fmt.Fprintf(&list, "%5d %s\n", rules[rule], rule)
	}
	t.Errorf("%d violations of the style rules:\n%s", len(found), list.String())
}

// sourceFiles lists the files that the rules apply to: Go, OpenAPI and Markdown, without test data.
func sourceFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if skipFolder(path, entry.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		switch filepath.Ext(path) {
		case ".go", ".md", ".yaml":
			file, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			files = append(files, filepath.ToSlash(file))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 100 {
		t.Fatalf("found only %d source files below %s", len(files), root)
	}
	return files
}

// skipFolder reports whether a folder holds no source: hidden folders, test data, build output and
// local data. The rules quote the forbidden words, so this folder is skipped by checkPhrases and
// not here.
func skipFolder(path, name string) bool {
	switch filepath.Clean(path) {
	case filepath.Clean(root):
		return false
	case filepath.Join(root, "bin"), filepath.Join(root, "data"):
		return true
	}
	return name == "testdata" || strings.HasPrefix(name, ".")
}

// checkFolders counts the folders at the root of the repository.
func checkFolders(t *testing.T) []violation {
	t.Helper()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() && !skipFolder(filepath.Join(root, entry.Name()), entry.Name()) {
			names = append(names, entry.Name())
		}
	}
	if len(names) <= maxRootFolders {
		return nil
	}
	return []violation{{".", 0, "root folders", fmt.Sprintf("%d folders, the limit is %d: %s",
		len(names), maxRootFolders, strings.Join(names, " "))}}
}
