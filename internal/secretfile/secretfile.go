// Package secretfile reads and creates files that hold a secret. Only their owner can read them,
// they appear atomically, and they are never replaced.
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

const (
	dirMode    = 0o700
	othersMode = 0o077 // permissions of group and others
)

// Errors of Read, besides a [TooOpenError].
var (
	ErrNotThere = errors.New("there is no such file")
	ErrTooLong  = errors.New("the file is too long")
)

// A TooOpenError means that other users than the owner can read or write the file.
type TooOpenError struct{ Mode fs.FileMode }

func (e *TooOpenError) Error() string {
	return fmt.Sprintf("other users can read it (mode %04o)", e.Mode)
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
	if mode := info.Mode().Perm(); mode&othersMode != 0 {
		return nil, &TooOpenError{mode}
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
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.new") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(temp.Name())) }()
	if err := writeAndSync(temp, data); err != nil {
		return err
	}
	if err := os.Link(temp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

func writeAndSync(f *os.File, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
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
			return nil, ErrUnusable.Saying(fmt.Sprintf(
				"%s cannot be written to %s: %s. Make the folder writable, or choose another file.", what, path,
				fault.Reason(err))).Because(err)
		}
		// Read the file back: a concurrent caller may have created it first.
		data, err = Read(path, limit)
	}
	var open *TooOpenError
	switch {
	case err == nil:
		return data, nil
	case errors.As(err, &open):
		return nil, ErrUnusable.Saying(fmt.Sprintf(
			"%s in %s is open to other users than its owner (mode %04o). Protect it with: chmod 600 %[2]s", what, path,
			open.Mode))
	}
	return nil, ErrUnusable.Saying(fmt.Sprintf(
		"%s in %s cannot be read: %s. Make the file readable for this user, or choose another one.", what, path,
		fault.Reason(err))).Because(err)
}
