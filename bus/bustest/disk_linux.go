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

// A Disk is a file system of its own that can break. Close it.
type Disk struct {
	Dir string // where it is mounted

	image, loop string // the file that it is in, and the device
}

// MountDisk returns an empty disk of a size in bytes. It is gone after the test. A test that may
// not have one is skipped.
func MountDisk(t testing.TB, size int64) *Disk {
	t.Helper()
	d, err := NewDisk(t.TempDir(), filepath.Join(t.TempDir(), "image"), size)
	if err != nil {
		t.Skipf("this test needs a disk that can break, and cannot have one here: %v", err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// NewDisk makes a disk of a size in bytes in the file image, and mounts it. It needs root, a loop
// device and mkfs.ext4.
func NewDisk(dir, image string, size int64) (*Disk, error) {
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(image, size); err != nil {
		return nil, err
	}
	if _, err := output("mkfs.ext4", "-q", "-F", image); err != nil {
		return nil, err
	}
	d := &Disk{Dir: dir, image: image}
	if err := d.mount(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(d.fault()); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Break makes the disk read-only, as the system does when it finds an error on it.
func (d *Disk) Break() error { return os.WriteFile(d.fault(), []byte("1"), 0) }

// Repair puts a good disk with the same content in the place of a broken one. It is a device of its
// own, for the system knows the old one as broken as long as any process has it in its view.
// Whoever uses it must begin anew.
func (d *Disk) Repair() error {
	if err := d.Close(); err != nil {
		return err
	}
	_, _ = output("fsck.ext4", "-p", d.image) // its status says that it has repaired something
	return d.mount()
}

// Close takes the disk away.
func (d *Disk) Close() error {
	return errors.Join(syscall.Unmount(d.Dir, syscall.MNT_DETACH), d.detach())
}

func (d *Disk) mount() (err error) {
	if d.loop, err = output("losetup", "--find", "--show", d.image); err != nil {
		return err
	}
	if _, err := output("mount", "-o", "errors=remount-ro", d.loop, d.Dir); err != nil {
		return errors.Join(err, d.detach())
	}
	return nil
}

func (d *Disk) detach() error {
	_, err := output("losetup", "--detach", d.loop)
	return err
}

func (d *Disk) fault() string {
	return filepath.Join("/sys/fs/ext4", filepath.Base(d.loop), "trigger_fs_error")
}

func output(command string, args ...string) (string, error) {
	out, err := exec.Command(command, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", command, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
