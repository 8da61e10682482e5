package bustest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A Volume is a disk that a test may fill, and take away. Mount one.
type Volume struct {
	Dir string

	t    testing.TB
	loop string // the device, where it is a real file system in a file
}

// MountVolume returns an empty disk of a size in bytes, in memory. It is gone after the test. A test that may not mount anything is
// skipped.
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
	defer f.Close() //nolint:errcheck // nothing is lost with it
	for {
		var s syscall.Statfs_t
		v.must(syscall.Statfs(v.Dir, &s))
		more := int64(s.Bavail)*s.Bsize - left //nolint:gosec // a small disk
		if more <= 0 {
			return
		}
		at, err := f.Seek(0, 2)
		v.must(err)
		if err := syscall.Fallocate(int(f.Fd()), 0, at, more); err != nil && !errors.Is(err, syscall.ENOSPC) { //nolint:gosec // a file
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

// MountDisk is MountVolume with a file system that can break: see [Volume.Break]. A test that may not have one is skipped.
func MountDisk(t testing.TB, size int64) *Volume {
	t.Helper()
	v := &Volume{Dir: t.TempDir(), t: t}
	image := filepath.Join(t.TempDir(), "image")
	v.must(os.WriteFile(image, nil, 0o600))
	v.must(os.Truncate(image, size))
	may := func(command string, args ...string) string {
		out, err := exec.Command(command, args...).CombinedOutput()
		if err != nil {
			t.Skipf("this test needs a disk that can break, and cannot have one here: %s: %v: %s", command, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	may("mkfs.ext4", "-q", "-F", image)
	v.loop = may("losetup", "--find", "--show", image)
	t.Cleanup(func() { _ = exec.Command("losetup", "--detach", v.loop).Run() })
	may("mount", "-o", "errors=remount-ro", v.loop, v.Dir)
	t.Cleanup(func() { _ = syscall.Unmount(v.Dir, syscall.MNT_DETACH) })
	if _, err := os.Stat(v.fault()); err != nil {
		t.Skipf("this test needs a disk that can break: %v", err)
	}
	return v
}

// Break makes the disk read-only, as the system does when it finds an error on it.
func (v *Volume) Break() {
	v.t.Helper()
	v.must(os.WriteFile(v.fault(), []byte("1"), 0))
}

// Repair makes a broken disk good. Nobody may use it meanwhile.
func (v *Volume) Repair() {
	v.t.Helper()
	v.must(syscall.Unmount(v.Dir, 0))
	_ = exec.Command("fsck.ext4", "-p", v.loop).Run() // it says with its status that it has repaired something
	v.must(exec.Command("mount", "-o", "errors=remount-ro", v.loop, v.Dir).Run())
}

func (v *Volume) fault() string {
	return filepath.Join("/sys/fs/ext4", filepath.Base(v.loop), "trigger_fs_error")
}

func (v *Volume) ballast() string { return filepath.Join(v.Dir, "ballast") }

func (v *Volume) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatalf("small disk: %v", err)
	}
}
