package embedded

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"
)

// leastToBegin is what an empty data folder needs on its disk: streams and buckets with next to
// nothing in them, and what bookings leave free.
const leastToBegin = 96 << 20

// Volume returns how many bytes the disk of the data folder has in all, and how many are free for
// us. known is false on a system where that cannot be learnt.
func (s *Server) Volume() (total, free int64, known bool) { return volume(s.config.Dir) }

// enoughToBegin returns ErrDir where a new data folder would be of no use. What has data is opened
// whatever is left of the disk.
func (s *Server) enoughToBegin() error {
	if _, err := os.Stat(filepath.Join(s.config.Dir, server.JetStreamStoreDir)); err == nil {
		return nil
	}
	_, free, known := s.Volume()
	if !known || free >= leastToBegin {
		return nil
	}
	return ErrDir.Saying(fmt.Sprintf("The disk of the data folder %s has %d MiB free, and a new one needs %d MiB. Free some space, or choose another with --data.",
		s.config.Dir, free>>20, leastToBegin>>20))
}

// advice says what to do about a disk.
func (s *Server) advice() string {
	_, free, known := s.Volume()
	if known && free < 2*trialSize {
		return fmt.Sprintf("It has %d KiB free and needs %d KiB at least: free some space there.", free>>10, 2*trialSize>>10)
	}
	return "See that it is there, and that you may write to it."
}
