package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/secretfile"
)

// Errors about the folder of a backup. Their messages name the folder and the remedy.
var (
	ErrFolder = fault.New(fault.Invalid, "backup_folder", "The folder cannot be used for a backup.")
	// ErrIncomplete reports that there is no manifest. It is written last, so the backup was not
	// finished.
	ErrIncomplete = fault.New(fault.Invalid, "backup_incomplete", "The folder contains no complete backup.")
	// ErrDamaged reports that a file is not as it was written.
	ErrDamaged = fault.New(fault.Invalid, "backup_damaged", "The backup is damaged.")
)

const (
	manifestName    = "manifest.json"
	manifestVersion = 1
	manifestLimit   = 16 << 20
)

// A Manifest describes a backup. It is written after everything else.
type Manifest struct {
	Version int       `json:"version"`
	Pillion string    `json:"pillion"` // the version of the program that made it
	NATS    string    `json:"nats"`    // the version of the server
	Began   time.Time `json:"began"`   // the backup contains every event acknowledged before
	Ended   time.Time `json:"ended"`
	Still   bool      `json:"still"`   // whether nothing was written between Began and Ended
	Streams []Stream  `json:"streams"` // in the order in which they were copied
}

// A Stream is the copy of one stream.
type Stream struct {
	Name string `json:"name"`
	snapshotHeader
	Copy File `json:"copy"`
	// Tail contains what was written to a bucket during its copy, which may lack those keys.
	Tail *File `json:"tail,omitempty"`
	// TailLast is the sequence of the last message of Tail.
	TailLast uint64 `json:"tail_last_seq,omitempty"`
}

// Messages returns the number of messages in the copy.
func (s *Stream) Messages() uint64 { return s.State.Messages }

// Last returns the last sequence of the stream when it was copied, or 0.
func (s *Stream) Last() uint64 { return s.State.Last }

// A File is one file of a backup.
type File struct {
	Name     string `json:"name"`
	Size     int64  `json:"size"`
	SHA256   string `json:"sha256"`
	Messages int    `json:"messages,omitempty"` // of a tail
}

// Stream returns the copy of the stream of that name, or nil.
func (m *Manifest) Stream(name string) *Stream {
	for i := range m.Streams {
		if m.Streams[i].Name == name {
			return &m.Streams[i]
		}
	}
	return nil
}

// A folder is the path of a backup's folder.
type folder string

// makeFolder creates a folder that only its owner can read: a backup contains tokens and password
// hashes. A folder that exists must be empty.
func makeFolder(path string) (folder, error) {
	fail := func(err error) (folder, error) {
		return "", ErrFolder.Sayingf("Cannot make a backup in %s: %s. Choose another folder with --out.",
			path, fault.Reason(err)).Because(err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fail(err)
	}
	there, err := os.ReadDir(path)
	if err != nil {
		return fail(err)
	}
	if len(there) > 0 {
		return fail(errors.New("it is not empty"))
	}
	if err := os.Chmod(path, 0o700); err != nil { //nolint:gosec // folders need the x bit
		return fail(err)
	}
	return folder(path), nil
}

// A fileWriter writes a file, and computes its size and hash.
type fileWriter struct {
	*os.File
	hash io.Writer
	sum  func() string
	size int64
}

// create creates a file.
func (f folder) create(name string) (*fileWriter, error) {
	file, err := os.OpenFile(filepath.Join(string(f), name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	return &fileWriter{File: file, hash: h, sum: func() string { return hex.EncodeToString(h.Sum(nil)) }}, nil
}

// Write implements io.Writer.
func (w *fileWriter) Write(p []byte) (int, error) {
	n, err := w.File.Write(p)
	w.hash.Write(p[:n]) //nolint:errcheck // a hash never fails
	w.size += int64(n)
	return n, err
}

// finish syncs the file to disk and closes it.
func (w *fileWriter) finish(name string) (File, error) {
	if err := errors.Join(w.Sync(), w.Close()); err != nil {
		return File{}, err
	}
	return File{Name: name, Size: w.size, SHA256: w.sum()}, nil
}

// writeManifest writes the manifest atomically.
func (f folder) writeManifest(m Manifest) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return secretfile.Replace(filepath.Join(string(f), manifestName), append(text, '\n'), 0o600)
}

// A Backup is a complete backup whose files have been verified.
type Backup struct {
	Manifest
	folder folder
}

// Open reads the manifest of a backup, and verifies all files against it. Errors: ErrIncomplete,
// ErrDamaged.
func Open(path string) (*Backup, error) {
	b := &Backup{folder: folder(path)}
	file, err := os.Open(filepath.Join(path, manifestName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrIncomplete.Sayingf(
			"%s contains no complete backup: it lacks %s, which is written last. Use another backup, or make a new one.",
			path, manifestName)
	}
	if err != nil {
		return nil, ErrIncomplete.Sayingf(
			"Cannot read the %s in %s: %s.", manifestName, path, fault.Reason(err)).Because(err)
	}
	defer file.Close() //nolint:errcheck // it is only read
	text, err := io.ReadAll(io.LimitReader(file, manifestLimit))
	if err != nil {
		return nil, ErrIncomplete.Sayingf(
			"Cannot read the %s in %s: %s.", manifestName, path, fault.Reason(err)).Because(err)
	}
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return nil, b.damaged(manifestName, err)
	}
	if version.Version != manifestVersion {
		return nil, ErrDamaged.Sayingf(
			"The backup in %s has version %d, and this pillion reads version %d. Use the pillion that made it.",
			path, version.Version, manifestVersion)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&b.Manifest); err != nil {
		return nil, b.damaged(manifestName, err)
	}
	for _, s := range b.Streams {
		for _, f := range s.files() {
			if err := b.check(f); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

func (s *Stream) files() []File {
	if s.Tail == nil {
		return []File{s.Copy}
	}
	return []File{s.Copy, *s.Tail}
}

func (b *Backup) damaged(name string, err error) error {
	return ErrDamaged.Sayingf(
		"%s in the backup in %s is damaged. Use another backup.", name, string(b.folder)).Because(err)
}

// check verifies the size and hash of a file.
func (b *Backup) check(f File) error {
	if f.Name != filepath.Base(f.Name) {
		return b.damaged(manifestName, nil)
	}
	file, err := b.open(f)
	if err != nil {
		return b.damaged(f.Name, err)
	}
	defer file.Close() //nolint:errcheck // it is only read
	h := sha256.New()
	n, err := io.Copy(h, file)
	if err != nil || n != f.Size || hex.EncodeToString(h.Sum(nil)) != f.SHA256 {
		return b.damaged(f.Name, err)
	}
	return nil
}

func (b *Backup) open(f File) (*os.File, error) {
	return os.Open(filepath.Join(string(b.folder), f.Name))
}
