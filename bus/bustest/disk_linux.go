package bustest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A Disk is a file system that can break. The caller must call [Disk.Close].
type Disk struct {
	Dir string // where it is mounted

	image, loop string // the file that contains it, and its loop device
	repairs     int
}

// MountDisk returns an empty disk, with its size in bytes. The test's cleanup closes it. Without
// the necessary privileges, MountDisk skips the test.
func MountDisk(t testing.TB, size int64) *Disk {
	t.Helper()
	d, err := NewDisk(t.TempDir(), filepath.Join(t.TempDir(), "image"), size)
	if err != nil {
		t.Skipf("cannot make the disk that this test needs: %v", err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// NewDisk creates a disk in the file image, with its size in bytes, and mounts it at dir. It
// requires root, a loop device and mkfs.ext4.
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

// Break makes the disk read-only, as the kernel does after an error.
func (d *Disk) Break() error { return os.WriteFile(d.fault(), []byte("1"), 0) }

// Repair replaces a broken disk by a working one with the same content. Processes that use the disk
// must be restarted.
//
// The new disk is a copy. The kernel treats the old one as broken as long as it is mounted
// anywhere, and it stays mounted in the mount namespaces of other processes: those that `ip netns
// exec` has started. When the last of them ends, the kernel writes what it still knows of the old
// file system.
func (d *Disk) Repair() error {
	if err := d.flush(); err != nil {
		return err
	}
	if err := d.Close(); err != nil {
		return err
	}
	broken := d.image
	d.repairs++
	d.image = strings.TrimSuffix(broken, filepath.Ext(broken)) + "." + strconv.Itoa(d.repairs)
	if _, err := output("cp", "--sparse=always", broken, d.image); err != nil {
		return err
	}
	if err := os.Remove(broken); err != nil {
		return err
	}
	// Status 1 and 2 say that the file system was damaged, and is mended.
	if _, err := output("fsck.ext4", "-f", "-p", d.image); err != nil && !mended(err) {
		return err
	}
	return d.mount()
}

// mended reports whether fsck has mended all damage.
func mended(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	return ok && exit.ExitCode() <= 2
}

// Close unmounts the disk.
func (d *Disk) Close() error {
	return errors.Join(syscall.Unmount(d.Dir, syscall.MNT_DETACH), d.detach())
}

// flush writes what the kernel still has to write. It fails for what a broken disk does not take.
func (d *Disk) flush() error {
	dir, err := os.Open(d.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil && !errors.Is(err, unix.EIO) && !errors.Is(err, unix.EROFS) {
		return fmt.Errorf("flush %s: %w", d.Dir, err)
	}
	return nil
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
