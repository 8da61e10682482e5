// Package secretfile reads and creates files that hold a secret. Only their owner can read them
// (and a group, if that is root), they appear atomically, and only [Replace] replaces them.
//
// Call [LoadOrCreate] for a secret that the program can generate, or [Read] and [Create]. The
// package protects a secret from other users of the machine, and not from root or from a reader of
// the disk.
package secretfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/example/pillion/internal/fault"
)

const dirMode = 0o700

// The permissions that a file must not give. A user can own no file of a mounted Kubernetes Secret:
// it is root's, and its group is that of the user. So a file of root's may be readable by its
// group, as PostgreSQL has it for its own key (ssl_key_file).
const (
	othersMode       = 0o077
	othersModeOfRoot = 0o037
)

// Errors of Read, besides a [TooOpenError].
var (
	ErrNotThere = errors.New("there is no such file")
	ErrTooLong  = errors.New("the file is too long")
)

// A TooOpenError means that other users than the owner can read or write the file.
type TooOpenError struct {
	Path string
	Mode fs.FileMode
}

func (e *TooOpenError) Error() string {
	return fmt.Sprintf("other users can read it (mode %04o)", e.Mode)
}

// Sentence says to people what is wrong with the file, and the remedy. what is the name of the
// secret at the beginning of a sentence, such as "The service key".
func (e *TooOpenError) Sentence(what string) string {
	return fmt.Sprintf("%s in %s is open to other users than its owner (mode %04o). Protect it with: chmod 600 %[2]s",
		what, e.Path, e.Mode)
}

// ErrUnusable is the error of LoadOrCreate. Its message names the file and the remedy.
var ErrUnusable = fault.New(fault.Invalid, "secret_file", "The file of a secret cannot be used.")

// Read returns the contents of a file of at most limit bytes. It checks the mode of the file that
// it has opened, so that the file cannot be exchanged in between. Errors: ErrNotThere, ErrTooLong,
// *TooOpenError, and those of package os.
func Read(path string, limit int) ([]byte, error) {
	info, err := os.Stat(path) // before opening it, because opening a pipe waits for a writer
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, ErrNotThere
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	forbidden := fs.FileMode(othersMode)
	if os.Geteuid() > 0 && ownedByRoot(info) {
		forbidden = othersModeOfRoot
	}
	if mode := info.Mode().Perm(); mode&forbidden != 0 {
		return nil, &TooOpenError{path, mode}
	}
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(data) > limit {
		return nil, ErrTooLong
	}
	return data, nil
}

// Create writes data to path and creates missing folders. It leaves an existing file as it is: of
// several concurrent callers one succeeds, and all then read the same file. Create links the file
// to its name once it is complete and synced to disk.
func Create(path string, data []byte) (err error) {
	temp, err := write(path, data, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(temp)) }()
	if err := os.Link(temp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// Replace writes data to path, in the place of an existing file, and creates missing folders. A
// reader sees the old file or the new one, and never a part of it. It is not only for secrets.
func Replace(path string, data []byte, mode fs.FileMode) error {
	temp, err := write(path, data, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return syncDir(filepath.Dir(path))
}

// write writes data to a new file beside path, syncs it to disk and returns its name.
func write(path string, data []byte, mode fs.FileMode) (name string, err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return "", err
	}
	temp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.new")
	if err != nil {
		return "", err
	}
	_, err = temp.Write(data)
	if err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close()); err != nil {
		return "", errors.Join(err, os.Remove(temp.Name()))
	}
	return temp.Name(), nil
}

// syncDir syncs a folder to disk, so that a new name in it survives a power failure.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// LoadOrCreate returns the contents of a file of at most limit bytes. If there is no file, it
// creates one with the result of make. what is the name of the secret at the beginning of a
// message, such as "The service key". Errors: those of make, and ErrUnusable.
func LoadOrCreate(path, what string, limit int, make func() ([]byte, error)) ([]byte, error) {
	data, err := Read(path, limit)
	if errors.Is(err, ErrNotThere) {
		var fresh []byte
		if fresh, err = make(); err != nil {
			return nil, err
		}
		if err := Create(path, fresh); err != nil {
			return nil, ErrUnusable.Sayingf(
				"%s cannot be written to %s: %s. Make the folder writable, or choose another file.", what, path,
				fault.Reason(err)).Because(err)
		}
		// Read the file back: a concurrent caller may have created it first.
		data, err = Read(path, limit)
	}
	if open, ok := errors.AsType[*TooOpenError](err); ok {
		return nil, ErrUnusable.Saying(open.Sentence(what))
	}
	if err == nil {
		return data, nil
	}
	return nil, ErrUnusable.Sayingf(
		"%s in %s cannot be read: %s. Make the file readable for this user, or choose another one.", what, path,
		fault.Reason(err)).Because(err)
}
