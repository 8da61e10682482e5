package mutations

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// onlyEnv selects the faults whose names contain its value.
const onlyEnv = "MUTATIONS"

// patience bounds the time of a test with a fault. A test that hangs has not found the fault.
const patience = 2 * time.Minute

// TestListIsOfThisCode checks that the code has the lines and the test of each mutation.
func TestListIsOfThisCode(t *testing.T) {
	all := read(t)
	if len(all) < 30 {
		t.Errorf("%s has %d faults", list, len(all))
	}
	names := map[string]bool{}
	for _, m := range all {
		text, err := m.mutated()
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		if _, err := parser.ParseFile(token.NewFileSet(), m.file, text, parser.SkipObjectResolution); err != nil {
			t.Errorf("%s: with the fault it is not Go: %v", m.name, err)
		}
		if names[m.name] {
			t.Errorf("%s: there are two of that name", m.name)
		}
		names[m.name] = true
		if !hasTest(t, m) {
			t.Errorf("%s: there is no %s in %s", m.name, m.test, m.pkg)
		}
	}
}

// hasTest reports whether the test of a mutation exists. Its subtests are known only when it runs.
func hasTest(t *testing.T, m mutation) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, m.pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	test, _, _ := strings.Cut(m.test, "/")
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("\nfunc "+test+"(t *testing.T)")) {
			return true
		}
	}
	return false
}

// TestMutations checks that each fault makes its test fail. It changes no file: the compiler reads
// the changed file from an overlay.
func TestMutations(t *testing.T) {
	only := os.Getenv(onlyEnv)
	if only == "" {
		t.Skip("make mutations runs it")
	}
	ran := 0
	for _, m := range read(t) {
		if only != "all" && !strings.Contains(m.name, only) {
			continue
		}
		ran++
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			m.run(t)
		})
	}
	if ran == 0 {
		t.Errorf("%s has no fault like %q", list, only)
	}
}

func (m mutation) run(t *testing.T) {
	t.Helper()
	text, err := m.mutated()
	if err != nil {
		t.Fatal(err)
	}
	file, err := filepath.Abs(filepath.Join(root, m.file))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	instead, overlay := filepath.Join(dir, "mutated.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{file: instead}})
	if err == nil {
		err = errors.Join(os.WriteFile(instead, []byte(text), 0o600), os.WriteFile(overlay, replace, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	var pattern []string
	for part := range strings.SplitSeq(m.test, "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(part)+"$")
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-json", "-count=1", "-vet=off", "-ldflags=-s -w",
		"-overlay="+overlay,
		"-timeout="+patience.String(), "-run="+strings.Join(pattern, "/"), "./"+m.pkg)
	cmd.Dir = root
	out, _ := cmd.CombinedOutput() // the output has the result
	if why := failure(out, m.test); why != nil {
		t.Errorf("%v\n%s", why, last(out, 4000))
		return
	}
	t.Logf("%s in %s: %s", m.test, m.pkg, complaint(out))
}

// An event is a line of test2json.
type event struct{ Action, Test, Output string }

func events(out []byte) (all []event) {
	for line := range bytes.Lines(out) {
		var e event
		if json.Unmarshal(line, &e) == nil {
			all = append(all, e)
		}
	}
	return all
}

// failure returns nil if the test ran and failed, and otherwise why it has not found the fault.
func failure(out []byte, test string) error {
	test = strings.ReplaceAll(test, " ", "_")
	ran, failed := false, false
	for _, e := range events(out) {
		switch {
		case e.Action == "build-fail":
			return errors.New("with the fault it does not compile")
		case strings.HasPrefix(e.Output, "panic: test timed out"):
			return fmt.Errorf("%s hangs for %v", test, patience)
		}
		ran = ran || e.Action == "run" && e.Test == test
		failed = failed || e.Action == "fail" && e.Test == test
	}
	switch {
	case !ran:
		return fmt.Errorf("there is no %s", test)
	case !failed:
		return fmt.Errorf("%s does not find it", test)
	}
	return nil
}

// failureLine matches the output of a failing test that names a place, or a panic.
var failureLine = regexp.MustCompile(`_test\.go:\d+: |^\w+\.go:\d+: |^panic: |^fatal error: `)

// complaint returns the first line of output that says why a test failed.
func complaint(out []byte) string {
	for _, e := range events(out) {
		if said := strings.TrimSpace(e.Output); failureLine.MatchString(said) {
			return said
		}
	}
	return "failed"
}

func last(out []byte, n int) string {
	var said strings.Builder
	for _, e := range events(out) {
		said.WriteString(e.Output)
	}
	s := said.String()
	return s[max(0, len(s)-n):]
}
