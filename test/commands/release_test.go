package commands

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestRelease builds a release of the last commit in two folders, as the release workflow does. The
// archives are the same, byte for byte, and their programs tell the commit.
func TestRelease(t *testing.T) {
	t.Parallel()
	if os.Getenv("PILLION_RELEASE") == "" {
		t.Skip("make check-long builds a release twice, with PILLION_RELEASE=1")
	}
	commit, err := exec.Command("git", "-C", "../..", "rev-parse", "HEAD").Output()
	if err != nil {
		t.Skipf("there is no commit to release: %v", err)
	}
	platform := runtime.GOOS + "/" + runtime.GOARCH
	archive := "pillion-" + strings.ReplaceAll(platform, "/", "-")
	var sums [][]byte
	for _, folder := range []string{"one", "another/folder"} {
		at := filepath.Join(t.TempDir(), folder)
		run := func(name string, args ...string) []byte {
			t.Helper()
			cmd := exec.Command(name, args...)
			cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%s %v: %v\n%s", name, args, err, out)
			}
			return out
		}
		run("git", "clone", "-q", "../..", at)
		run("make", "-C", at, "release", "PLATFORMS="+platform)
		list, err := os.ReadFile(filepath.Join(at, "bin/release/SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, list)
		run("sh", "-c", `cd "$0/bin/release" && sha256sum -c SHA256SUMS && tar -xzf "$1.tar.gz"`, at, archive)
		for _, program := range []string{"pillion", "authsvc", "usersvc", "ridersvc", "pillion-sim"} {
			says := run(filepath.Join(at, "bin/release", archive, program), "--version")
			if !bytes.Contains(says, []byte("("+string(commit[:12])+")")) {
				t.Errorf("%s --version prints %q, want the commit %s", program, says, commit)
			}
		}
	}
	if !bytes.Equal(sums[0], sums[1]) || !bytes.Contains(sums[0], []byte(archive+".tar.gz")) {
		t.Errorf("two builds of a commit differ:\n%s%s", sums[0], sums[1])
	}
}
