package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/example/pillion/internal/fault"
)

// What can be wrong with a folder. Each says so in a sentence of its own.
var (
	ErrFolder = fault.New(fault.Invalid, "backup_folder", "The folder cannot be used for a backup.")
	// ErrIncomplete is that there is no manifest: it is written last, so the backup has never been finished, or is none.
	ErrIncomplete = fault.New(fault.Invalid, "backup_incomplete", "The folder holds no complete backup.")
	// ErrDamaged is that something in it is not what was written.
	ErrDamaged = fault.New(fault.Invalid, "backup_damaged", "The backup is damaged.")
)

const (
	manifestName    = "manifest.json"
	manifestVersion = 1
	manifestLimit   = 16 << 20
)

// A Manifest says what is in a backup. It is written when all the rest is there.
type Manifest struct {
	Version int       `json:"version"`
	Pillion string    `json:"pillion"` // the version of the program that has made it
	NATS    string    `json:"nats"`    // and that of the server that it is from
	Began   time.Time `json:"began"`   // every event that was acknowledged by then is in it
	Ended   time.Time `json:"ended"`
	Still   bool      `json:"still"`   // whether nothing was written in between
	Streams []Stream  `json:"streams"` // in the order in which they were copied
}

// A Stream is the copy of one stream.
type Stream struct {
	Name string `json:"name"`
	cut
	Copy File `json:"copy"`
	// Tail is what was written to a bucket while it was copied, so that no key is missing whose value was replaced meanwhile.
	Tail *File `json:"tail,omitempty"`
	// TailLast is the sequence of the last message of it.
	TailLast uint64 `json:"tail_last_seq,omitempty"`
}

// Messages returns how many messages the stream had when it was copied.
func (s *Stream) Messages() uint64 { return s.State.Messages }

// Last returns the sequence of its last message then, or 0.
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

// A folder is where a backup is.
type folder string

// makeFolder returns a folder that is there, empty, and nobody else's: a backup holds tokens, and the hashes of passwords.
func makeFolder(path string) (folder, error) {
	say := func(why string, err error) error {
		return ErrFolder.Saying(fmt.Sprintf("%s cannot take a backup: %s. Name another folder with --out.", path, why)).Because(err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", say("it could not be made", err)
	}
	there, err := os.ReadDir(path)
	if err != nil {
		return "", say("it cannot be read", err)
	}
	if len(there) > 0 {
		return "", say("it is not empty", nil)
	}
	if err := os.Chmod(path, 0o700); err != nil { //nolint:gosec // a folder needs the x
		return "", say("it is not yours", err)
	}
	return folder(path), nil
}

// A writing is a file that is being written.
type writing struct {
	*os.File
	hash io.Writer
	sum  func() string
	size int64
}

// create begins a file.
func (f folder) create(name string) (*writing, error) {
	file, err := os.OpenFile(filepath.Join(string(f), name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	return &writing{File: file, hash: h, sum: func() string { return hex.EncodeToString(h.Sum(nil)) }}, nil
}

// Write implements io.Writer.
func (w *writing) Write(p []byte) (int, error) {
	n, err := w.File.Write(p)
	w.hash.Write(p[:n]) //nolint:errcheck // a hash takes all
	w.size += int64(n)
	return n, err
}

// finish puts the file on the disk and closes it.
func (w *writing) finish(name string) (File, error) {
	if err := errors.Join(w.Sync(), w.Close()); err != nil {
		return File{}, err
	}
	return File{Name: name, Size: w.size, SHA256: w.sum()}, nil
}

// seal writes the manifest, there as a whole or not at all.
func (f folder) seal(m Manifest) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	temp := manifestName + ".new"
	w, err := f.create(temp)
	if err != nil {
		return err
	}
	if _, err := w.Write(append(text, '\n')); err != nil {
		return errors.Join(err, w.Close())
	}
	if _, err := w.finish(temp); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(string(f), temp), filepath.Join(string(f), manifestName)); err != nil {
		return err
	}
	dir, err := os.Open(string(f))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// A Backup is one that is whole: every file of it is what was written.
type Backup struct {
	Manifest
	folder folder
}

// Open reads the manifest of a backup, and all of its files to see that they are what the manifest says. Errors: ErrIncomplete, ErrDamaged.
func Open(path string) (*Backup, error) {
	b := &Backup{folder: folder(path)}
	file, err := os.Open(filepath.Join(path, manifestName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrIncomplete.Saying(fmt.Sprintf(
			"%s holds no complete backup: there is no %s, which is written last. Take one that is complete, or make another.", path, manifestName))
	}
	if err != nil {
		return nil, ErrIncomplete.Saying(fmt.Sprintf("The %s in %s cannot be read. See who may.", manifestName, path)).Because(err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(file, manifestLimit))
	if err != nil {
		return nil, ErrIncomplete.Saying(fmt.Sprintf("The %s in %s cannot be read.", manifestName, path)).Because(err)
	}
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return nil, b.damaged(manifestName, err)
	}
	if version.Version != manifestVersion {
		return nil, ErrDamaged.Saying(fmt.Sprintf("The backup in %s is of version %d, and this pillion knows version %d. Use the one that has made it.",
			path, version.Version, manifestVersion))
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
	return ErrDamaged.Saying(fmt.Sprintf("%s in the backup in %s is damaged: it is not what was written. Take another backup.", name, string(b.folder))).Because(err)
}

// check reads a file, to see that it is what the manifest says.
func (b *Backup) check(f File) error {
	if f.Name != filepath.Base(f.Name) {
		return b.damaged(manifestName, nil)
	}
	file, err := b.open(f)
	if err != nil {
		return b.damaged(f.Name, err)
	}
	defer file.Close() //nolint:errcheck // it was only read
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
