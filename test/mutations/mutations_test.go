// Package mutations changes the code on purpose, one fault at a time, and requires that a test
// fails. docs/mutations.md has the list of faults and their tests.
package mutations

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	root = "../.."
	list = "docs/mutations.md"
)

// A mutation is one fault, and the test that finds it.
type mutation struct {
	name     string
	file     string // below root
	old, new string // whole lines of the file
	test     string // with subtests: TestRace/one replica
	pkg      string // of the test, below root
}

// caught matches the line with the file of a fault and its test.
var caught = regexp.MustCompile("^`([^`]+)`, caught by `([^`]+)` in `([^`]+)`:$")

// read returns the mutations of the list.
func read(t *testing.T) []mutation {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, list))
	if err != nil {
		t.Fatal(err)
	}
	var all []mutation
	in := false // inside a diff
	for i, line := range strings.Split(string(text), "\n") {
		wrong := func(why string) { t.Helper(); t.Fatalf("%s:%d: %s: %s", list, i+1, why, line) }
		if name, ok := strings.CutPrefix(line, "### "); ok {
			all = append(all, mutation{name: name})
			continue
		}
		if len(all) == 0 {
			continue
		}
		m := &all[len(all)-1]
		switch {
		case in && line == "```":
			in = false
		case in:
			sign, rest := line[:min(1, len(line))], line[min(1, len(line)):]+"\n"
			if !strings.Contains("+- ", sign) || m.file == "" {
				wrong("no line of a diff")
			}
			if sign != "+" {
				m.old += rest
			}
			if sign != "-" {
				m.new += rest
			}
		case line == "```diff":
			in = true
		case caught.MatchString(line):
			if m.file != "" {
				wrong("a second fault under one name")
			}
			found := caught.FindStringSubmatch(line)
			m.file, m.test, m.pkg = found[1], found[2], found[3]
		}
	}
	return all
}

// mutated returns the file with the fault, or an error that says what to correct in the list.
func (m mutation) mutated() (string, error) {
	if m.old == "" || m.old == m.new {
		return "", fmt.Errorf("it has no file, or its diff changes nothing")
	}
	text, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		return "", fmt.Errorf("%w; its lines are in: %s", err, m.places())
	}
	switch n := strings.Count("\n"+string(text), "\n"+m.old); n {
	case 0:
		return "", fmt.Errorf("%s does not have its lines; they are in: %s", m.file, m.places())
	case 1:
		return strings.Replace("\n"+string(text), "\n"+m.old, "\n"+m.new, 1)[1:], nil
	default:
		return "", fmt.Errorf("%s has its lines %d times; give it more context", m.file, n)
	}
}

// places returns the files that contain the lines of a mutation.
func (m mutation) places() string {
	var found []string
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains("\n"+string(text), "\n"+m.old) {
			found = append(found, strings.TrimPrefix(path, root+"/"))
		}
		return err
	})
	if err != nil {
		found = append(found, err.Error())
	}
	return cmp.Or(strings.Join(found, ", "), "no file; write them again")
}
