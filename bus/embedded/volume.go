package embedded

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"
)

// minSpace is the free disk space that a new data folder needs: for almost empty streams and
// buckets, and for the reserve that bookings never use.
const minSpace = 96 << 20

// Volume returns the size of the data folder's disk, and the free space available to this process,
// in bytes. known is false on systems where they cannot be determined.
func (s *Server) Volume() (total, free int64, known bool) { return volume(s.config.Dir) }

// checkSpace returns ErrDir if the disk is too full for a new data folder. A folder that contains
// data is opened however full the disk is.
func (s *Server) checkSpace() error {
	if _, err := os.Stat(filepath.Join(s.config.Dir, server.JetStreamStoreDir)); err == nil {
		return nil
	}
	_, free, known := s.Volume()
	if !known || free >= minSpace {
		return nil
	}
	return ErrDir.Sayingf("A new data folder needs %d MiB, and the disk of %s has only %d MiB free. "+
		"Free some space, or choose another folder with --data.", minSpace>>20, s.config.Dir, free>>20)
}

// advice returns a sentence about what to do about the disk.
func (s *Server) advice() string {
	_, free, known := s.Volume()
	if known && free < 2*trialSize {
		return fmt.Sprintf("It has %d KiB free and needs at least %d KiB. Free some space.", free>>10, 2*trialSize>>10)
	}
	return "Check that it exists and is writable."
}
