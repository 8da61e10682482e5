package embedded

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/retry"
)

// After a failed write to disk, NATS rejects all further writes to the stream, and sometimes to all
// of JetStream, because its memory may differ from the disk. Only a restart helps. See
// docs/adr/0021.
const (
	healthEvery = time.Second
	// mendPause is the pause between attempts to write to the disk. If a write fails again within
	// mendGood after a restart, the next pause is twice as long, up to mendPauseMost.
	mendPause     = time.Second
	mendPauseMost = 5 * time.Second
	mendGood      = 30 * time.Second
	// trialSize is how much must fit on the disk before a restart is attempted: more than a block
	// of a stream.
	trialSize = 1 << 20
)

// ErrDisk reports that the streams cannot be written to at the moment. Its message tells operators
// why.
var ErrDisk = fault.New(fault.Unavailable, "disk_failed",
	"Cannot write to the disk. Free some space or repair the disk; the system recovers by itself.").
	After(2 * time.Second)

// Ready returns ErrDisk after a failed write to disk, until the server has been restarted.
func (s *Server) Ready(context.Context) error {
	if err := s.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// mend restarts the server after failed writes, until ctx ends.
func (s *Server) mend(ctx context.Context) {
	defer close(s.done)
	pause := mendPause
	var mended time.Time
	for retry.Sleep(ctx, healthEvery) {
		why := s.failed()
		if why == nil {
			continue
		}
		if pause = min(2*pause, mendPauseMost); time.Since(mended) > mendGood {
			pause = mendPause
		}
		for why != nil {
			s.breaks(why)
			if !retry.Sleep(ctx, pause) {
				return
			}
			if why = s.try(); why == nil {
				why = s.reopen()
			}
		}
		mended = time.Now()
		s.broken.Store(nil)
		s.config.Log.Info("restarted NATS after a failed write; it can write to the disk again")
	}
}

// breaks records why the server cannot write, and logs it once.
func (s *Server) breaks(why error) {
	err := error(ErrDisk.Sayingf(
		"Cannot write to the disk of %s: %v. %s", s.config.Dir, why, s.advice()).Because(why))
	if s.broken.Swap(&err) == nil {
		s.config.Log.Error("NATS failed to write to the disk; it restarts when the disk is writable again", "error",
			why)
	}
}

// failed returns the failed write that the server reports, or nil.
func (s *Server) failed() error {
	for _, e := range s.health() {
		if e.Type == server.HealthzErrorJetStream || strings.Contains(e.Error, "write error") {
			return errors.New(e.Error)
		}
	}
	return nil
}

func (s *Server) health() []server.HealthzError {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.srv.Healthz(&server.HealthzOptions{Details: true}).Errors
}

// reopen restarts the server. Clients reconnect by themselves.
func (s *Server) reopen() error {
	s.close()
	if err := s.open(); err != nil {
		return err
	}
	return s.failed()
}

// try writes as much to the disk as a stream would.
func (s *Server) try() (err error) {
	f, err := os.Create(filepath.Join(s.config.Dir, "trial"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if _, err := f.Write(make([]byte, trialSize)); err != nil {
		return err
	}
	return f.Sync()
}

// intact returns ErrData if the server could not open some of the data, such as that of an older or
// newer Pillion. The server itself would ignore such data, and the system would seem to be empty.
func (s *Server) intact() error {
	var what []string
	for _, e := range s.health() {
		what = append(what, e.Error)
	}
	if what == nil {
		return nil
	}
	return ErrData.Sayingf("The data in %s cannot be opened: %s. Nothing was changed. Use the version of "+
		"Pillion that wrote it, restore a backup, or choose another folder with --data.",
		s.config.Dir, strings.Join(what, "; "))
}
