// Package secretfile reads and makes files that hold a secret: readable by their owner only, there as a whole or not at all, and never
// replaced. Call [LoadOrCreate] for one that the program can make by itself, or [Read] and [Create].
//
// It keeps a secret from the other users of a machine, and not from whoever is root, or reads its disk.
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
	othersMode = 0o077 // what group and others may do
)

// What can be wrong with a file. ErrNotThere and ErrTooLong stand alone; a [TooOpenError] says how open it is.
var (
	ErrNotThere = errors.New("there is no such file")
	ErrTooLong  = errors.New("it is too long to be what it should be")
)

// A TooOpenError is a file that others than its owner can read or write.
type TooOpenError struct{ Mode fs.FileMode }

func (e *TooOpenError) Error() string { return fmt.Sprintf("others may read it (mode %04o)", e.Mode) }

// ErrUnusable is what LoadOrCreate answers, with a sentence that names the file and the remedy.
var ErrUnusable = fault.New(fault.Invalid, "secret_file", "The file with the secret cannot be used.")

// Read returns what is in the file, at most limit bytes. It judges the file that it has open, so that another cannot be put in its place in
// between. Errors: ErrNotThere, ErrTooLong, a *TooOpenError, and those of package os.
func Read(path string, limit int) ([]byte, error) {
	info, err := os.Stat(path) // before it is opened, which for a pipe would wait for a writer
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, ErrNotThere
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
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

// Create writes data to path, with the folders that are missing, unless there is a file by then, which stays as it is: of several who
// create it at once all read the same afterwards. It is linked to its name when it is complete, and outlasts a power cut then.
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

// syncDir makes a new name in dir outlast a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// LoadOrCreate returns what is in the file, at most limit bytes, and fills it with what make returns where there is none. what names the
// secret at the beginning of a sentence, such as "The service key". All errors but those of make are ErrUnusable.
func LoadOrCreate(path, what string, limit int, make func() ([]byte, error)) ([]byte, error) {
	data, err := Read(path, limit)
	if errors.Is(err, ErrNotThere) {
		var fresh []byte
		if fresh, err = make(); err != nil {
			return nil, err
		}
		if err := Create(path, fresh); err != nil {
			return nil, ErrUnusable.Saying(fmt.Sprintf("%s could not be written to %s. Make that folder writable, or name another file.", what, path)).Because(err)
		}
		// Read back, also where another starter was first: what counts is what everybody will read from now on.
		data, err = Read(path, limit)
	}
	var open *TooOpenError
	switch {
	case err == nil:
		return data, nil
	case errors.As(err, &open):
		return nil, ErrUnusable.Saying(fmt.Sprintf("%s in %s is open to others than its owner (mode %04o). Close it with: chmod 600 %[2]s", what, path, open.Mode))
	}
	return nil, ErrUnusable.Saying(fmt.Sprintf("%s in %s cannot be read. Make it a file that this user may read, or name another.", what, path)).Because(err)
}
