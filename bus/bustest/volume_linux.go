package bustest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A Volume is a disk that a test may fill, and take away. Mount one.
type Volume struct {
	Dir string

	t testing.TB
}

// MountVolume returns an empty disk of a size in bytes, in memory. It is gone after the test. A
// test that may not mount anything is skipped.
func MountVolume(t testing.TB, size int64) *Volume {
	t.Helper()
	v := &Volume{Dir: t.TempDir(), t: t}
	err := syscall.Mount("tmpfs", v.Dir, "tmpfs", 0, fmt.Sprintf("size=%d", size))
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skipf("this test needs a small disk, and may not mount one here: %v", err)
	}
	v.must(err)
	t.Cleanup(func() { v.must(syscall.Unmount(v.Dir, syscall.MNT_DETACH)) })
	return v
}

// Fill leaves no more than some bytes of the disk free.
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

// Empty takes away what Fill has filled it with.
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
