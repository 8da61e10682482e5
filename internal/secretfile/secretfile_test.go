package secretfile_test

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/secretfile"
)

// TestAllGetTheSame calls LoadOrCreate concurrently: all callers get the same secret, and only the
// owner can read it.
func TestAllGetTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "folder", "secret")
	got := make([]string, 16)
	var group sync.WaitGroup
	for i := range got {
		group.Go(func() {
			data, err := secretfile.LoadOrCreate(path, "The secret", 64,
				func() ([]byte, error) { return []byte(rand.Text()), nil })
			if err != nil {
				t.Error(err)
			}
			got[i] = string(data)
		})
	}
	group.Wait()
	for _, g := range got {
		if g != got[0] || g == "" {
			t.Fatalf("secrets: %q, want the same one for all", got)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("%d files in the folder, %v; want the secret only", len(left), err)
	}
}

func TestUnusableFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	made := func() ([]byte, error) { return []byte("made"), nil }
	for _, tt := range []struct{ name, path, says string }{
		{"open to others", file("open", "secret", 0o640), "is open to other users than its owner (mode 0640). Protect it with: chmod 600 "},
		{"too long", file("long", strings.Repeat("x", 65), 0o600), "cannot be read: the file is too long. "},
		{"a folder", dir, "cannot be read: not a regular file. "},
		{"in no folder", filepath.Join(file("file", "", 0o600), "secret"), "cannot be read: not a directory. "},
		{"in a folder that takes no files", "/proc/secret", "cannot be written to /proc/secret: no such file or directory. "},
	} {
		data, err := secretfile.LoadOrCreate(tt.path, "The secret", 64, made)
		f := fault.From(err)
		if data != nil || !errors.Is(err, secretfile.ErrUnusable) ||
			!strings.Contains(f.Message, tt.path) || !strings.Contains(f.Message, tt.says) {
			t.Errorf("%s: %q, %v", tt.name, data, err)
		}
	}
	broken := errors.New("no randomness")
	if _, err := secretfile.LoadOrCreate(filepath.Join(dir, "none"), "The secret", 64,
		func() ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("a failure of make: %v", err)
	}
	if _, err := secretfile.Read(filepath.Join(dir, "none"), 64); !errors.Is(err, secretfile.ErrNotThere) {
		t.Errorf("a missing file: %v", err)
	}
	there := file("there", "first", 0o600)
	if err := secretfile.Create(there, []byte("second")); err != nil {
		t.Error(err)
	}
	if data, err := secretfile.Read(there, 64); err != nil || string(data) != "first" {
		t.Errorf("Create has changed an existing file: %q, %v", data, err)
	}
}
