//go:build unix

package secretfile_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/example/pillion/internal/secretfile"
)

// readAs names the file that the test binary reads when it is another user.
const readAs = "SECRETFILE_TEST_READ"

// TestFilesOfRoot reads files as the user 65532, as a program in a pod does. Those of a Kubernetes
// Secret are root's, with the user's group.
func TestFilesOfRoot(t *testing.T) {
	if file := os.Getenv(readAs); file != "" {
		if _, err := secretfile.Read(file, 64); err != nil {
			t.Fatal(err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can make files of root's")
	}
	dir, err := os.MkdirTemp("", "secretfile-") //nolint:usetesting // t.TempDir is not for other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program := filepath.Join(dir, "test")
	if text, err := os.ReadFile(os.Args[0]); err != nil || os.WriteFile(program, text, 0o755) != nil {
		t.Fatal("copy the test binary: ", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	const user, group = 65532, 65532
	for _, c := range []struct {
		owner int
		mode  os.FileMode
		says  string
	}{
		{0, 0o440, ""},
		{0, 0o640, ""},
		{0, 0o460, "other users can read it"},
		{0, 0o444, "other users can read it"},
		{user, 0o600, ""},
		{user, 0o440, "other users can read it"},
		{0, 0o400, "permission denied"},
	} {
		file := filepath.Join(dir, "secret")
		if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(file, c.owner, group); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, c.mode); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, "-test.run=^TestFilesOfRoot$")
		cmd.Dir, cmd.Env = dir, []string{readAs + "=" + file}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: group}}
		out, err := cmd.CombinedOutput()
		if (err == nil) != (c.says == "") || !strings.Contains(string(out), c.says) {
			t.Errorf("a file of %d with mode %o: %v, want %q\n%s", c.owner, c.mode, err, c.says, out)
		}
	}
}
