package bustest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A Volume is a small disk that a test can fill. Create one with [MountVolume].
type Volume struct {
	Dir string

	t testing.TB
}

// MountVolume returns an empty disk in memory, with its size in bytes. The test's cleanup unmounts
// it. Without the necessary privileges, MountVolume skips the test.
func MountVolume(t testing.TB, size int64) *Volume {
	t.Helper()
	v := &Volume{Dir: t.TempDir(), t: t}
	err := syscall.Mount("tmpfs", v.Dir, "tmpfs", 0, fmt.Sprintf("size=%d", size))
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skipf("cannot mount the disk that this test needs: %v", err)
	}
	v.must(err)
	t.Cleanup(func() { v.must(syscall.Unmount(v.Dir, syscall.MNT_DETACH)) })
	return v
}

// Fill fills the disk until at most left bytes are free.
func (v *Volume) Fill(left int64) {
	v.t.Helper()
	f, err := os.OpenFile(v.ballast(), os.O_CREATE|os.O_WRONLY, 0o600)
	v.must(err)
	defer f.Close()
	for {
		var s syscall.Statfs_t
		v.must(syscall.Statfs(v.Dir, &s))
		more := int64(s.Bavail)*s.Bsize - left
		if more <= 0 {
			return
		}
		at, err := f.Seek(0, 2)
		v.must(err)
		if err := syscall.Fallocate(int(f.Fd()), 0, at, more); err != nil && !errors.Is(err, syscall.ENOSPC) {
			v.must(err)
		}
		_, err = f.Seek(0, 2)
		v.must(err)
	}
}

// Empty undoes Fill.
func (v *Volume) Empty() {
	v.t.Helper()
	v.must(os.Remove(v.ballast()))
}

func (v *Volume) ballast() string { return filepath.Join(v.Dir, "ballast") }

func (v *Volume) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatalf("small disk: %v", err)
	}
}
